"""Heads of tasks, to be put on backbones; each module needs its own task library."""
