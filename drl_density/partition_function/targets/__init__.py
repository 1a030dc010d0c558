"""Targets without noise levels, and what every later stage sees of them: flat points over all reals, in float64."""
