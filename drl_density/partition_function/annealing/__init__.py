"""Annealed importance sampling: paths, plans, runs forwards and backwards, and runs spread over processes."""
