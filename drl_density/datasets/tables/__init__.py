"""Tables from files, streams and memory: how they are read, what a cell means, and how they are written."""
