"""The sandwich of sequences in many dimensions: path weights with resampling, the estimates they give, and a verdict."""
