"""Images that are made pixel by pixel under an autoregressive density, as by draws or by a particle filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from drl_density.bases.autoregressive.settings import PixelSettings


class StepwiseDensity(Protocol):
    """What :class:`PixelSteps` needs of a density."""

    settings: PixelSettings
    order: Tensor

    def logits(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Logits of the grey levels of one value of each image."""
        ...


class PixelSteps:
    """Images whose values are set one by one, in the order of an autoregressive density.

    The network reads nothing but grey levels that are set, so those are all that is kept. A step costs one pass of the
    network for each image, and an image as much as its log density.

    Args:
        base: density of the images.
        num_images: number n of images.

    Attributes:
        position: number of values that are set in every image.

    >>> from drl_density.bases import AutoregressivePixels, PixelSettings
    >>> steps = AutoregressivePixels(PixelSettings((1, 2, 2), num_cells=3, width=8)).steps(2)
    >>> while not steps.is_complete:
    ...     steps.advance(steps.log_probabilities().argmax(1))
    >>> steps.cells.shape
    torch.Size([2, 4])
    """

    def __init__(self, base: StepwiseDensity, num_images: int) -> None:
        settings = base.settings
        self.base, self.position = base, 0
        shape = (num_images, settings.num_features + 1)
        self._tokens = torch.full(shape, settings.num_cells, dtype=torch.int16, device=base.order.device)

    @property
    def is_complete(self) -> bool:
        """Whether all values are set."""
        return self.position == self.base.settings.num_features

    @property
    def place(self) -> int:
        """Flat index of the value that is set next.

        Raises:
            IndexError: all values are set.
        """
        return int(self.base.order[self.position])

    @property
    def cells(self) -> Tensor:
        """Grey levels ``(n, d)``, from 0; ``num_cells`` where no value is set yet."""
        return self._tokens[:, :-1].long()

    def log_probabilities(self) -> Tensor:
        """Log probability of every grey level of the next value, given those that are set, ``(n, num_cells)``, float64.

        Raises:
            IndexError: all values are set.
        """
        places = torch.full((len(self._tokens),), self.place, device=self._tokens.device)
        with torch.no_grad():
            return self.base.logits(self._tokens, places).double().log_softmax(1)

    def advance(self, cells: Tensor) -> None:
        """Set the next value of every image.

        Args:
            cells: grey levels ``(n,)``, from 0.

        Raises:
            ValueError: grey levels of another shape, or outside the grid.
            IndexError: all values are set.
        """
        most, place = self.base.settings.num_cells - 1, self.place
        if cells.shape != self._tokens.shape[:1] or bool(((cells < 0) | (cells > most)).any()):
            raise ValueError(
                f"expected {len(self._tokens)} grey levels from 0 to {most}, got shape {tuple(cells.shape)} with values "
                f"from {cells.min().item() if cells.numel() else None} to {cells.max().item() if cells.numel() else None}"
            )
        self._tokens[:, place] = cells.to(self._tokens)
        self.position += 1

    def select(self, indices: Tensor) -> PixelSteps:
        """Take some of the images, as after resampling; both objects can then continue apart.

        Args:
            indices: indices of images ``(m,)``, which may repeat.
        """
        other = PixelSteps(self.base, 0)
        other.position, other._tokens = self.position, self._tokens[indices.to(self._tokens.device)]
        return other
