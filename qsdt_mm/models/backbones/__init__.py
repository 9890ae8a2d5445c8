"""Backbones."""

from .spike_driven_transformer import SpikeDrivenTransformer

__all__ = ['SpikeDrivenTransformer']
