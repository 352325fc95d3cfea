"""Measuring what a frozen encoder learned: label propagation on DAVIS and on a user's own video."""
