"""One file each: a backend runs the model of an evaluation. The file's name is its name."""
