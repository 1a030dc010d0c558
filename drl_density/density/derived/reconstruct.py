"""A point behind a linear measurement, with a fitted density as prior: draws, mean, and a map of the uncertainty."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from drl_density.density.derived.posterior import Posterior, posterior
from drl_density.density.fitted import FittedModel
from drl_density.errors import DataError
from drl_density.inverse_problems import DPSSettings, sample_dps, sample_projected
from drl_density.operators import LinearOperator, Mask, check_operator
from drl_density.partition_function import AISSettings
from drl_density.records.brief import brief
from drl_density.records.fields import PositiveInt, check_fields
from drl_density.records.given import given_or_default
from drl_density.samplers import DDIMSettings, PredictorCorrectorSettings
from drl_density.shapes import spread

Method = Literal["posterior", "dps", "projected"]


@dataclass(frozen=True)
class ReconstructSettings:
    """The method by which a point is reconstructed, and its sizes.

    Attributes:
        method: "posterior" anneals prior times likelihood and is consistent. "dps", diffusion posterior sampling, adds the
            gradient of the misfit to every denoising step; "projected" projects onto the measurement after every step. Both
            are fast and biased.
        num_steps: steps of the denoising walk of "dps" and "projected".
        annealing: sizes of the annealing run of "posterior".

    Raises:
        ValueError: an unknown method, a size of another method, or fewer than 1 step.

    Source: Chung et al. 2023 for "dps"; Chung and Ye 2022 for the hard projection of "projected".
    """

    method: Method = "posterior"
    num_steps: PositiveInt = 200
    annealing: AISSettings | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.method == "posterior" and self.num_steps != type(self).num_steps:
            raise ValueError(
                f'num_steps (--steps) is a setting of "dps" and "projected", got {self.num_steps} with "posterior": '
                "leave it out"
            )
        if self.method != "posterior" and self.annealing is not None:
            raise ValueError(f'annealing is a setting of "posterior", got method "{self.method}": leave it out')


@dataclass(frozen=True)
class Problem:
    """A measurement y = A x + noise.

    Attributes:
        operator: the linear map A, acting in data units.
        y: one measurement, float64 or complex128.
        noise: standard deviation of the noise, where it is given.
        shape: shape in which the operator sees a point.
    """

    operator: LinearOperator
    y: Tensor
    noise: float | None
    shape: tuple[int, ...]

    def seen(self, x: Tensor) -> Tensor:
        """Points ``(n, *)`` in the shape that the operator takes."""
        return x.reshape(-1, *self.shape)

    def misfit(self, x: Tensor) -> Tensor:
        """Squared misfit, the sum of abs(y - A x)^2 over the entries of y, of points ``(n, *)``: ``(n,)``."""
        return (self.y - self.operator.forward(self.seen(x))).abs().square().flatten(1).sum(1)


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Draws of the point behind one measurement.

    Attributes:
        draws: draws ``(num_samples, *event)`` in data units.
        method: "posterior" is consistent, "dps" and "projected" are fast and biased.
        misfit: root mean square of y - A x over the draws.
        acceptance_rate: mean acceptance of adjusted steps, for the methods that take any.
        posterior: the whole posterior with its log evidence, for the method "posterior".
    """

    draws: Tensor
    method: Method
    misfit: float
    acceptance_rate: float | None = None
    posterior: Posterior | None = field(default=None, repr=False)

    __repr__ = brief

    @property
    def mean(self) -> Tensor:
        """Mean of the draws ``(*event)``."""
        return self.draws.mean(0)

    @property
    def standard_deviation(self) -> Tensor:
        """Standard deviation of the draws ``(*event)``, a map of the uncertainty; NaN for a single draw."""
        return spread(self.draws)

    def interval(self, probability: float = 0.95) -> tuple[Tensor, Tensor]:
        """Ends of the central interval of every entry that holds this share of the draws, each ``(*event)``.

        Args:
            probability: share of the draws in (0, 1).
        """
        ends = torch.tensor([0.5 - probability / 2, 0.5 + probability / 2], dtype=self.draws.dtype)
        lower, upper = self.draws.quantile(ends, 0)
        return lower, upper

    def summary(self) -> str:
        """One line for a person."""
        kind = "consistent" if self.method == "posterior" else "fast and biased"
        text = f"{len(self.draws)} draws by {self.method} ({kind}); misfit {self.misfit:.4g}"
        if len(self.draws) < 2:
            return text
        return f"{text}, mean standard deviation {float(self.standard_deviation.mean()):.4g}"


@dataclass(frozen=True)
class _Found:
    """What a method returns: draws ``(n, d)`` in data units, and the statistics that it has."""

    draws: Tensor
    acceptance_rate: float | None = None
    posterior: Posterior | None = None


def reconstruct(
    density: FittedModel,
    operator: LinearOperator,
    y: Tensor,
    *,
    noise: float | None = None,
    num_samples: int = 200,
    image_shape: tuple[int, ...] | None = None,
    settings: ReconstructSettings | None = None,
    generator: torch.Generator | None = None,
) -> Reconstruction:
    """See :meth:`drl_density.density.Density.reconstruct`."""
    settings = given_or_default(settings, ReconstructSettings)
    if num_samples < 1:
        raise DataError(f"num_samples must be at least 1, got {num_samples}")
    check_operator(operator)
    if noise is not None and not 0 < noise < math.inf:
        raise DataError(f"noise must be a positive number, got {noise}")
    y = torch.as_tensor(y, device="cpu")
    y = y.to(torch.complex128 if y.is_complex() else torch.float64)
    if not bool(y.isfinite().all()):
        raise DataError("the measurement must be finite numbers: the operator leaves out what was not measured")
    shape = tuple(image_shape or density.event_shape)
    if math.prod(shape) != density.num_features:
        raise DataError(f"image_shape {shape} does not hold {density.num_features} columns")
    problem = Problem(operator, y, noise, shape)
    found = METHODS[settings.method](density, problem, num_samples, settings, generator)
    misfit = (operator.forward(problem.seen(found.draws)) - y).abs().square().mean().sqrt()
    draws = found.draws.reshape(-1, *density.event_shape)
    return Reconstruction(draws, settings.method, float(misfit), found.acceptance_rate, found.posterior)


def _by_posterior(
    density: FittedModel,
    problem: Problem,
    num_samples: int,
    settings: ReconstructSettings,
    generator: torch.Generator | None,
) -> _Found:
    noise, y = problem.noise, problem.y
    if noise is None:
        raise DataError("method posterior needs the noise of the measurement, a positive number: give noise (--noise)")
    found = problem.operator.forward(problem.seen(density.pool[:1].double()))
    if found.shape[1:] != y.shape or found.is_complex() != y.is_complex():
        raise DataError(
            f"expected a {'complex' if found.is_complex() else 'real'} measurement of shape {tuple(found.shape[1:])}, got "
            f"{y.dtype} {tuple(y.shape)}"
        )
    # A complex entry has two real parts, each with this noise.
    count = y.numel() * (2 if y.is_complex() else 1)
    constant = -0.5 * count * math.log(2 * math.pi * noise**2)

    def log_likelihood(x: Tensor) -> Tensor:
        return constant - 0.5 * problem.misfit(x) / noise**2

    result = posterior(
        density, log_likelihood, num_samples=num_samples, settings=settings.annealing, generator=generator
    )
    return _Found(result.draws.flatten(1), result.acceptance_rate, result)


def _by_dps(
    density: FittedModel,
    problem: Problem,
    num_samples: int,
    settings: ReconstructSettings,
    generator: torch.Generator | None,
) -> _Found:
    def to_operand(u: Tensor) -> Tensor:
        return problem.seen(density.transform.inv(u.double().cpu()))  # with gradients, which steer the walk

    found = sample_dps(
        density.model,
        problem.operator,
        problem.y,
        num_samples,
        settings=DPSSettings(walk=DDIMSettings(num_steps=settings.num_steps, eta=1.0)),
        to_operand=to_operand,
        generator=generator,
    )
    return _Found(density.to_data(found.draws))


def _by_projection(
    density: FittedModel,
    problem: Problem,
    num_samples: int,
    settings: ReconstructSettings,
    generator: torch.Generator | None,
) -> _Found:
    operator, y = problem.operator, problem.y
    if not isinstance(operator, Mask):
        raise DataError(
            f"projection acts in model space, where only single entries keep their meaning: it takes a Mask, got "
            f"{type(operator).__name__}; use dps or posterior"
        )
    like = density.pool[:1].double()
    density.transform.column_log_jacobian(like)  # raises for a transform that mixes columns
    if y.shape != (int(operator.is_observed.sum()),):
        raise DataError(f"expected {int(operator.is_observed.sum())} observed entries, got {tuple(y.shape)}")
    u = density.to_states(operator.project(problem.seen(like), y[None]).reshape(1, -1))
    flat = Mask(operator.is_observed.reshape(-1).to(u.device))
    found = sample_projected(
        density.model,
        flat,
        flat.forward(u)[0],
        num_samples,
        settings=PredictorCorrectorSettings(walk=DDIMSettings(num_steps=settings.num_steps, eta=1.0)),
        generator=generator,
    )
    return _Found(density.to_data(found.draws), float(found.stats["acceptance_rate"].mean()))


METHODS: dict[Method, Callable[[FittedModel, Problem, int, ReconstructSettings, torch.Generator | None], _Found]] = {
    "posterior": _by_posterior,
    "dps": _by_dps,
    "projected": _by_projection,
}
"""The function behind each method of :class:`ReconstructSettings`."""
