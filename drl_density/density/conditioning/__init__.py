"""Some columns given others: conditionals, marginals, imputations and predictions."""
