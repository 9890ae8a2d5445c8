"""Kernels in Triton for what a GPU would otherwise run as many small operations: neurons and the LSQ quantizer.

Each gives the values that the plain functions give on a CPU. ``dispatch.find`` chooses them, never a user, and Triton
is imported when a tensor on a GPU first asks.
"""
