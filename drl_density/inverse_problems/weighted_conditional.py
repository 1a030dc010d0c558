r"""Any coordinates given any others, by weighted draws of the closed-form conditional of a sequence's base.

For :math:`F_0 = \log b + g` with g bounded, the conditional :math:`p(x_m \mid x_o)` is that of the base times
:math:`\exp g`, up to a constant. Independent draws of the base's conditional with the weights :math:`\exp g` therefore
stand for it, whatever modes it has. Their mean weight times :math:`b(x_o)` is an unbiased estimate of the slice's normaliser
:math:`\int \exp F_0(x_m, x_o)\,dx_m`. Nothing is annealed and no chain has to mix.

Source: Rubin 1987 (sampling importance resampling).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.bases import Conditional
from drl_density.inverse_problems.conditional import ConditionalResult
from drl_density.inverse_problems.row_streams import RowStreams
from drl_density.model import EnergySequence
from drl_density.networks.contract import is_bounded
from drl_density.partition_function.importance import acceptance_of_weights, tilts_with_columns
from drl_density.weights import resample, weight_ess

NUM_GROUPS = 16
"""Independent groups of the proposals of a row, whose spread is the error of its normaliser."""


PROPOSALS, CHOICES = 0, 1
"""Purposes of a row's random numbers; callers number theirs from 2."""


def base_conditional(model: EnergySequence) -> Conditional | None:
    """The conditionals of the base at level 0, on the CPU, where draws of it can stand for the sequence; None elsewhere.

    That takes a bounded network on a base with conditionals in closed form.

    Args:
        model: the sequence.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import MLP, ColumnTilt, ColumnTiltSettings, MLPSettings
    >>> networks = ColumnTilt(ColumnTiltSettings(2)), MLP(MLPSettings(2))
    >>> [base_conditional(EnergySequence(NoiseSchedule.log_spaced(4), each, (2,))) is not None for each in networks]
    [True, False]
    """
    if model.base is None or not is_bounded(model.network):
        return None
    base = model.base if model.device.type == "cpu" else copy.deepcopy(model.base).cpu()
    try:
        return base.conditional(model.schedule.log_snr_at(0).cpu())
    except NotImplementedError:
        return None


@outside_inference_mode
def weighted_conditional(
    model: EnergySequence,
    law: Conditional,
    observed: Tensor,
    is_missing: Tensor,
    num_samples: int,
    *,
    num_proposals: int,
    log_offsets: Tensor,
    streams: RowStreams,
    numbers: Tensor | None = None,
) -> ConditionalResult:
    """Draws of the missing coordinates of every row given its observed ones, by importance resampling; float64 on the CPU.

    The record's figures are those of independent weighted draws. ``log_weights`` has the proposals in 16 groups, ``ess`` is
    their weight ESS and ``least_ess`` the same as a share. ``acceptance_rate`` is that of an independence
    Metropolis-Hastings chain with such proposals. ``r_hat`` is the value sqrt(1 + 1 / ESS) that chains worth the same number
    of draws would have.

    Args:
        law: conditionals from :func:`base_conditional`.
        observed: rows in model space, ``(rows, places, d)``, each with one or several points for its observed coordinates;
            values at missing coordinates are ignored. The number of places divides 16.
        is_missing: mask of the missing coordinates, ``(rows, d)``.
        num_samples: number of draws for each row.
        num_proposals: number of proposals for each row, a multiple of 16.
        log_offsets: added to the log weights of each place, ``(rows, places)``.
        streams: sources of random numbers, so that the draws of a row depend on the row and its number alone.
        numbers: numbers of the rows, ``(rows,)``; 0, 1, ... when not given.

    Source: Vats and Knudson 2021 (R-hat as a function of the effective sample size).

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import ColumnTilt, ColumnTiltSettings
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), ColumnTilt(ColumnTiltSettings(2)), (2,))
    >>> law, mask = base_conditional(model), torch.tensor([[True, False]])
    >>> options = {"num_proposals": 32, "log_offsets": torch.zeros(1, 1), "streams": RowStreams(0)}
    >>> found = weighted_conditional(model, law, torch.zeros(1, 1, 2).double(), mask, 5, **options)
    >>> found.draws.shape, [round(float(value), 4) for value in (found.ess, found.log_z)]  # the tilt is 0
    (torch.Size([1, 5, 2]), [32.0, -0.9189])
    """
    num_rows, num_places, num_features = observed.shape
    numbers = torch.arange(num_rows) if numbers is None else numbers

    def normal(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        return streams.numbers(numbers[rows], shape, purpose=PROPOSALS)

    proposals, heights = law.draw(observed.cpu(), is_missing.cpu(), num_proposals // num_places, normal)
    values = tilts_with_columns(model, observed.cpu(), proposals, is_missing.cpu(), 0.0)
    weights = (values + (heights + log_offsets)[..., None]).flatten(1)
    index = resample(weights, num_samples, start=streams.numbers(numbers, (1,), purpose=CHOICES, kind="uniform"))
    candidates = proposals.reshape(num_rows, num_proposals, num_features)
    draws = candidates.gather(1, index[..., None].expand(*index.shape, num_features))
    ess = weight_ess(weights)
    return ConditionalResult(
        draws,
        weights.reshape(num_rows, NUM_GROUPS, -1),
        ess / num_proposals,
        acceptance_of_weights(weights),
        (1 + 1 / ess).sqrt(),
        ess,
    )
