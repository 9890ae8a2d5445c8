"""Files: loaded as data, written whole or not at all."""
