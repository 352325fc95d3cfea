"""One file to frames and sound at the times asked for."""
