"""What every frozen record shares: the check of its literal values, and a short text for tensors and networks."""
