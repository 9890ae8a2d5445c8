"""What merges the views of test-time augmentation; each module needs its own task library."""
