"""A distilled classifier: what it learns, and that its teacher stays outside."""

import copy

import pytest
import torch

pytest.importorskip('mmpretrain')

from mmengine.registry import MODELS, DefaultScope  # noqa: E402
from mmpretrain.structures import DataSample  # noqa: E402

import qsdt_mm  # noqa: E402, F401
from qsdt_mm.errors import CheckpointError  # noqa: E402

ARCH = dict(family='qsd', widths=(4, 4, 8, 16, 16), depths=(0, 1, 1, 1, 1), num_heads=2, layer_scale=0.1)
FGD = dict(type='FineGrainedDistillation', weight=1.0)
HARD = dict(type='HardLogitDistillation', weight=0.5)
SOFT = dict(type='SoftLogitDistillation', weight=0.5, temperature=2.0)


def config(head='SpikeLinearClsHead', **backbone):
    return dict(
        type='SpikeImageClassifier',
        backbone=dict(type='SpikeDrivenTransformer', arch=ARCH, **backbone),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type=head, num_classes=3, in_channels=16, loss=dict(type='CrossEntropyLoss')),
    )


def build(settings):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(settings)
        model.init_weights()
    return model


@pytest.fixture
def teacher(tmp_path):
    """Config and weights of the conventional counterpart."""
    settings = config(neuron=dict(type='ReLU'), weight_bits=32)
    torch.save(dict(state_dict=build(settings).state_dict()), tmp_path / 'teacher.pth')
    return dict(settings, checkpoint=str(tmp_path / 'teacher.pth'))


def distilled(teacher, *losses, head='SpikeLinearClsHead', label_weight=1.0, **backbone):
    settings = dict(config(head, **backbone), type='DistilledClassifier')
    return build(dict(settings, teacher=teacher, distillation=list(losses), label_weight=label_weight))


def batch(n=4):
    samples = [DataSample().set_gt_label(i % 3) for i in range(n)]
    return torch.randn(n, 3, 64, 64), samples


def test_losses_add_up(teacher):
    model = distilled(teacher, HARD, SOFT, FGD, label_weight=0.5).train()
    images, samples = batch()
    state = copy.deepcopy(model.state_dict())
    losses = model.loss(images, samples)
    assert set(losses) == {'loss', 'loss_hard', 'loss_soft', 'loss_fgd'}
    assert all(torch.isfinite(value) and value > 0 for value in losses.values())
    plain = build(config()).train()
    plain.load_state_dict(state)
    torch.testing.assert_close(losses['loss'], 0.5 * plain.loss(images, samples)['loss'])
    sum(losses.values()).backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert model.backbone.stages[4].blocks[0][0].branch.query.synapse[0].weight.grad.any()


def test_the_teacher_stays_outside(teacher):
    model = distilled(teacher, HARD).train()
    inside = model.teacher
    assert not inside.training and not any(p.requires_grad for p in inside.parameters())
    mine = {id(p) for p in model.parameters()}
    assert not mine & {id(p) for p in inside.parameters()}
    assert model.state_dict().keys() == build(config()).state_dict().keys()
    before = {k: v.clone() for k, v in inside.state_dict().items()}
    model.loss(*batch())
    assert all(torch.equal(v, before[k]) for k, v in inside.state_dict().items())  # norms have seen nothing
    assert copy.deepcopy(model).teacher is inside
    model.eval()
    assert len(model.predict(torch.randn(2, 3, 64, 64), [DataSample(), DataSample()])) == 2


def test_testing_needs_no_teacher(teacher):
    settings = dict(config(), type='DistilledClassifier', distillation=[HARD])
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(settings, teacher=dict(teacher, checkpoint='absent.pth'))).eval()
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 3)


def test_two_heads_share_the_work(teacher):
    model = distilled(teacher, HARD, head='SpikeTwoHeadClsHead').train()
    images, samples = batch()
    losses = model.loss(images, samples)
    losses['loss'].backward(retain_graph=True)
    assert model.head.fc.synapse.bias.grad.any() and model.head.fc_dist.synapse.bias.grad is None
    losses['loss_hard'].backward()
    assert model.head.fc_dist.synapse.bias.grad.any()


def test_checkpointing_changes_nothing(teacher):
    images, samples = batch(2)
    grads, state = [], None
    for with_cp in (False, True):
        model = distilled(teacher, FGD, with_cp=with_cp).train()
        state = state or model.state_dict()
        model.load_state_dict(copy.deepcopy(state) if with_cp else state)
        state = copy.deepcopy(model.state_dict())
        sum(model.loss(images, samples).values()).backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, value in grads[0].items():
        torch.testing.assert_close(value, grads[1][name])


def test_a_teacher_of_timm():
    teacher = dict(type='TimmClassifier', model_name='resnet10t', num_classes=3, pretrained=False)
    settings = dict(config(), type='DistilledClassifier', teacher=teacher, distillation=[SOFT])
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(settings)
        with pytest.raises(CheckpointError, match=r'the teacher has no weights: give teacher\.checkpoint a file'):
            model.init_weights()


def test_a_teacher_of_timm_with_weights(tmp_path):
    teacher = dict(type='TimmClassifier', model_name='resnet10t', num_classes=3, pretrained=False)
    torch.save(build(teacher).state_dict(), tmp_path / 't.pth')
    model = distilled(dict(teacher, checkpoint=str(tmp_path / 't.pth')), SOFT)
    assert model.loss(*batch())['loss_soft'] > 0


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (dict(label_weight=-1), 'label_weight=-1 is not allowed'),
        (dict(distillation=[]), r'distillation=\[\] is not allowed'),
        (dict(distillation=[dict(type='Nothing')]), "distillation.type='Nothing' is not allowed: expected one of Hard"),
    ],
)
def test_bad_arguments(teacher, change, said):
    settings = dict(config(), type='DistilledClassifier', teacher=teacher, distillation=[HARD])
    with pytest.raises(ValueError, match=said):
        build({**settings, **change})


def test_weights_that_do_not_fit_the_teacher(teacher, tmp_path):
    torch.save(dict(state_dict={'x': torch.ones(1)}), tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match=r'teacher\.checkpoint .*other\.pth does not fit the teacher: '):
        distilled(dict(teacher, checkpoint=str(tmp_path / 'other.pth')), HARD)


def test_teacher_and_losses_are_no_part_of_the_network_at_inference(teacher):
    from qsdt_mm.analysis import audit
    from qsdt_mm.inference import convert

    model = distilled(teacher, HARD, SOFT, FGD).train()
    model.loss(*batch())  # builds the teacher
    names = {row.name for row in audit(model) if row.driven_by != 'floats'}
    assert len(names) == len(audit(model)) == len(audit(build(config())))
    converted = convert(model, 'spike', require_spikes=True, run=lambda network: network(torch.randn(1, 3, 64, 64)))
    assert converted.float_share.outside == ()
    stock = build(config('LinearClsHead'))
    with pytest.raises(ValueError, match=r'1 of \d+ layers is outside units and stays in floats \(head.fc\)'):
        convert(stock, 'spike', require_spikes=True)


def test_a_packed_folder_holds_the_student_alone(teacher, tmp_path):
    settings = dict(config('SpikeTwoHeadClsHead'), type='DistilledClassifier', distillation=[HARD])
    settings['teacher'] = dict(teacher, checkpoint='absent.pth')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(settings).eval()
    qsdt_mm.save_pretrained(model, tmp_path / 'net', config=dict(model=settings, default_scope='mmpretrain'))
    student = qsdt_mm.from_pretrained(tmp_path / 'net')
    assert type(student).__name__ == 'SpikeImageClassifier'
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(student(images), model(images))
