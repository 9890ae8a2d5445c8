"""A trained network carried out: whole-number steps with the same bits in every runtime."""

from .plan import Plan, plan

__all__ = ['Plan', 'plan']
