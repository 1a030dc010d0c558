"""Runs in folders: finished densities, fits in progress, and the rows of a fit loaded again."""
