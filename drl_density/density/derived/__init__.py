"""New objects and draws made from fitted densities."""
