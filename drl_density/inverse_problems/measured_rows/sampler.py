r"""Draws of clean points for many measurements at once, where the network itself judges them at every level.

Given a state of level t, the clean point is the network's estimate plus an error,
:math:`x_0 = \hat x_0(x_t) + e`. If e is normal with the covariance of the errors that the network makes on rows, then
:math:`x_0 \mid x_t, y` is normal too, in closed form for any linear measurement. The sampler

1. walks down to the level where :math:`\rho = \sigma_t / \alpha_t` is small beside the noise s of the measurement. Each
   step draws a clean point given state and measurement, and then the cleaner state given both;
2. moves states of that level by adjusted steps on :math:`F_t(x_t) + \log N(y;\ A x_t / \alpha_t,\ s^2 I - \rho^2 A A^*)`.
   This is their exact posterior: noise s of the measurement is noise :math:`\rho` of the state plus the rest;
3. walks down to level 0 without the measurement, of which the state contains all there is to know.

Where no level has so little noise, the walk continues to level 0 with the measurement.

Source: ours. A normal law of x_0 given x_t is in Song et al. 2023 (PiGDM) and Zhu et al. 2023 (DiffPIR), with one variance
for all pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.devices import normal_draws
from drl_density.distributions import SampleResult
from drl_density.inverse_problems.conditioned_base import check_noise
from drl_density.inverse_problems.measured_rows.errors import DenoisingErrors
from drl_density.inverse_problems.measured_rows.gaussian import MeasuredGaussian, Measurements
from drl_density.mcmc import MALA, Kernel, RobbinsMonro, Tuner, take_steps
from drl_density.model import EnergySequence
from drl_density.operators.gram import GramBlocks
from drl_density.records.fields import NonNegativeInt, PositiveFloat, PositiveInt, check_fields
from drl_density.records.given import given_or_default
from drl_density.samplers.ddim import ddim_step
from drl_density.samplers.walk import starting_noise
from drl_density.shapes import check_num_samples

# Largest share of the measurement's variance that the noise of a state may explain: the rest keeps every matrix regular.
MOST_EXPLAINED = 0.5


@dataclass(frozen=True)
class MeasuredRowSettings:
    """Steps of :func:`sample_measured_rows`.

    Attributes:
        num_final_steps: adjusted steps at the level where the posterior is exact.
        kernel: adjusted kernel of these steps.
        step_size: their first step size, which adapts to the acceptance rate.
        batch_size: rows that pass the network together.
    """

    num_final_steps: NonNegativeInt = 60
    kernel: Kernel = MALA()
    step_size: PositiveFloat = 0.3
    batch_size: PositiveInt = 64

    def __post_init__(self) -> None:
        check_fields(self)


@outside_inference_mode
def sample_measured_rows(
    model: EnergySequence,
    gram: GramBlocks,
    y: Tensor,
    num_samples: int,
    *,
    errors: DenoisingErrors,
    noise: float,
    settings: MeasuredRowSettings | None = None,
    generator: torch.Generator | None = None,
) -> SampleResult:
    """Draws of clean points for each of many measurements, ``(n, num_samples, *event)``.

    Args:
        model: the prior, with any base or none.
        gram: blocks of the operator's A* A.
        y: measurements ``(n, *measured)``, all of the same operator.
        num_samples: number of draws for each measurement.
        errors: laws of the errors of the model's estimates.
        noise: standard deviation s of the measurement noise; for a complex one, that of its real and imaginary parts.
        settings: numbers and sizes of the steps.

    Returns:
        The draws, with the mean ``acceptance_rate`` of the adjusted steps of each, ``(n, num_samples)``; NaN where there
        were none.

    Raises:
        TypeError: an operator in place of its blocks.
        ValueError: noise that is not positive, measurements that are not finite, an operator on points of another shape, or
            a ``num_samples`` that is not a positive integer.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import MLP, MLPSettings
    >>> from drl_density.operators import Mask
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), MLP(MLPSettings(2)), event_shape=(2,))
    >>> errors = DenoisingErrors.fit(model, torch.randn(32, 2), num_steps=4, num_factors=(1,))
    >>> gram = GramBlocks(Mask(torch.tensor([True, False])), (2,))
    >>> sample_measured_rows(model, gram, torch.tensor([[2.0], [1.0]]), 3, errors=errors, noise=0.1).draws.shape
    torch.Size([2, 3, 2])
    """
    settings = given_or_default(settings, MeasuredRowSettings)
    check_num_samples(num_samples)
    if not isinstance(gram, GramBlocks):
        raise TypeError(f"gram must be GramBlocks(operator, event_shape), got {type(gram).__name__}")
    if gram.event_shape != tuple(model.event_shape):
        raise ValueError(f"expected an operator on points of shape {tuple(model.event_shape)}, got {gram.event_shape}")
    check_noise(noise)
    walk = _Walk(model, errors, generator)
    measured = Measurements.of(gram, y).repeat(num_samples)
    split = _exact_level(model, errors.levels, gram.largest, noise)
    last = len(errors.levels) - 1 if split is None else split
    laws = [
        MeasuredGaussian(loadings, noises, gram, noise=noise)
        for loadings, noises in zip(errors.loadings[: last + 1], errors.noises[: last + 1], strict=True)
    ]
    found, rates = [], []
    for pulled, squares in zip(
        measured.pulled.split(settings.batch_size), measured.squares.split(settings.batch_size), strict=True
    ):
        part = Measurements(pulled, squares)
        x = starting_noise(model, len(part), generator)
        for index in range(last):
            x = walk.step(x, index, laws[index], part)
        rate = x.new_full((len(x),), torch.nan)
        if split is None:
            found.append(walk.clean(x, last, laws[last], part))
        else:
            x, rate = _exact_steps(model, x, errors.levels[split], part, gram, noise, settings, generator)
            for index in range(split, len(errors.levels) - 1):
                x = walk.step(x, index)
            found.append(walk.clean(x, len(errors.levels) - 1))
        rates.append(rate)
    draws = torch.cat(found).reshape(len(y), num_samples, *model.event_shape)
    return SampleResult(draws, {"acceptance_rate": torch.cat(rates).reshape(len(y), num_samples)})


@dataclass(frozen=True, eq=False)
class _Walk:
    """Draws of clean points, and of cleaner states, under the laws of the errors.

    Attributes:
        model: the prior.
        errors: laws of the errors of its estimates.
        generator: source of the draws.
    """

    model: EnergySequence
    errors: DenoisingErrors
    generator: torch.Generator | None

    def step(
        self, x: Tensor, index: int, law: MeasuredGaussian | None = None, measured: Measurements | None = None
    ) -> Tensor:
        """States of the next level, given those of this one."""
        start, end = self.errors.levels[index : index + 2]
        clean = self.clean(x, index, law, measured)
        return ddim_step(self.model, x, clean, start=start, end=end, eta=1.0, generator=self.generator)

    def clean(
        self, x: Tensor, index: int, law: MeasuredGaussian | None = None, measured: Measurements | None = None
    ) -> Tensor:
        """Draws of clean points ``(n, *event)``, given the measurements too where there are any."""
        estimate = self.model.denoise(x, self.errors.levels[index]).flatten(1)
        if law is not None and measured is not None:
            return law.sample(estimate, measured, generator=self.generator).to(x).reshape(x.shape)
        loadings, noises = self.errors.loadings[index].to(x), self.errors.noises[index].to(x)
        factors = normal_draws((len(x), loadings.shape[1]), x, self.generator)
        apart = noises.sqrt() * normal_draws(estimate.shape, x, self.generator)
        return (estimate + factors @ loadings.T + apart).reshape(x.shape)


def _exact_level(model: EnergySequence, levels: tuple[float, ...], largest: float, noise: float) -> int | None:
    """Index of the first level whose noise explains at most half of the measurement's; None if there is none."""
    for index, level in enumerate(levels):
        ratio = float(torch.exp(-model.schedule.log_snr_at(level).double()))
        if ratio * largest <= MOST_EXPLAINED * noise**2:
            return index
    return None


def _exact_steps(
    model: EnergySequence,
    x: Tensor,
    level: float,
    measured: Measurements,
    gram: GramBlocks,
    noise: float,
    settings: MeasuredRowSettings,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """States moved by adjusted steps on their exact posterior; their acceptance rates."""
    alpha = float(model.schedule.alpha_at(level))
    ratio = float(torch.exp(-model.schedule.log_snr_at(level).double()))
    # The quadratic form of s^2 I - rho^2 A A*, whose inverse J acts between A* and A: A* J A = J G for J of G's blocks.
    identity = torch.eye(gram.groups.shape[1], dtype=torch.float64)
    inverse = torch.linalg.inv(noise**2 * identity - ratio * gram.blocks)
    curvature, pulled = inverse @ gram.blocks, inverse @ gram.split(measured.pulled)

    def log_density(state: Tensor) -> Tensor:
        parts = gram.split(state.flatten(1).double() / alpha)
        likelihood = (parts * (pulled - 0.5 * curvature @ parts)).sum((0, 1))
        return model.log_density(state, level).double() + likelihood

    state = settings.kernel.init(x, log_density)
    # The mean squared score is the Fisher information, whose inverse root is the scale of each coordinate.
    kernel = settings.kernel.with_scale(state.gradient.square().mean(0).rsqrt())
    tuner = Tuner(RobbinsMonro(kernel.target_acceptance, gain=0.5), settings.step_size)
    state, rate, _ = take_steps(
        kernel, state, log_density, num_steps=settings.num_final_steps, step_size=tuner, generator=generator
    )
    return state.position, rate.to(x)
