"""How a density is fitted, from settings and a table to the finished object."""
