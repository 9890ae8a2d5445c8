"""The shell that the command-line tools share."""
