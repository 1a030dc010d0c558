"""References of special data: of images, pixel by pixel."""

from drl_density.density.fitting.references.pixels import choose_pixels

__all__ = ["choose_pixels"]
