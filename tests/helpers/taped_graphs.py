"""A CUDA graph's twin on a CPU: operators on a tape, which are repeated on the same tensors; nothing of Python is."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qsdt_mm.inference import capturing, graphs


class Tape(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, out in self.calls:
            with torch.autocast('cpu', enabled=False):  # what is on the tape has been cast
                again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class TapeRecorder:
    """As :class:`qsdt_mm.inference.capturing.CudaRecorder`, for a CPU."""

    def __init__(self, device):
        self.device, self.captures, self.replays, self.waits, self.free = device, 0, 0, 0, True
        self.replays_back = 0

    def is_free(self):
        return self.free

    def capture(self, run, inputs):
        run()
        with capturing.NothingWaits(self.device):
            run()
        with Tape() as tape:
            outputs = run()
        self.captures += 1
        for leaf in tree_leaves(outputs):  # a capture computes nothing
            if isinstance(leaf, torch.Tensor):
                leaf.fill_(float('nan') if leaf.is_floating_point() else 0)
        return capturing.Captured(tape, inputs, outputs, [])

    def capture_step(self, run, inputs, parameters):
        sources = [*inputs, *parameters]
        capturing.gradients(run(), sources)
        with capturing.NothingWaits(self.device):
            capturing.gradients(run(), sources)
        with Tape() as forward:
            outputs = run()
        grads = [torch.zeros_like(end) for end in capturing.differentiable(outputs)]
        with Tape() as backward:
            found = capturing.gradients(outputs, sources, grads)
        self.captures += 1
        for leaf in tree_leaves((outputs, found)):  # a capture computes nothing
            if isinstance(leaf, torch.Tensor):
                leaf.detach().fill_(float('nan') if leaf.is_floating_point() else 0)
        return capturing.CapturedStep(forward, inputs, outputs, [], backward, grads, found)

    def replay_backward(self, captured, grads):
        capturing.fill(captured.grads, grads)
        captured.backward.replay()
        self.replays_back += 1
        return captured.found

    def replay(self, captured, inputs, take):
        capturing.fill(captured.inputs, inputs)
        captured.graph.replay()
        self.replays += 1
        return take(captured.outputs)

    def wait(self):
        self.waits += 1


def record_tapes(monkeypatch):
    """Have tapes in the place of graphs, and return all recorders that are made, in the order."""
    made = []
    monkeypatch.setattr(capturing, 'recorder_for', lambda device: made.append(TapeRecorder(device)) or made[-1])
    monkeypatch.setattr(graphs, '_told', set())
    return made


def listen(monkeypatch):
    """Return what is told from now on."""
    seen = []
    monkeypatch.setattr(graphs, 'print_log', lambda message, logger: seen.append(message))
    monkeypatch.setattr(graphs, '_told', set())
    return seen
