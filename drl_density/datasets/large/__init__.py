"""Tables larger than memory: statistics and uniform samples of rows from passes over the file."""
