r"""Few-step sampling with the denoisers of an energy sequence: DDIM, ancestral steps, inversion and interpolation.

From level t to a cleaner level s, with the denoised estimate :math:`\hat x_0` and
:math:`\hat\epsilon = (x_t - \alpha_t \hat x_0) / \sigma_t`,

.. math:: x_s = \alpha_s \hat x_0 + \sqrt{\sigma_s^2 - c^2}\,\hat\epsilon + c z, \qquad
    c = \eta\,\frac{\sigma_s}{\sigma_t} \sqrt{1 - \alpha_t^2 / \alpha_s^2}.

:math:`\eta = 0` is deterministic (Euler's rule for the probability flow), :math:`\eta = 1` the ancestral step of the normal
approximation. The draws are not exactly from the energy-based model; :func:`~drl_density.samplers.sample_refined` continues
them by adjusted chains, whose limit is.

Source: Song, Meng and Ermon 2021 (arXiv 2010.02502), equation 12.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.devices import normal_draws
from drl_density.distributions import SampleResult
from drl_density.model import EnergySequence
from drl_density.records.fields import NonNegativeFloat, PositiveInt, Share, check_fields
from drl_density.records.given import given_or_default
from drl_density.samplers.walk import Denoiser, DenoisingPrior, StepRecord, falling_levels, starting_noise


@dataclass(frozen=True)
class DDIMSettings:
    """Steps of DDIM down the noise levels, and the randomness of each step.

    Attributes:
        num_steps: number of steps from level T to level 0, evenly spaced in level.
        levels: the levels themselves, falling from T to 0, instead of ``num_steps``.
        eta: 0 for deterministic steps, 1 for ancestral ones, or any value between.
        is_denoised: whether to return the denoised estimate at level 0 instead of the state, which has a little noise.

    Raises:
        ValueError: an eta outside [0, 1], or no steps.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> DDIMSettings(num_steps=4).walk(model)
    (8.0, 6.0, 4.0, 2.0, 0.0)
    """

    num_steps: PositiveInt = 50
    levels: tuple[NonNegativeFloat, ...] | None = None
    eta: Share = 0.0
    is_denoised: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    def walk(self, model: DenoisingPrior) -> tuple[float, ...]:
        """The levels from T to 0.

        Raises:
            ValueError: levels that do not fall from T to 0.
        """
        return falling_levels(model.num_levels, self.num_steps, self.levels)


@outside_inference_mode
def sample_ddim(
    model: EnergySequence,
    num_samples: int,
    *,
    settings: DDIMSettings | None = None,
    denoiser: Denoiser | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SampleResult:
    """Draws by DDIM, ``(num_samples, *event)``.

    Args:
        denoiser: ``denoiser(x, level)``, an estimate of the clean point; the model's own by default.
        noise: latent codes at level T, ``(num_samples, *event)``; draws of N(0, I) by default.
        on_step: called with a :class:`StepRecord` after each step.

    Raises:
        ValueError: levels out of order, noise of another shape, or a ``num_samples`` that is not a positive integer.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> sample_ddim(model, 4, settings=DDIMSettings(num_steps=5)).draws.shape
    torch.Size([4, 2])
    """
    settings = given_or_default(settings, DDIMSettings)
    denoiser = model.denoise if denoiser is None else denoiser
    levels = settings.walk(model)
    x = starting_noise(model, num_samples, generator, noise=noise)
    for start, end in zip(levels, levels[1:], strict=False):
        x = ddim_step(model, x, denoiser(x, start), start=start, end=end, eta=settings.eta, generator=generator)
        if on_step is not None:
            on_step(StepRecord(end, x, math.nan))
    return SampleResult(denoiser(x, 0.0) if settings.is_denoised else x)


class MultistepDenoiser:
    r"""A denoiser for :func:`sample_ddim` that extrapolates its estimates along the walk, at no further calls.

    .. math:: \hat x_0(x_{t_i}) + \frac{h_i}{2 h_{i-1}} \big(\hat x_0(x_{t_i}) - \hat x_0(x_{t_{i-1}})\big)

    Here :math:`h_i` is the change of log-SNR in the i-th step. This is the second-order multistep rule for the probability
    flow: the error of a deterministic walk falls as 1 / steps^2 in place of 1 / steps. The estimates at the first level and
    at level 0 are left as they are. A new walk begins at the first level.

    Args:
        model: the sequence that is walked down.
        settings: the walk, as :func:`sample_ddim` is given it.
        denoiser: ``denoiser(x, level)``, an estimate of the clean point; the model's own by default.

    Source: Lu et al. 2022 (arXiv 2211.01095), the rule "DPM-Solver++ (2M)".

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model, settings = GaussianMixtureSequence.example().model, DDIMSettings(num_steps=5)
    >>> sample_ddim(model, 4, settings=settings, denoiser=MultistepDenoiser(model, settings)).draws.shape
    torch.Size([4, 2])
    """

    def __init__(self, model: DenoisingPrior, settings: DDIMSettings, *, denoiser: Denoiser | None = None) -> None:
        self.levels = settings.walk(model)
        self.log_snr = [float(model.schedule.log_snr_at(level)) for level in self.levels]
        self.denoiser = model.denoise if denoiser is None else denoiser
        self.last: Tensor | None = None

    def __call__(self, x: Tensor, level: float) -> Tensor:
        """The extrapolated estimate at a level of the walk.

        Raises:
            ValueError: a level that is not on the walk, or a walk that does not begin at its first level.
        """
        if level not in self.levels:
            raise ValueError(f"level {level} is not on the walk {self.levels}: give the settings of the sampler")
        index, clean = self.levels.index(level), self.denoiser(x, level)
        last, self.last = self.last, clean
        if index in (0, len(self.levels) - 1):
            return clean
        if last is None:
            raise ValueError(f"a walk begins at level {self.levels[0]}, got {level}")
        before, here, after = self.log_snr[index - 1 : index + 2]
        return clean + 0.5 * (after - here) / (here - before) * (clean - last)


def invert_ddim(
    model: EnergySequence, x: Tensor, *, settings: DDIMSettings | None = None, denoiser: Denoiser | None = None
) -> Tensor:
    """Latent codes at level T of states of level 0, by the deterministic walk upward.

    Decoding the codes reproduces ``x`` up to an error that falls as 1 / steps.

    Args:
        x: states of level 0, ``(n, *event)``.
        denoiser: ``denoiser(x, level)``, an estimate of the clean point; the model's own by default.

    Raises:
        ValueError: an eta above 0, whose random steps cannot be inverted.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> system = GaussianMixtureSequence.example()
    >>> x, settings = system.sample(2, 0, generator=torch.Generator().manual_seed(0)), DDIMSettings(num_steps=40)
    >>> codes = invert_ddim(system.model, x, settings=settings)
    >>> again = sample_ddim(system.model, 2, settings=settings, noise=codes).draws
    >>> bool((again - x).abs().max() < 0.2)
    True
    """
    settings = given_or_default(settings, DDIMSettings)
    if settings.eta:
        raise ValueError(f"only the deterministic walk (eta = 0) can be inverted, got eta = {settings.eta}")
    denoiser = model.denoise if denoiser is None else denoiser
    levels = settings.walk(model)[::-1]
    for start, end in zip(levels, levels[1:], strict=False):
        x = ddim_step(model, x, denoiser(x, start), start=start, end=end)
    return x


def interpolate_codes(first: Tensor, second: Tensor, shares: Tensor) -> Tensor:
    """Spherical interpolation of two latent codes at several places, ``(n, *event)``.

    Args:
        first: code at share 0, ``(*event)``.
        second: code at share 1, ``(*event)``.
        shares: places in [0, 1] between the two codes, ``(n,)``.

    >>> codes = interpolate_codes(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.5]))
    >>> bool(((codes.norm(dim=1) - 1).abs() < 1e-6).all())
    True
    """
    a, b = first.flatten(), second.flatten()
    angle = torch.arccos((a @ b / (a.norm() * b.norm())).double())
    shares = shares.double()[:, None]
    # Below this angle sin(angle) loses its digits, and the arc is a straight line to within 1e-12.
    if float(angle) < 1e-6:
        mixed = (1 - shares) * a.double() + shares * b.double()
    else:
        mixed = (torch.sin((1 - shares) * angle) * a.double() + torch.sin(shares * angle) * b.double()) / torch.sin(
            angle
        )
    return mixed.to(first).reshape(len(shares), *first.shape)


def ddim_step(
    model: DenoisingPrior,
    x: Tensor,
    clean: Tensor,
    *,
    start: float,
    end: float,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One DDIM step from level ``start`` to level ``end``, upward too if ``eta`` is 0.

    Args:
        x: states of level ``start``, ``(n, *event)``.
        clean: denoised estimates of the states, ``(n, *event)``.
        start: level at which the states are.
        end: level that they are brought to.
        eta: 0 for a deterministic step, 1 for an ancestral one.
    """
    (alpha, sigma), (alpha_to, sigma_to) = (
        (float(model.schedule.alpha_at(level)), float(model.schedule.sigma_at(level))) for level in (start, end)
    )
    direction = (x - alpha * clean) / sigma
    spread = 0.0 if not eta else eta * sigma_to / sigma * math.sqrt(1 - (alpha / alpha_to) ** 2)
    moved = alpha_to * clean + math.sqrt(sigma_to**2 - spread**2) * direction
    if not spread:
        return moved
    return moved + spread * normal_draws(x.shape, x, generator)
