"""Grids of the values of a column, and atoms: single values that many rows share."""
