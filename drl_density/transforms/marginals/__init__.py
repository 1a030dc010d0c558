"""Densities of single columns: mixtures in a coordinate, histograms of closed supports, and spikes at frequent values."""

from drl_density.transforms.marginals.histogram import Histogram, fit_histogram
from drl_density.transforms.marginals.mixtures import COORDINATES, Marginals, true_places
from drl_density.transforms.marginals.spikes import Spikes, frequent_values

__all__ = ["COORDINATES", "Histogram", "Marginals", "Spikes", "fit_histogram", "frequent_values", "true_places"]
