"""log Z of targets where it is known: how often the sandwich is right, and what other packages say of the same targets."""
