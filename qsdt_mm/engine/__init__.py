"""Surroundings of a training run: hooks, checkpoints, compilation, processes and the runner.

Nothing here knows a task library: torch and mmengine are enough.
"""
