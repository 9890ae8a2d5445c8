"""Mixed precision where there is no GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """An :class:`OptimWrapper` that runs the forward pass under bfloat16 autocast on the CPU.

    bfloat16 has float32's range, so no loss scaling is needed. mmengine's ``AmpOptimWrapper`` needs a GPU.

    Args:
        **kwargs: As for :class:`OptimWrapper`.

    >>> model = torch.nn.Linear(4, 2)
    >>> wrapper = CpuAmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    >>> with wrapper.optim_context(model):
    ...     model(torch.ones(1, 4)).dtype
    torch.bfloat16
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        """Run the forward pass under autocast, within what the base class arranges for gradient accumulation."""
        with super().optim_context(model), torch.autocast('cpu', dtype=torch.bfloat16):
            yield
