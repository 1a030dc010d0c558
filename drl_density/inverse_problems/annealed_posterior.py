"""Draws of prior times likelihood, or of the end of any path, by annealing with adjusted moves and weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.mcmc import take_steps
from drl_density.model import EnergySequence
from drl_density.partition_function import (
    AISSettings,
    AnnealingPath,
    OtherSideSettings,
    anneal,
    plan_annealing,
    sequence_path,
)
from drl_density.partition_function.one_sided.annealed_importance_sampling import annealing_backwards
from drl_density.records.brief import brief
from drl_density.records.given import given_or_default
from drl_density.shapes import check_num_samples
from drl_density.weights import LogPartitionEstimate, assess_weights, judge_estimate, resample

LogLikelihood = Callable[[Tensor], Tensor]
# Chains kept for diagnostics: R-hat needs several, and each costs memory for every step.
MOST_CHAINS = 16
# Draws of each replicate from which walks back check the integral.
NUM_CHECKED = 32


@dataclass(frozen=True, eq=False)
class AnnealedPosterior:
    """Outcome of :func:`sample_path` and :func:`sample_posterior`.

    Attributes:
        draws: draws in model space, ``(num_samples, *event)``, each the end of an adjusted chain that starts at a particle
            resampled by its weight.
        estimate: log of the integral of the last density, such as exp(F_0) times the likelihood.
        chains: the chains of up to 16 of the draws, ``(chain, step, *event)``.
        acceptance_rate: mean acceptance of the chains at the end.
    """

    draws: Tensor
    estimate: LogPartitionEstimate
    chains: Tensor
    acceptance_rate: float

    __repr__ = brief


@outside_inference_mode
def sample_posterior(
    model: EnergySequence,
    likelihood_at: Callable[[float], LogLikelihood],
    num_samples: int,
    *,
    settings: AISSettings | None = None,
    steps_per_level: int = 8,
    num_final_steps: int = 200,
    generator: torch.Generator | None = None,
) -> AnnealedPosterior:
    """Draws of the posterior, proportional to exp(F_0) times a likelihood.

    Args:
        likelihood_at: ``likelihood_at(level)`` gives the log-likelihood of states of that level, ``(n, *event) -> (n,)``.
            Any sequence that ends with the likelihood itself at level 0 is valid; one that widens towards T is efficient.
        settings: sizes of the annealing run.
        steps_per_level: densities of the path per unit of level.
        num_final_steps: kernel steps of the chains at the end.

    Raises:
        NumericalError: every particle lost its weight, or the prior is improper, so that the evidence is undefined.
        ValueError: a ``num_samples`` that is not a positive integer.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> settings = AISSettings(num_particles=16, num_replicates=2, num_pilot_particles=16)
    >>> sizes = {"steps_per_level": 1, "num_final_steps": 8}
    >>> sample_posterior(model, lambda level: lambda x: -x[:, 0], 8, settings=settings, **sizes).draws.shape
    torch.Size([8, 2])
    """
    usual = AISSettings(num_particles=512, num_replicates=8, num_transitions=4, num_pilot_particles=512)
    settings = given_or_default(settings, AISSettings, default=usual)
    plain = sequence_path(model, steps_per_level=steps_per_level)
    pairs = zip(plain.levels, plain.log_densities, strict=True)
    path = dataclasses.replace(plain, log_densities=tuple(_sum(part, likelihood_at(level)) for level, part in pairs))
    return sample_path(path, num_samples, settings=settings, num_final_steps=num_final_steps, generator=generator)


@outside_inference_mode
def sample_path(
    path: AnnealingPath,
    num_samples: int,
    *,
    settings: AISSettings,
    num_final_steps: int = 200,
    generator: torch.Generator | None = None,
) -> AnnealedPosterior:
    """Draws of the last density of a path, by weighted particles along it and adjusted chains at its end.

    Args:
        path: densities from a base with exact draws to the density to sample.
        settings: sizes of the annealing run.
        num_final_steps: kernel steps of the chains at the end.

    Raises:
        NumericalError: every particle lost its weight.
        ValueError: a ``num_samples`` that is not a positive integer, or no steps at the end.

    >>> import pyro.distributions as dist
    >>> from drl_density.partition_function import geometric_path
    >>> path = geometric_path(dist.Normal(torch.zeros(1), 1.0).to_event(1), lambda x: -2 * (x**2).sum(-1), num_bridges=5)
    >>> settings = AISSettings(num_particles=32, num_replicates=2)
    >>> sample_path(path, 20, settings=settings, generator=torch.Generator().manual_seed(0)).draws.shape
    torch.Size([20, 1])
    """
    check_num_samples(num_samples)
    if num_final_steps < 1:
        raise ValueError(f"num_final_steps must be at least 1, got {num_final_steps}")
    plan = plan_annealing(path, settings, generator=generator)
    run = anneal(path, plan, settings, generator=generator)
    found, seen = assess_weights(run.log_weights, bias="lower", path=run.summary(settings)), None
    if found.is_one_sided:
        sizes = OtherSideSettings(num_samples=NUM_CHECKED, num_mixing_steps=num_final_steps)
        seen = annealing_backwards(path, plan, settings, run, found, sizes, searches=False, generator=generator)
    estimate = judge_estimate(run.log_weights, bias="lower", path=found.path, other_side=seen)
    rows = run.particles.flatten(0, 1)[resample(run.log_weights.flatten(), num_samples, generator=generator)]
    rows = rows[torch.randperm(num_samples, generator=generator)]
    kernel, kept = settings.kernel.with_scale(plan.scales[-1]), []
    state, rate, _ = take_steps(
        kernel,
        kernel.init(rows, path.log_densities[-1]),
        path.log_densities[-1],
        num_steps=num_final_steps,
        step_size=plan.step_sizes[-1],
        generator=generator,
        on_step=lambda state, _: kept.append(state.position[:MOST_CHAINS]),
    )
    return AnnealedPosterior(state.position, estimate, torch.stack(kept, 1), float(rate.mean()))


def _sum(log_density: LogLikelihood, log_likelihood: LogLikelihood) -> LogLikelihood:
    return lambda x: log_density(x) + log_likelihood(x)
