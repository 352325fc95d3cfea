"""Figures of the benchmarks, equal to their official code."""
