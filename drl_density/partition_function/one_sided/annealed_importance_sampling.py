r"""Annealed importance sampling with adjusted chains along a path of unnormalised densities.

Particles start as exact draws of a normalised base and walk over densities f_0 (the base), f_1, ..., f_N (the target),
with a few adjusted kernel steps on each. With the log weight :math:`\sum_n \log f_{n+1}(x_n) - \log f_n(x_n)`,
:math:`\frac1M\sum_m w_m` is an unbiased estimate of Z, so its logarithm is a stochastic lower bound of log Z. Step sizes
and scales come from a pilot run whose particles are thrown away. Adapting on the weighted particles themselves would
break unbiasedness.

What the weights cannot show, walks back from moved draws of the target can: see
:mod:`~drl_density.partition_function.one_sided.other_side`.

Source: Neal 2001; Jarzynski 1997; Del Moral, Doucet and Jasra 2006 for the resampled form.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.partition_function.annealing.path import AnnealingPath
from drl_density.partition_function.annealing.plan import AISPlan, plan_annealing
from drl_density.partition_function.annealing.reverse import reverse_anneal
from drl_density.partition_function.annealing.run import AnnealingRun, anneal
from drl_density.partition_function.annealing.settings import AISSettings
from drl_density.partition_function.one_sided.other_side import (
    OtherSideSettings,
    chosen_draws,
    compare,
    mixed_draws,
    with_reasons,
)
from drl_density.partition_function.one_sided.unvisited import flat_base, unvisited
from drl_density.records.given import given_or_default
from drl_density.weights import Estimate, LogPartitionEstimate, OtherSide, assess_weights, judge_estimate


@outside_inference_mode
def annealed_importance_sampling(
    path: AnnealingPath,
    *,
    settings: AISSettings | None = None,
    plan: AISPlan | None = None,
    other_side: OtherSideSettings | None = OtherSideSettings(),  # noqa: B008 - frozen
    generator: torch.Generator | None = None,
) -> LogPartitionEstimate:
    """Estimate log Z of the path's target: a stochastic lower bound with its standard error and a verdict.

    Where the weights are even the estimate is checked from the other side, which takes about as many evaluations again.
    Along a path to a target without levels, modes and tails that no particle has entered are looked for as well. Without
    this check the verdict is ``DOUBTFUL`` at best.

    Warns with :class:`~drl_density.errors.UnreliableEstimateWarning` when the verdict is ``UNRELIABLE``.

    Args:
        path: result of :func:`sequence_path`, :func:`geometric_path` or :func:`place_bridges`.
        plan: frozen step sizes and scales; tuned on a discarded pilot when not given.
        other_side: sizes of the check from the other side; ``None`` leaves it out.

    Raises:
        NumericalError: every particle of a replicate lost its weight.
        ValueError: a single replicate, which shows no error.

    >>> import math
    >>> import pyro.distributions as dist
    >>> from drl_density.partition_function import geometric_path
    >>> base = dist.Normal(torch.zeros(2), 2.0).to_event(1)
    >>> path = geometric_path(base, lambda x: -0.5 * (x**2).sum(-1) + 3.0, num_bridges=20)
    >>> estimate = annealed_importance_sampling(path, generator=torch.Generator().manual_seed(0))
    >>> abs(estimate.log_z - (3.0 + math.log(2 * math.pi))) < 5 * estimate.standard_error, str(estimate.verdict)
    (True, 'reliable')
    """
    settings = given_or_default(settings, AISSettings)
    settings.check_error()
    plan = plan_annealing(path, settings, generator=generator) if plan is None else plan
    run = anneal(path, plan, settings, generator=generator)
    summary = run.summary(settings)
    found = assess_weights(run.log_weights, bias="lower", path=summary)
    seen = None
    if found.is_one_sided and other_side is not None:
        seen = annealing_backwards(path, plan, settings, run, found, other_side, generator=generator)
    return judge_estimate(run.log_weights, bias="lower", path=summary, other_side=seen)


def annealing_backwards(
    path: AnnealingPath,
    plan: AISPlan,
    settings: AISSettings,
    run: AnnealingRun,
    estimate: LogPartitionEstimate,
    sizes: OtherSideSettings,
    *,
    searches: bool = True,
    generator: torch.Generator | None = None,
) -> OtherSide:
    """Check an annealing run from the other side: draws, moved on by the path's last kernel, and walks back from them.

    Args:
        path: densities of the run.
        plan: step sizes and scales of the run.
        settings: settings of the run.
        run: the run.
        estimate: log Z of its weights.
        sizes: sizes of the check.
        searches: whether modes and tails of a target without levels are looked for.
    """
    num_draws = sizes.draws_of(settings.num_particles, settings.num_replicates)
    start = chosen_draws(run.particles, run.log_weights, num_draws, generator=generator)
    mixed = mixed_draws(path, plan, settings, start, sizes.num_mixing_steps, generator)
    forward, shape = run.log_weights, estimate.pareto_k
    if settings.resample_below is not None:  # weights of resampled walks are those of their groups
        shape = math.nan
        plain = dataclasses.replace(settings, num_particles=num_draws, resample_below=None, num_kept=0)
        forward = anneal(path, plan, plain, generator=generator).log_weights

    def upward(rows: Tensor) -> Tensor:
        return reverse_anneal(path, plan, settings, rows, generator=generator)

    target = path.log_densities[-1]
    point = Estimate(estimate.log_z, estimate.larger_error)
    found = compare(point, forward, mixed, upward, target, pareto_k=shape)
    if path.is_sequence or not searches or not found.is_sound:
        return found
    event_shape = start.shape[1:]
    reasons = unvisited(
        lambda x: target(x.reshape(len(x), *event_shape)).double(),
        flat_base(path.base, event_shape),
        mixed.late.double().reshape(settings.num_replicates, num_draws, -1),
        estimate.log_z,
        kernel=settings.kernel,
        num_swept=sizes.num_swept,
        generator=generator,
    )
    return with_reasons(found, *reasons)
