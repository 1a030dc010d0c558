r"""Running averages and extrapolations of denoised estimates, band by band of an orthonormal transform.

The estimates of successive levels are combined in data space, each frequency band with its own weight, because low
frequencies settle before high ones. A combination of posterior means is not a posterior mean, so no estimate of a density
uses it.

Weights in (0, 1] average, as in the paper. On Gaussian data with exact denoisers, DDIM and ancestral steps end with too
little spread at every frequency, and every average takes more of it away: the derivations prove it. Weights above 1
extrapolate, and there is one for each band that makes the spread exact. :func:`matched_average` finds it. For many even
steps it is near 1.5, the rule of :class:`~drl_density.samplers.MultistepDenoiser`. Denoisers of trained networks can end
with too much spread; :func:`calibrated_average` measures it.

Source: the idea of averages in bands is that of Qian et al. 2024 (arXiv 2403.17870), whose weights are not published.
Weights above 1, and their choice by the spread, are our own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.distributions import SampleResult
from drl_density.model import EnergySequence
from drl_density.records.brief import brief
from drl_density.samplers.averages.transforms import check_axes
from drl_density.samplers.ddim import sample_ddim
from drl_density.samplers.walk import Denoiser, StepRecord


@dataclass(frozen=True, eq=False)
class FrequencyAverage:
    """Moving average m <- (1 - w) m + w c of the coefficients c of each denoised estimate, starting at the first.

    A weight above 1 extrapolates: the estimate is m + w (c - m), and c becomes the next m.

    Attributes:
        axes: orthonormal transform of the flattened point ``(d, d)``; the coefficients are ``x @ axes``.
        early: weight w of each coefficient at the noisiest level, ``(d,)``; 1 keeps only the new estimate.
        late: weight of each coefficient at the cleanest level, ``(d,)``; w is linear in the level between the two.

    Raises:
        ValueError: axes that are not orthonormal, or weights that are not positive and finite.

    >>> average = FrequencyAverage(torch.eye(2), torch.ones(2), torch.full((2,), 0.5))
    >>> estimate, memory = average(torch.ones(1, 2), torch.zeros(1, 2), 1.0)
    >>> estimate
    tensor([[0.5000, 0.5000]])
    """

    axes: Tensor
    early: Tensor
    late: Tensor

    __repr__ = brief

    def __post_init__(self) -> None:
        check_axes(self.axes)
        count = len(self.axes)
        for weight in (self.early, self.late):
            if weight.shape != (count,) or not bool(((weight > 0) & weight.isfinite()).all()):
                raise ValueError(f"weights must be ({count},) positive numbers, got shape {tuple(weight.shape)}")

    def __call__(self, clean: Tensor, memory: Tensor | None, progress: float) -> tuple[Tensor, Tensor]:
        """The combined estimate and the new memory, at ``progress`` from 0 (noisiest) to 1 (cleanest)."""
        coefficients = clean.flatten(1) @ self.axes.to(clean)
        weight = ((1 - progress) * self.early + progress * self.late).to(clean)
        last = coefficients if memory is None else memory
        change = torch.where(weight == 1, 0.0, (1 - weight) * (last - coefficients))
        # A weight above 1 extrapolates from the last estimate alone, which leaves no memory to average.
        memory = last + weight.clamp(max=1) * (coefficients - last)
        return clean + (change @ self.axes.to(clean).T).reshape(clean.shape), memory


class AveragedDenoiser:
    """A denoiser ``(x, level)`` that returns the combination of its estimates on a walk down the levels.

    A new walk begins at level T, without memory.

    Args:
        average: the transform and its weights.
        denoiser: ``denoiser(x, level)``, the estimate of the clean point to average.
        num_levels: level T at which the walk starts.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> average = AveragedDenoiser(moving_average(2, 0.5), model.denoise, model.num_levels)
    >>> average(torch.zeros(3, 2).double(), 8.0).shape
    torch.Size([3, 2])
    """

    def __init__(self, average: FrequencyAverage, denoiser: Denoiser, num_levels: int) -> None:
        self.average, self.denoiser, self.num_levels = average, denoiser, num_levels
        self.memory: Tensor | None = None

    def __call__(self, x: Tensor, level: float) -> Tensor:
        if level == self.num_levels:
            self.memory = None
        clean, self.memory = self.average(self.denoiser(x, level), self.memory, 1 - level / self.num_levels)
        return clean


class DenoisedSampler(Protocol):
    """A sampler that takes a denoiser: ``sample_ddim``, ``sample_ancestral``, ``sample_flow`` or the predictor-corrector."""

    def __call__(
        self,
        model: EnergySequence,
        num_samples: int,
        *,
        settings: Any = None,
        denoiser: Denoiser | None = None,
        generator: torch.Generator | None = None,
        on_step: Callable[[StepRecord], None] | None = None,
    ) -> SampleResult:
        """Draws ``(num_samples, *event)``; ``settings`` is the sampler's own record."""
        ...


@outside_inference_mode
def sample_averaged(
    model: EnergySequence,
    num_samples: int,
    *,
    average: FrequencyAverage,
    sampler: DenoisedSampler = sample_ddim,
    settings: Any = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SampleResult:
    """Draws ``(num_samples, *event)`` of any sampler that takes a denoiser, from averaged estimates.

    The noise direction of every step follows from the averaged estimate, which keeps x = alpha x_0 + sigma eps.

    Args:
        average: transform and weights of the average.
        sampler: ``sample_ddim``, ``sample_ancestral``, ``sample_predictor_corrector`` or ``sample_flow``.
        settings: record of the chosen sampler, such as :class:`DDIMSettings`.
        on_step: called with a :class:`StepRecord` after each step.

    Raises:
        TypeError: an average that is no :class:`FrequencyAverage`.
        ValueError: an average for points of another size, or a ``num_samples`` that is not a positive integer.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> from drl_density.samplers import DDIMSettings
    >>> model = GaussianMixtureSequence.example().model
    >>> sample_averaged(model, 4, average=moving_average(2, 0.5), settings=DDIMSettings(num_steps=5)).draws.shape
    torch.Size([4, 2])
    """
    if not isinstance(average, FrequencyAverage):
        raise TypeError(
            f"average must be a FrequencyAverage, got {type(average).__name__}: calibrated_average(...) finds its "
            "weights, and moving_average(num_features, weight) has one weight"
        )
    num_features = torch.Size(model.event_shape).numel()
    if len(average.axes) != num_features:
        raise ValueError(f"the average is for {len(average.axes)} coefficients, points have {num_features}")
    denoiser = AveragedDenoiser(average, model.denoise, model.num_levels)
    return sampler(model, num_samples, settings=settings, denoiser=denoiser, generator=generator, on_step=on_step)


def moving_average(num_features: int, weight: float) -> FrequencyAverage:
    """The plain moving average, with one weight for every coordinate at every level.

    Args:
        weight: weight of the new estimate: up to 1 for an average, above 1 for an extrapolation.

    >>> moving_average(3, 0.5).late
    tensor([0.5000, 0.5000, 0.5000])
    """
    return FrequencyAverage(torch.eye(num_features), *(torch.full((num_features,), weight) for _ in range(2)))
