"""One file each: a vertical is one aspect of trust. The file's name is its name."""
