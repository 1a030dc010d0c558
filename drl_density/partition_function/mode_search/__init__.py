"""A search for the modes of a target without levels, and how far it would have seen."""
