"""Lists and archives that others made: what they name, and what of it is believed."""
