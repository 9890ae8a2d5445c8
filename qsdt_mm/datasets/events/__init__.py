"""Data of event cameras."""
