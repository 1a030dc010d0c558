"""A point behind a linear measurement, with a fitted density as prior: draws, mean, and a map of what is uncertain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from drl_density.density.derived.posterior import posterior
from drl_density.errors import DataError
from drl_density.inverse_problems import DPSSettings, sample_dps, sample_projected
from drl_density.operators import LinearOperator, Mask, check_operator
from drl_density.partition_function import AISSettings
from drl_density.samplers import DDIMSettings, PredictorCorrectorSettings

if TYPE_CHECKING:
    from drl_density.density.fitted import Density

Method = Literal["posterior", "guided", "projected"]


@dataclass(frozen=True)
class Reconstruction:
    """Draws behind one measurement.

    Attributes:
        draws: ``(n, *event)`` in data units.
        method: "posterior" is consistent, "guided" and "projected" are fast and biased.
        misfit: root mean square of y - A x over the draws.
        stats: ``acceptance_rate`` and, of "posterior", ``r_hat`` and the log evidence.
    """

    draws: Tensor
    method: str
    misfit: float
    stats: dict[str, Any]

    @property
    def mean(self) -> Tensor:
        """Mean of the draws ``(*event)``."""
        return self.draws.mean(0)

    @property
    def standard_deviation(self) -> Tensor:
        """The uncertainty map ``(*event)``."""
        return self.draws.std(0)

    def interval(self, probability: float = 0.95) -> tuple[Tensor, Tensor]:
        """Ends of the central interval of every entry that holds this share of the draws, each ``(*event)``."""
        ends = torch.tensor([0.5 - probability / 2, 0.5 + probability / 2], dtype=self.draws.dtype)
        lower, upper = self.draws.quantile(ends, 0)
        return lower, upper

    def summary(self) -> str:
        """One line for a person."""
        kind = "consistent" if self.method == "posterior" else "fast and biased"
        return (
            f"{len(self.draws)} draws by {self.method} ({kind}); misfit {self.misfit:.4g}, mean standard deviation "
            f"{float(self.standard_deviation.mean()):.4g}"
        )


def reconstruct(
    density: Density,
    operator: LinearOperator,
    y: Tensor,
    *,
    method: Method = "posterior",
    noise: float | None = None,
    num_draws: int = 200,
    num_steps: int = 200,
    image_shape: tuple[int, ...] | None = None,
    annealing: AISSettings | None = None,
    seed: int = 0,
) -> Reconstruction:
    """Draws of the point x behind y = A x + noise, where A acts in data units.

    Args:
        density: the prior.
        operator: A, see :mod:`drl_density.operators`.
        y: one measurement, without batch dimension.
        method: "posterior" (annealed, needs ``noise``), "guided" (diffusion posterior sampling), or "projected" (hard
            projection, for noiseless masks of densities whose transform keeps columns apart).
        noise: standard deviation of the measurement's noise.
        num_draws: draws.
        num_steps: steps of the walk of "guided" and "projected".
        image_shape: shape in which the operator sees a point, the density's event shape when not given.
        annealing: sizes of "posterior".
        seed: of the run.

    Raises:
        DataError: an unknown method, a missing or needless noise, a method that the operator does not allow, or a
            transform that mixes columns.
        ValueError: a measurement that does not fit the operator.
    """
    if method not in ("posterior", "guided", "projected"):
        raise DataError(f"there is no method {method!r}: choose posterior, guided or projected")
    if method == "posterior" and (noise is None or not noise > 0):
        raise DataError(f"method posterior needs a positive noise, got {noise}")
    check_operator(operator)
    y = torch.as_tensor(y, device="cpu")
    y = y.to(torch.complex128 if y.is_complex() else torch.float64)
    shape = tuple(image_shape or density.event_shape)
    if math.prod(shape) != len(density.columns):
        raise DataError(f"image_shape {shape} does not hold {len(density.columns)} columns")

    def seen(x: Tensor) -> Tensor:
        return x.reshape(-1, *shape)

    if method == "posterior":
        draws, stats = _posterior(density, operator, y, (seen, noise, num_draws, seed, annealing))
    else:
        generator = torch.Generator().manual_seed(seed)
        call = _guided if method == "guided" else _projected
        u, stats = call(density, operator, y, seen, (num_draws, num_steps), generator)
        with torch.no_grad():
            draws = density.transform.inv(u.double().cpu())
    residual = (operator.forward(seen(draws)) - y).abs().square()
    return Reconstruction(draws.reshape(-1, *density.event_shape), method, float(residual.mean().sqrt()), stats)


def _posterior(density: Density, operator: LinearOperator, y: Tensor, how: tuple) -> tuple[Tensor, dict[str, Any]]:
    seen, noise, num_draws, seed, annealing = how
    found = operator.forward(seen(density.pool[:1].double()))
    if found.shape[1:] != y.shape or found.is_complex() != y.is_complex():
        raise DataError(
            f"expected a {'complex' if found.is_complex() else 'real'} measurement of shape {tuple(found.shape[1:])}, got "
            f"{y.dtype} {tuple(y.shape)}"
        )
    count = y.numel() * (2 if y.is_complex() else 1)
    constant = -0.5 * count * math.log(2 * math.pi * noise**2)

    def log_likelihood(x: Tensor) -> Tensor:
        misfit = (y - operator.forward(seen(x))).abs().square().flatten(1).sum(1)
        return constant - 0.5 * misfit / noise**2

    result = posterior(density, log_likelihood, num_draws=num_draws, seed=seed, settings=annealing)
    stats = {
        "acceptance_rate": result.acceptance_rate,
        "r_hat": result.r_hat,
        "log_z": result.log_z,
        "standard_error": result.standard_error,
        "verdict": result.estimate.verdict,
    }
    return result.draws.flatten(1), stats


def _guided(
    density: Density,
    operator: LinearOperator,
    y: Tensor,
    seen: Any,
    sizes: tuple[int, int],
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Any]]:
    settings = DPSSettings(walk=DDIMSettings(num_steps=sizes[1], eta=1.0))

    def to_operand(u: Tensor) -> Tensor:
        return seen(density.transform.inv(u.double().cpu()))

    found = sample_dps(
        density.model, operator, y, sizes[0], settings=settings, to_operand=to_operand, generator=generator
    )
    return found.draws, {}


def _projected(
    density: Density,
    operator: LinearOperator,
    y: Tensor,
    seen: Any,
    sizes: tuple[int, int],
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Any]]:
    if not isinstance(operator, Mask):
        raise DataError(
            f"projection acts in model space, where only single entries keep their meaning: it takes a Mask, got "
            f"{type(operator).__name__}; use guided or posterior"
        )
    like = density.pool[:1].double()
    density.transform.column_log_jacobian(like)  # refuses a transform that mixes columns
    if y.shape != (int(operator.is_observed.sum()),):
        raise DataError(f"expected {int(operator.is_observed.sum())} observed entries, got {tuple(y.shape)}")
    row = operator.project(seen(like), y[None]).reshape(1, -1)
    with torch.no_grad():
        u = density.transform(row).to(density.model.device, density.model.dtype)
    flat = Mask(operator.is_observed.reshape(-1).to(u.device))
    settings = PredictorCorrectorSettings(walk=DDIMSettings(num_steps=sizes[1], eta=1.0))
    found = sample_projected(density.model, flat, flat.forward(u)[0], sizes[0], settings=settings, generator=generator)
    return found.draws, {"acceptance_rate": float(found.stats["acceptance_rate"].mean())}
