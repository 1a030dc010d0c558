r"""Which powers of a fitted density have a finite integral in data units.

In model space the density is a Gaussian mixture times a factor of linear growth, so every power of it is integrable. In
data units the Jacobian of a column near a bound counts as well: a logistic tail of scale s in log distance gives
:math:`|du/dx| \approx \exp(s u^2 / 2)`. With :math:`S = \mathrm{diag}(s_i)` and the mixture's covariances C,

.. math:: \int p(x)^w\,dx = \int q(u)^w\,|du/dx|^{w - 1}\,du

is finite when :math:`w\,C^{-1} - (w - 1)\,S` is positive definite for every component, that is for
:math:`w < \rho / (\rho - 1)` with :math:`\rho` the largest eigenvalue of any :math:`S^{1/2} C S^{1/2}`, and always where
:math:`\rho \le 1`.
"""

from __future__ import annotations

import math

import torch

from drl_density.bases import Base, Tail, Tilted
from drl_density.model import EnergySequence
from drl_density.networks import Ensemble
from drl_density.transforms import DataTransform


def largest_power(model: EnergySequence, transform: DataTransform) -> float:
    """The supremum of powers w >= 1 for which exp(w F_0) is known to be integrable in data units, inf for all.

    Args:
        model: the sequence in model space.
        transform: from data to model space.

    Returns:
        1.0 where only the density itself is known to be.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import MLP, MLPSettings
    >>> from drl_density.transforms import Affine
    >>> model = EnergySequence(NoiseSchedule.log_spaced(3), MLP(MLPSettings(2, width=8, num_blocks=1)), (2,))
    >>> largest_power(model, Affine(0.0, 2.0))
    inf
    """
    scales, mixtures = transform.tail_scale.expand(model.event_shape.numel()), _mixtures(model)
    if not bool(scales.any()):
        return math.inf
    if mixtures is None or bool(scales.isinf().any()):
        return 1.0
    near = scales > 0
    root = scales[near].sqrt()
    covariances = [mixture.covariances(model.schedule.log_snr_at(0)).cpu()[:, near][:, :, near] for mixture in mixtures]
    steepest = max(float(torch.linalg.eigvalsh(root[:, None] * part.double() * root).max()) for part in covariances)
    return steepest / (steepest - 1) if steepest > 1 else math.inf


def _mixtures(model: EnergySequence) -> list[Base] | None:
    """The quadratic parts of the energy, one per member; None where there is none."""
    parts = [model.base]
    if isinstance(model.network, Ensemble):
        parts = [part.base if isinstance(part, Tilted) else model.base for part in model.network.networks]
    known = [part for part in parts if part is not None and part.tail is Tail.QUADRATIC]
    return known if len(known) == len(parts) and model.is_integrable else None
