r"""Finetuning a few-step roll-out by the unbiased maximum mean discrepancy between its draws and data.

.. math:: \mathrm{MMD}^2 = \tfrac{1}{n(n-1)} \sum_{i \ne j} k(x_i, x_j) + \tfrac{1}{m(m-1)} \sum_{i \ne j} k(y_i, y_j)
    - \tfrac{2}{nm} \sum_{ij} k(x_i, y_j)

Source: Aiello, Valsesia and Magli 2023 (arXiv 2301.07969).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.descent import DescentRule, descend
from drl_density.devices import normal_draws
from drl_density.distillation.generator import RollOut
from drl_density.model import EnergySequence
from drl_density.records.fields import (
    Interval,
    NonNegativeInt,
    PositiveFloat,
    PositiveOrInfinite,
    check_fields,
)
from drl_density.records.given import given_or_default

FeatureKernel = Callable[[Tensor, Tensor], Tensor]
"""A positive definite function of features ``(n, d)`` and ``(m, d)`` with values ``(n, m)``."""


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(<x, y> / d + 1)^3 for features ``x`` ``(n, d)`` and ``y`` ``(m, d)``, ``(n, m)``.

    >>> cubic_kernel(torch.ones(1, 4), torch.ones(2, 4))
    tensor([[8., 8.]])
    """
    return (x @ y.T / x.shape[1] + 1) ** 3


def rbf_kernel(*gammas: float) -> FeatureKernel:
    """The Gaussian kernel exp(-gamma |x - y|^2), or the mean of several of different widths.

    Args:
        gammas: one over twice the squared width of each kernel.

    >>> rbf_kernel(0.5)(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor([[1.]])
    """

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        squares = torch.cdist(x, y).square()
        return torch.stack([torch.exp(-gamma * squares) for gamma in gammas]).mean(0)

    return kernel


def energy_kernel(x: Tensor, y: Tensor) -> Tensor:
    """-|x - y|, whose discrepancy is the energy distance: it has no width, and so sees differences of every scale.

    Args:
        x: one set of features, ``(n, d)``.
        y: another set of features, ``(m, d)``.

    >>> energy_kernel(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
    tensor([[-5.]])
    """
    return -torch.cdist(x, y)


def log_kernel(scale: float) -> FeatureKernel:
    r"""-log(1 + |x - y| / scale), which sees small differences better than the energy kernel does.

    .. math:: -\log(1 + r / s) = \int_0^\infty \frac{e^{-u r} - 1}{u}\, e^{-u s}\, du

    So it is a sum of Laplace kernels of all widths 1 / u from the scale s on. Far beyond the scale, the pull of a point
    falls as 1 / r. That of the energy kernel does not fall, so the nearest points have little say in it.

    Args:
        scale: distance s below which the kernel is linear.

    >>> log_kernel(1.0)(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
    tensor([[-1.7918]])
    """

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return -torch.log1p(torch.cdist(x, y) / scale)

    return kernel


def unbiased_mmd(x: Tensor, y: Tensor, kernel: FeatureKernel) -> Tensor:
    """Unbiased estimate of the squared discrepancy of features ``x`` ``(n, d)`` and ``y`` ``(m, d)``; may be negative.

    Args:
        kernel: function of both sets of features with values ``(n, m)``.

    Raises:
        ValueError: fewer than two rows of ``x`` or ``y``, or features of different length.

    >>> x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    >>> bool(unbiased_mmd(x[:100], x[100:] + 1, rbf_kernel(0.5)) > unbiased_mmd(x[:100], x[100:], rbf_kernel(0.5)))
    True
    """
    if min(len(x), len(y)) < 2 or x.shape[1:] != y.shape[1:]:
        raise ValueError(f"expected at least two rows of equal features, got {tuple(x.shape)} and {tuple(y.shape)}")

    def without_diagonal(v: Tensor) -> Tensor:
        gram = kernel(v, v)
        return (gram.sum() - gram.diagonal().sum()) / (len(v) * (len(v) - 1))

    return without_diagonal(x) + without_diagonal(y) - 2 * kernel(x, y).mean()


@dataclass(frozen=True)
class MMDSettings:
    """Number of steps, batch size and learning rate of finetuning by maximum mean discrepancy (MMD).

    Attributes:
        num_steps: number of gradient steps.
        batch_size: number of draws, and of rows, in each step.
        learning_rate: first learning rate of Adam, which falls to zero as a half cosine.
        max_gradient_norm: gradients whose norm is larger are scaled down to it.
    """

    num_steps: NonNegativeInt = 300
    batch_size: Annotated[int, Interval(2)] = 256
    learning_rate: PositiveFloat = 1e-3
    max_gradient_norm: PositiveOrInfinite = 0.5

    def __post_init__(self) -> None:
        check_fields(self)


@outside_inference_mode
def finetune(
    rollout: RollOut,
    data: Tensor,
    *,
    kernel: FeatureKernel = cubic_kernel,
    features: Callable[[Tensor], Tensor] | None = None,
    settings: MMDSettings | None = None,
    generator: torch.Generator | None = None,
) -> list[float]:
    """Finetunes a roll-out until its draws match data in their features; returns the discrepancy of every step.

    Args:
        rollout: generator to be trained in place.
        data: rows ``(n, *event)`` in model space to be matched.
        kernel: kernel of the discrepancy, a function of two sets of features.
        features: fixed, differentiable map from points ``(n, *event)`` to features ``(n, k)``; None flattens the points.

    Raises:
        ValueError: rows of another shape than the roll-out's points, or features that are not ``(n, k)``.
        TrainingFailed: a discrepancy that is not a finite number.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> from drl_density.samplers import DDIMSettings
    >>> rollout = RollOut(model, DDIMSettings(num_steps=2))
    >>> settings = MMDSettings(num_steps=2, batch_size=16)
    >>> len(finetune(rollout, torch.randn(64, 2).double(), settings=settings))
    2
    """
    settings = given_or_default(settings, MMDSettings)
    measured, model = features or _flat, rollout.model
    _check_features(measured, data, model)
    rollout.eval()

    def loss_of() -> Tensor:
        noise = normal_draws((settings.batch_size, *model.event_shape), model, generator)
        rows = data[torch.randint(len(data), (settings.batch_size,), generator=generator)].to(noise)
        return unbiased_mmd(measured(rollout(noise)), measured(rows), kernel)

    rule = DescentRule(
        settings.num_steps,
        settings.learning_rate,
        betas=(0.9, 0.99),
        is_annealed=True,
        max_gradient_norm=settings.max_gradient_norm,
    )
    return descend(rollout.parameters(), loss_of, rule, name="the discrepancy")


def _flat(x: Tensor) -> Tensor:
    return x.flatten(1)


def _check_features(features: Callable[[Tensor], Tensor], data: Tensor, model: EnergySequence) -> None:
    if data.shape[1:] != model.event_shape:
        raise ValueError(f"expected rows of event shape {tuple(model.event_shape)}, got {tuple(data.shape)}")
    probe = data[:2].detach().to(model.dtype).requires_grad_(True)
    found = features(probe)
    if found.ndim != 2 or len(found) != len(probe):
        raise ValueError(
            f"features must map {tuple(probe.shape)} to (n, k), one vector per row; got {tuple(found.shape)}"
        )
    if not found.requires_grad:
        raise ValueError("features must be differentiable in the rows: compute them with torch, without detach()")
