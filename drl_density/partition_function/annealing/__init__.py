"""Annealed importance sampling: paths, plans, runs in both directions, and runs spread over processes."""
