"""Data sets; each module needs the task library that it serves, and is imported when a config names its class."""
