"""Objectives over paths of noise levels from a base: scores, increments, and particles of the cleanest level."""
