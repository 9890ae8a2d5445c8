"""Distillation losses against their formulas, written plainly."""

import math

import pytest
import torch

from qsdt_mm.models.distillation.losses import (
    FineGrainedDistillation,
    HardLogitDistillation,
    SoftLogitDistillation,
    View,
    match,
    similarity,
)


def tokens(n=2, heads=2, channels=3, length=9):
    return tuple(torch.randn(n, heads, channels, length, requires_grad=True) for _ in range(3))


def test_hard():
    student, teacher = torch.randn(4, 5), torch.randn(4, 5)
    wanted = -student.log_softmax(1)[range(4), teacher.argmax(1)].mean()
    torch.testing.assert_close(HardLogitDistillation(0.5)(View(student, []), View(teacher, [])), 0.5 * wanted)


@pytest.mark.parametrize('temperature', [1.0, 3.0])
def test_soft(temperature):
    student, teacher = torch.randn(4, 5), torch.randn(4, 5)
    p, q = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
    wanted = temperature**2 * (p * (p / q).log()).sum(1).mean()
    loss = SoftLogitDistillation(2.0, temperature)
    torch.testing.assert_close(loss(View(student, []), View(teacher, [])), 2 * wanted)
    assert loss(View(student, []), View(student, [])).abs() < 1e-6


def plain_fgd(student, teacher):
    total = 0.0
    for ours, theirs in zip(student, teacher):
        for a, b in zip(ours, theirs):
            for image in range(len(a)):
                for head in range(a.shape[1]):
                    matrices = []
                    for x in (a[image, head], b[image, head]):
                        gram = x.T @ x
                        matrices.append(gram / math.sqrt((gram**2).sum()))
                    total += ((matrices[0] - matrices[1]) ** 2).sum() / (len(a) * a.shape[1])
    return total / len(student)


def test_fine_grained():
    student, teacher = [tokens(), tokens()], [tokens(channels=5), tokens(channels=5)]
    loss = FineGrainedDistillation(1.0)
    value = loss(View(torch.zeros(2, 3), student), View(torch.zeros(2, 3), teacher))
    torch.testing.assert_close(value, plain_fgd(student, teacher))
    assert loss(View(None, student), View(None, student)) == 0
    value.backward()
    assert all(x.grad.abs().sum() > 0 for block in student for x in block)


def test_similarity_ignores_scale_and_survives_silence():
    x = torch.randn(2, 2, 3, 9)
    torch.testing.assert_close(similarity(x), similarity(7 * x))
    torch.testing.assert_close(torch.linalg.matrix_norm(similarity(x)), torch.ones(2, 2))
    silent = torch.zeros(1, 1, 3, 4, requires_grad=True)
    similarity(silent).sum().backward()
    assert torch.isfinite(silent.grad).all()


def test_another_square_grid_is_resampled():
    ramp = torch.arange(4.0).repeat_interleave(2).repeat(1, 1, 4, 1).flatten(2).unsqueeze(2)[..., :16]
    assert match(torch.randn(1, 2, 3, 16), torch.randn(1, 2, 3, 9)).shape == (1, 2, 3, 9)
    assert torch.equal(match(ramp, ramp), ramp)
    constant = torch.full((1, 1, 2, 16), 3.0)
    torch.testing.assert_close(match(constant, torch.zeros(1, 1, 2, 4)), torch.full((1, 1, 2, 4), 3.0))


@pytest.mark.parametrize(
    ('student', 'teacher', 'said'),
    [
        ([tokens()], [], 'attentions of the teacher=0 is not allowed: expected 1'),
        ([], [], 'attentions of the teacher=0'),
        ([tokens(heads=2)], [tokens(heads=4)], "heads of the teacher=4 is not allowed: expected 2, the student's"),
        ([tokens(length=9)], [tokens(length=8)], 'tokens of the teacher=8'),
    ],
)
def test_what_cannot_be_compared_is_one_line(student, teacher, said):
    with pytest.raises(ValueError, match=said):
        FineGrainedDistillation()(View(None, student), View(None, teacher))


@pytest.mark.parametrize('kind', [HardLogitDistillation, SoftLogitDistillation, FineGrainedDistillation])
def test_weights_are_positive(kind):
    with pytest.raises(ValueError, match='weight=0 is not allowed'):
        kind(0)
