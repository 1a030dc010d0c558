r"""Hidden pixels given the others under an autoregressive density, by particle filters along the order of the pixels.

A filter sets the pixels one by one. Hidden ones are drawn from :math:`P(v_i \mid v_{<i})`, and every given one multiplies
the weight of a particle by its probability. Particles are resampled where their weights become uneven. The mean weight is
an unbiased estimate of the density of the given pixels, whatever is hidden, and weighted particles stand for the
conditional.

A given pixel adds nothing to a filter before its turn comes. Draws are therefore independent where the last pixels are
hidden, nearly so where hidden pixels are small or scattered, and few where the first half of an image is hidden. The number
of effective draws says which.

Source: Gordon, Salmond and Smith 1993 (the filter); Lee and Whiteley 2018 (families of particles).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.bases import AutoregressivePixels, LayeredBase, PixelSteps
from drl_density.inverse_problems.conditional import ConditionalResult
from drl_density.inverse_problems.row_streams import RowStreams
from drl_density.log_weights import chosen_by_share
from drl_density.model import EnergySequence
from drl_density.networks.contract import is_bounded
from drl_density.partition_function.importance import acceptance_of_weights, tilts_with_columns
from drl_density.weights import log_mean_exp, resample, weight_ess

NUM_FILTERS = 8
"""Independent filters of a row, whose spread is the error of its normaliser."""

VALUES, STARTS, CHOICES, PLACES = 0, 1, 2, 3
"""Purposes of a row's random numbers: grey levels, resampling, the draws that are kept, and places inside cells."""


def pixel_base(model: EnergySequence) -> AutoregressivePixels | None:
    """The autoregressive density of level 0, where its draws can stand for the sequence; None elsewhere.

    That takes a bounded network on an autoregressive base.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.bases import PixelSettings
    >>> from drl_density.networks import NoTilt
    >>> pixels = AutoregressivePixels(PixelSettings((1, 2, 2), num_cells=3, width=8))
    >>> pixel_base(EnergySequence(NoiseSchedule.log_spaced(4), NoTilt(), (4,), base=pixels)) is pixels
    True
    """
    base = model.base.clean if isinstance(model.base, LayeredBase) else model.base
    return base if isinstance(base, AutoregressivePixels) and is_bounded(model.network) else None


@outside_inference_mode
def filtered_conditional(
    model: EnergySequence,
    observed: Tensor,
    is_missing: Tensor,
    num_samples: int,
    *,
    num_particles: int,
    log_offsets: Tensor,
    streams: RowStreams,
    numbers: Tensor | None = None,
    resample_below: float = 0.5,
) -> ConditionalResult:
    """Draw the hidden pixels of every row given the others, by particle filters; float64 on the CPU.

    In the record, ``log_weights`` has a replicate for each filter. ``ess`` counts families: particles of a filter that
    descend from one particle before the first hidden pixel count as one draw. ``least_ess`` is the least weight ESS on the
    way as a share of the particles, and ``r_hat`` is sqrt(1 + 1 / ESS), that of chains worth as many draws.

    Args:
        model: sequence for which :func:`pixel_base` finds a density.
        observed: rows in model space ``(rows, filters, d)``, each with a point for every filter; values at hidden pixels are
            ignored.
        is_missing: mask of the hidden pixels, ``(rows, d)``.
        num_samples: number of draws for each row.
        num_particles: particles of each filter.
        log_offsets: added to the log weights of each filter, ``(rows, filters)``.
        streams: sources of random numbers, so that the draws of a row depend on the row and its number alone.
        numbers: numbers of the rows, ``(rows,)``; 0, 1, ... when not given.
        resample_below: share of the particles; a filter is resampled if its weight ESS falls below it.

    Raises:
        ValueError: a sequence without an autoregressive base, or with an unbounded network.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.bases import PixelSettings
    >>> from drl_density.networks import NoTilt
    >>> pixels = AutoregressivePixels(PixelSettings((1, 2, 2), num_cells=3, width=8))
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), NoTilt(), (4,), base=pixels)
    >>> mask, options = torch.tensor([[True, False, False, False]]), {"log_offsets": torch.zeros(1, 2)}
    >>> found = filtered_conditional(
    ...     model, torch.zeros(1, 2, 4).double(), mask, 5, num_particles=8, streams=RowStreams(0), **options
    ... )
    >>> found.draws.shape, [round(float(value), 4) for value in (found.ess, found.log_z)]  # three times log N(0; 0, 1)
    (torch.Size([1, 5, 4]), [16.0, -2.7568])
    """
    base = pixel_base(model)
    if base is None:
        raise ValueError("particle filters need an autoregressive base and a bounded network")
    num_rows, num_filters, num_features = observed.shape
    numbers = torch.arange(num_rows) if numbers is None else numbers
    observed, is_missing = observed.cpu().double(), is_missing.cpu()
    given = base.cells(observed[:, 0].to(base.edges)).cpu()
    run = _Filters(base, given, is_missing, (num_rows, num_filters, num_particles), streams, numbers)
    run.walk(resample_below)
    cells = run.steps.cells.reshape(num_rows, num_filters * num_particles, num_features)
    inside = [
        base.from_cells(own, generator=_generator(streams, number)) for own, number in zip(cells, numbers, strict=True)
    ]
    particles = torch.stack(inside).double().cpu().reshape(num_rows, num_filters, num_particles, num_features)
    particles = torch.where(is_missing[:, None, None], particles, observed[:, :, None])
    shares = base.log_shares.cpu().T.gather(0, given)
    points = -0.5 * (observed.square() + math.log(2 * math.pi)) - shares[:, None]
    heights = torch.where(is_missing[:, None], 0.0, points).sum(2) + log_offsets
    weights = run.log_weights + heights[..., None]
    weights = weights + tilts_with_columns(model, observed, particles, is_missing, 0.0).reshape(weights.shape)
    flat = weights.flatten(1)
    index = resample(flat, num_samples, start=streams.numbers(numbers, (1,), purpose=CHOICES, kind="uniform"))
    draws = particles.flatten(1, 2).gather(1, index[..., None].expand(*index.shape, num_features))
    families = torch.zeros_like(flat).scatter_add(1, run.roots.flatten(1), torch.softmax(flat, 1))
    ess = 1 / families.square().sum(1)
    return ConditionalResult(
        draws, weights, run.least_share.mean(1), acceptance_of_weights(flat), (1 + 1 / ess).sqrt(), ess
    )


class _Filters:
    """Particle filters of several rows, which set one pixel after the other.

    Attributes:
        steps: images of all particles, in the order of rows, filters and particles.
        log_weights: log weight of every particle, ``(rows, filters, particles)``, float64.
        roots: number of the particle that each descends from, over all filters of a row, of the same shape.
        least_share: least weight ESS of every filter so far, as a share of its particles, ``(rows, filters)``.
    """

    def __init__(
        self,
        base: AutoregressivePixels,
        given: Tensor,
        is_missing: Tensor,
        shape: tuple[int, int, int],
        streams: RowStreams,
        numbers: Tensor,
    ) -> None:
        self.base, self.given, self.is_missing, self.shape = base, given, is_missing, shape
        self.streams, self.numbers = streams, numbers
        rows, filters, particles = shape
        self.steps: PixelSteps = base.steps(rows * filters * particles)
        self.log_weights = torch.zeros(shape, dtype=torch.float64)
        self.roots = torch.arange(filters * particles).reshape(1, filters, particles).expand(shape).clone()
        self.least_share = torch.ones(rows, filters, dtype=torch.float64)
        neighbours = base.neighbours.cpu()
        padded = torch.nn.functional.pad(is_missing, (0, 1))
        self._is_shared = ~(is_missing | padded[:, neighbours].any(2)).any(0)
        self._first = torch.arange(rows) * filters * particles

    def walk(self, resample_below: float) -> None:
        """Set all pixels; a filter is resampled where its weight ESS falls below a share of the particles."""
        rows, filters, particles = self.shape
        values = self.streams.numbers(
            self.numbers, (self.given.shape[1], filters * particles), purpose=VALUES, kind="uniform"
        )
        starts = self.streams.numbers(self.numbers, (self.given.shape[1], filters), purpose=STARTS, kind="uniform")
        for position, place in enumerate(self.base.order.tolist()):
            if self._is_shared[place]:  # no particle of a row differs in what this pixel is predicted from
                found = self.steps.select(self._first).log_probabilities().cpu()
                gain = found.gather(1, self.given[:, place, None])
                self.log_weights += gain[..., None]
                self.steps.advance(self.given[:, place].repeat_interleave(filters * particles))
                continue
            found = self.steps.log_probabilities().cpu().reshape(rows, filters * particles, -1)
            cells = torch.where(
                self.is_missing[:, place, None], _drawn(found, values[:, position]), self.given[:, place, None]
            )
            gain = found.gather(2, cells[..., None]).squeeze(2)
            gain = torch.where(self.is_missing[:, place, None], 0.0, gain)
            self.log_weights += gain.reshape(self.shape)
            self.steps.advance(cells.flatten())
            self._resample(resample_below, starts[:, position])

    def _resample(self, below: float, starts: Tensor) -> None:
        particles = self.shape[2]
        share = weight_ess(self.log_weights) / particles
        self.least_share = self.least_share.minimum(share)
        is_poor = share < below
        if not bool(is_poor.any()):
            return
        own = resample(self.log_weights[is_poor], particles, start=starts[is_poor][:, None])
        chosen = torch.arange(self.log_weights.numel()).reshape(self.shape)
        chosen[is_poor] = chosen[is_poor].gather(1, own)
        self.steps = self.steps.select(chosen.flatten())
        self.roots = self.roots.flatten()[chosen]
        self.log_weights[is_poor] = log_mean_exp(self.log_weights[is_poor], 1)[:, None].expand(-1, particles)


def _drawn(log_probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Grey levels ``(rows, particles)`` by inversion, from log probabilities ``(rows, particles, num_cells)``."""
    return chosen_by_share(log_probabilities.exp().cumsum(2), uniform[..., None]).squeeze(2)


def _generator(streams: RowStreams, number: Tensor) -> torch.Generator:
    """A generator that belongs to one row."""
    share = streams.numbers(number.reshape(1), (1,), purpose=PLACES, kind="uniform")
    return torch.Generator().manual_seed(int(float(share) * 2**53))
