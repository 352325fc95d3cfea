"""What pixels are turned into: classes of colour, depth as colour, figures of likeness."""
