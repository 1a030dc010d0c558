"""Two-sided intervals of log Z: walks in both directions, the estimates they give, and a verdict on them."""
