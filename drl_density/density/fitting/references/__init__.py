"""References of special data: of images, pixel by pixel, and of columns with frequent single values."""

from drl_density.density.fitting.references.atoms import atom_cells
from drl_density.density.fitting.references.pixels import choose_pixels

__all__ = ["atom_cells", "choose_pixels"]
