"""Feature pyramids; each module needs the task library that it builds on."""
