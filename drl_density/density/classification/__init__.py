"""Densities of the rows of every label, and classification by Bayes' rule."""
