"""Averages and extrapolations of denoised estimates in frequency bands, and the weights that match the spread of data."""

from drl_density.samplers.averages.frequency_average import (
    AveragedDenoiser,
    FrequencyAverage,
    moving_average,
    sample_averaged,
)
from drl_density.samplers.averages.matching import calibrated_average, final_spread, matched_average
from drl_density.samplers.averages.transforms import cosine_axes, haar_axes

__all__ = [
    "AveragedDenoiser",
    "FrequencyAverage",
    "calibrated_average",
    "cosine_axes",
    "final_spread",
    "haar_axes",
    "matched_average",
    "moving_average",
    "sample_averaged",
]
