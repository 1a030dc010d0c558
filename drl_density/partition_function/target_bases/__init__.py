"""Normalised bases fitted to draws of a target without levels, and the kernel that uses them."""
