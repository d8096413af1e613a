"""One file each: a scorer gives a text a number in [0, 1], higher is worse. The file's name is its name."""
