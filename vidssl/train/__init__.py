"""What one training is made of."""
