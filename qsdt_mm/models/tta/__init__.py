"""Merging of views in test-time augmentation; each module needs its own task library."""
