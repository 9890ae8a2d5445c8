"""Kernels in Triton for neurons and the LSQ quantizer, in place of many small operations on a GPU.

Each gives the values that the plain functions give on a CPU. ``dispatch.find`` chooses them, never a user, and Triton
is imported when a tensor on a GPU first asks.
"""
