"""The commands of `vidssl`, one file each; the signature of a command's function is its list of options."""
