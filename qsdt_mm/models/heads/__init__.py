"""What tasks add on top of backbones; each module needs its own task library."""
