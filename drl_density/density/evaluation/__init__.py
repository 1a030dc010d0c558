"""How good a fitted density is: likelihoods, comparisons, chain diagnoses, outliers and their pages."""
