"""Methods that learn from pictures and sound together."""
