"""What surrounds a training run: hooks, checkpoints, checks of the configuration, and the shell of the tools.

Nothing here knows a task library: torch and mmengine are enough.
"""
