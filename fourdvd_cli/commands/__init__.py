"""The commands, one file each: a signature and one library call."""
