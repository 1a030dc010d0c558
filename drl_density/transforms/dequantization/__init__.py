"""Noise inside the cells of rounded values: uniform, and of a learned density."""
