"""Readers of event files as cameras and data sets hold them: told apart by content, streamed in blocks, checked."""
