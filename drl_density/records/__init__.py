"""What every frozen record shares: the check of its values, and a short text for tensors and networks."""
