"""Autoregressive densities of images, exact over the grey levels of pixels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from drl_density.bases.autoregressive.network import PixelNetwork
from drl_density.bases.autoregressive.settings import PixelSettings
from drl_density.bases.autoregressive.steps import PixelSteps
from drl_density.bases.contract import Base, Tail
from drl_density.devices import uniform_draws
from drl_density.transforms.grid_histograms import GridHistograms, GridMarginals

MOST_NUMBERS = 2**21
"""Numbers in the largest temporary value of a pass, 8 MiB in float32: images pass in parts of this size."""

MOST_DRAWN = 1024
"""Images that are drawn at once."""


class AutoregressivePixels(Base):
    r"""A normalised autoregressive density of images that starts from the histograms of their pixels; it has no noised form.

    Pixel i of model space is N(0, 1) under the histogram :math:`P_i` of its K grey levels, as
    :class:`~drl_density.transforms.GridHistograms` maps it. With the grey level :math:`v_i` whose cell holds :math:`u_i`,

    .. math:: \log p(u) = \sum_i \big[\log \mathcal{N}(u_i; 0, 1) - \log P_i(v_i) + \log P(v_i \mid v_{<i})\big]

    where :math:`v_{<i}` are the pixels before i, row by row. The density integrates to 1, and is even inside a cell
    under the histogram. After the map to grey levels, its likelihood is the probability of the grey levels themselves.

    :math:`P(v \mid v_{<i})` is a softmax of :math:`\log P_i(v) + h_i^\top e_v`. A network computes :math:`h_i` from the
    place of the pixel and from earlier pixels in a few windows around it. A new density is that of independent pixels.

    There are no trainable parameters; the weights are float32 buffers, which
    :func:`~drl_density.bases.fitting.fit_autoregressive_pixels` fits.

    Args:
        settings: sizes of the images and of the network.
        log_shares: log probability of every grey level of every pixel, ``(d, num_cells)``; even shares when not given.
        generator: source of the initial weights.

    Raises:
        ValueError: log shares of another shape.

    Source: Larochelle and Murray 2011 (NADE); van den Oord et al. 2016, "Pixel recurrent neural networks".

    >>> base = AutoregressivePixels(PixelSettings((1, 2, 2), num_cells=3, width=8))
    >>> base.log_prob(torch.zeros(1, 4)).round(decimals=4)  # independent pixels: four times log N(0; 0, 1)
    tensor([-3.6758])
    >>> base.sample(5).shape
    torch.Size([5, 4])
    """

    kind = "autoregressive_pixels"
    has_noised_form = False
    has_quick_draws = False

    log_shares: Tensor
    edges: Tensor
    order: Tensor
    neighbours: Tensor

    def __init__(
        self,
        settings: PixelSettings,
        log_shares: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        shape = (settings.num_features, settings.num_cells)
        shares = torch.full(shape, -math.log(shape[1])) if log_shares is None else log_shares
        if shares.shape != shape:
            raise ValueError(f"expected log shares {shape} of every value of every pixel, got {tuple(shares.shape)}")
        self.settings = settings
        self.network = PixelNetwork(settings, generator=generator)
        self.register_buffer("log_shares", shares.double())
        self.register_buffer("edges", self._edges())
        self.register_buffer("order", settings.order(), persistent=False)
        self.register_buffer("neighbours", settings.neighbours(), persistent=False)

    @property
    def num_features(self) -> int:
        """Number d of values of an image."""
        return self.settings.num_features

    @property
    def tail(self) -> Tail:
        """Quadratic decay, with covariance I."""
        return Tail.QUADRATIC

    def weights(self) -> Iterator[Tensor]:
        """Iterate over the weights of the network."""
        return iter(self.network.state_dict(keep_vars=True).values())

    def to_state(self) -> dict[str, Any]:
        """Plain values: the sizes."""
        sizes = dataclasses.asdict(self.settings)
        return {"kind": self.kind, **sizes, "shape": list(sizes["shape"])}

    @classmethod
    def from_state(cls, values: dict[str, Any]) -> Self:
        """Build a density of the sizes in ``values``, whose histograms and weights wait for ``load_state_dict``."""
        sizes = {name: value for name, value in values.items() if name != "kind"}
        return cls(PixelSettings(**{**sizes, "shape": tuple(sizes["shape"])}), generator=torch.Generator())

    def cells(self, u: Tensor) -> Tensor:
        """Grey levels ``(n, d)``, from 0, of the cells that hold the values ``u`` ``(n, *event)`` of model space."""
        flat = u.detach().flatten(1).T.to(self.edges).contiguous()
        return torch.searchsorted(self.edges, flat).T

    def tokens(self, cells: Tensor) -> Tensor:
        """Grey levels with one more column, ``(n, d + 1)``, which stands for what lies outside the image.

        Args:
            cells: grey levels ``(n, d)``, from 0.
        """
        return functional.pad(cells.to(torch.int16), (0, 1), value=self.settings.num_cells)

    def logits(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Logits of the grey levels of one value of each image, ``(n, num_cells)``.

        Args:
            tokens: grey levels from :meth:`tokens`; those that are not earlier than the value are not read.
            places: flat index of the value in each image, ``(n,)``.
        """
        return self._logits(tokens.gather(1, self.neighbours[places]), places)

    def logits_of(
        self, cells: Tensor, rows: Tensor, places: Tensor, drop: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Logits of the grey levels of some values of images, ``(k, num_cells)``; whole images are not copied.

        Args:
            cells: grey levels ``(n, d)``, from 0.
            rows: image of each value, ``(k,)``.
            places: flat index of each value in its image, ``(k,)``.
            drop: function of the hidden units of every layer that leaves some of them out.
        """
        near = self.neighbours[places]
        is_outside = near == self.num_features
        levels = cells.flatten()[torch.where(is_outside, 0, near) + rows[:, None] * self.num_features]
        return self._logits(torch.where(is_outside, self.settings.num_cells, levels.int()), places, drop)

    def cell_log_probabilities(self, cells: Tensor) -> Tensor:
        r"""Log probability :math:`\log P(v_i \mid v_{<i})` of every grey level of images, in nats, ``(n, d)``, float64.

        Args:
            cells: grey levels ``(n, d)``, from 0.
        """
        settings = self.settings
        each = settings.num_features * max(settings.num_cells, self.network.num_inputs)
        places = torch.arange(settings.num_features, device=cells.device)
        found = []
        for part in cells.split(max(1, MOST_NUMBERS // each)):
            read = self.tokens(part)[:, self.neighbours].flatten(0, 1)
            logits = self._logits(read, places.repeat(len(part)))
            loss = functional.cross_entropy(logits, part.flatten(), reduction="none")
            found.append(-loss.double().reshape(part.shape))
        return torch.cat(found) if found else torch.zeros_like(cells, dtype=torch.float64)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``x`` ``(n, *event)``, in nats, ``(n,)``; sums over pixels are in float64."""
        flat, cells = x.flatten(1), self.cells(x)
        shares = self.log_shares.T.gather(0, cells)
        gained = (self.cell_log_probabilities(cells) - shares).sum(1)
        distance = flat.double().square().sum(1)
        return (gained - 0.5 * (distance + self.num_features * math.log(2 * math.pi))).to(x)

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw independent vectors ``(num_samples, d)``, pixel by pixel, at about the cost of as many log densities."""
        like = next(self.weights())
        drawn = []
        with torch.no_grad():
            for start in range(0, num_samples, MOST_DRAWN):
                count = min(MOST_DRAWN, num_samples - start)
                steps, numbers = self.steps(count), uniform_draws((self.num_features, count), like, generator)
                while not steps.is_complete:
                    below = steps.log_probabilities().exp().cumsum(1)
                    # The last sum is 1 up to rounding, and a number may round to it: the last value is then meant.
                    level = torch.searchsorted(below, numbers[steps.position, :, None].to(below) * below[:, -1:])
                    steps.advance(level.squeeze(1).clamp_max(self.settings.num_cells - 1))
                drawn.append(self.from_cells(steps.cells, generator=generator).to(like))
        return torch.cat(drawn) if drawn else like.new_empty(0, self.num_features)

    def steps(self, num_images: int) -> PixelSteps:
        """Begin ``num_images`` images, whose values are then set one by one."""
        return PixelSteps(self, num_images)

    def from_cells(self, cells: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw values of model space ``(n, d)``, float64, inside the cells of the grey levels ``cells`` ``(n, d)``."""
        home = cells.device if generator is None else generator.device
        # Middles of 2^40 parts of the cell, which float64 holds exactly: never an end, whose score would be infinite.
        part = torch.randint(2**40, cells.shape, generator=generator, device=home).to(cells.device).double()
        return self._histograms()(cells.double() - 0.5 + (part + 0.5) / 2**40)

    def covariances(self, log_snr: Tensor | None = None) -> Tensor:
        """Covariance ``(1, d, d)`` of the decay far out: I at every log-SNR ``()``, and without noise."""
        return torch.eye(self.num_features, device=self.edges.device)[None]

    def _logits(self, read: Tensor, places: Tensor, drop: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        return self.network(read, places, drop) + self.log_shares[places].to(self.network.dtype)

    def _histograms(self) -> GridHistograms:
        """Histograms of the pixels over the grey levels 0, 1, ..."""
        return GridHistograms(GridMarginals(0.0, 1.0, self.log_shares))

    def _edges(self) -> Tensor:
        """Ends between the cells of every pixel in model space, ``(d, num_cells - 1)``, float64."""
        settings = self.settings
        middles = torch.arange(settings.num_cells - 1, device=self.log_shares.device).double() + 0.5
        return self._histograms()(middles[:, None].expand(-1, settings.num_features)).T.contiguous()
