"""Small tables in folds: a reference of all rows, and the average of tilts that each stopped on its own rows."""
