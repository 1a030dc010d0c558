"""Autoregressive densities of images: every grey level by a network of the pixels before it."""

from drl_density.bases.autoregressive.pixels import AutoregressivePixels
from drl_density.bases.autoregressive.settings import PixelSettings, image_shape
from drl_density.bases.autoregressive.steps import PixelSteps

__all__ = ["AutoregressivePixels", "PixelSettings", "PixelSteps", "image_shape"]
