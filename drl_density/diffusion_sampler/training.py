r"""Learning the control of a denoising diffusion sampler without data, from both sides of log Z.

With target draws x noised backward, the upper bound (EUBO) and the lower one (ELBO) are

.. math:: E_{x, \text{noising}}[\log w] \ge \log Z \ge E_{\text{walk}}[\log w].

The upper bound exceeds log Z by the divergence of walks from the noised target, which is large if the walks miss any mass
of the target: lowering it covers the target. It is a sum over steps, so one random step of each draw is enough and nothing
is differentiated along a walk. The draws come from adjusted chains that continue while the control is learned. Raising the
lower bound, as in the paper, needs no draws and costs K evaluations along each walk; modes that no walk reaches stay out.

Sources: Vargas, Grathwohl and Doucet 2023 (arXiv 2302.13834); learning a proposal by the divergence from the target on a
chain's draws: Naesseth, Lindsten and Blei 2020 (arXiv 2003.10374).
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.descent import DescentRule, descend
from drl_density.devices import global_generator_kept
from drl_density.diffusion_sampler.control import ControlNetwork
from drl_density.diffusion_sampler.sampler import DiffusionSampler, Frame
from drl_density.diffusion_sampler.settings import DiffusionSamplerSettings, Whitening
from drl_density.errors import DivergenceWarning
from drl_density.mcmc import HMC, DualAveraging, LogDensity, Recording, run_chain, take_steps
from drl_density.partition_function.targets.over_reals import log_density_over_reals
from drl_density.records.given import given_or_default
from drl_density.shapes import as_event_shape, per_row
from drl_density.weights import resample

# Chains adapt their step size in NUM_WARMUP steps. Of the training's updates every UPDATES_PER_ROUND-th keeps the chains'
# positions, ROUNDS_KEPT at most: recent enough to be closer to the target, many enough to be diverse.
NUM_WARMUP, ROUNDS_KEPT, UPDATES_PER_ROUND = 200, 20, 5
# Walks from whose ends each chain's new start is drawn: enough where one walk in eight has a fair weight.
WALKS_PER_CHAIN = 8
# Stan's default, above HMC's optimum of 0.65: smaller steps reject less in narrow places such as the neck of a funnel.
TARGET_ACCEPTANCE = 0.8
ADVICE = "widen the scale or lower the learning rate"
# Smallest and largest multiple of the adapted step size that a transition may use.
STEP_SIZE_RANGE = (0.1, 2.0)


@dataclass(frozen=True)
class DiffusionTraining:
    """Course of the training of a diffusion sampler.

    Attributes:
        upper_bounds: estimated upper bound of log Z at every update on chains, valid once the chains have converged.
        lower_bounds: estimated lower bound of log Z at every update on walks.
        acceptance_rate: mean acceptance of the chains after their warm-up; NaN without chains.
        divergence_rate: share of the chains' transitions that diverged and were rejected; NaN without chains.

    >>> settings = DiffusionSamplerSettings(num_steps=4, width=8, num_chain_updates=4, num_chains=16, num_states=32)
    >>> _, seen = train_diffusion_sampler(lambda x: -0.5 * (x**2).sum(-1), (2,), settings=settings)
    >>> len(seen.upper_bounds), seen.lower_bounds, 0 < seen.acceptance_rate <= 1
    (4, [], True)
    """

    upper_bounds: list[float]
    lower_bounds: list[float]
    acceptance_rate: float
    divergence_rate: float


@outside_inference_mode
def train_diffusion_sampler(
    target: Any,
    event_shape: tuple[int, ...] | None = None,
    *,
    settings: DiffusionSamplerSettings | None = None,
    generator: torch.Generator | None = None,
) -> tuple[DiffusionSampler, DiffusionTraining]:
    """Learns a control on draws of adjusted chains, and after that on the sampler's own walks if the settings say so.

    Args:
        target: a Pyro distribution over all reals, normalised or not, or a differentiable function from rows
            ``(n, *event)``, float64, to unnormalised log densities ``(n,)``.
        event_shape: shape of one point, required with a function.

    Returns:
        the sampler, and the course of its training.

    Raises:
        TrainingFailed: the bound is still not finite after ``settings.most_rollbacks`` returns to an earlier network.
        ValueError: a function without an event shape, or one that does not give one number per row; a distribution with a
            batch shape, over less than all reals, or with another event shape than the one given; or a target that is not
            finite at draws of N(0, s^2 I), where chains start: use a smaller scale, or walks alone.

    >>> import pyro.distributions as dist
    >>> settings = DiffusionSamplerSettings(num_steps=4, width=8, num_chain_updates=5, num_chains=16, num_states=32)
    >>> sampler, seen = train_diffusion_sampler(dist.Normal(torch.zeros(2), 0.5).to_event(1), settings=settings)
    >>> sampler.sample(3).shape, len(seen.upper_bounds)
    (torch.Size([3, 2]), 5)
    """
    settings = given_or_default(settings, DiffusionSamplerSettings)
    log_density, shape = _resolve(target, event_shape)
    sampler = DiffusionSampler(log_density, shape, settings.shares(), scale=settings.scale)
    chains = _TargetChains(sampler, settings, generator) if settings.num_chain_updates else None
    if chains is not None:
        sampler.frame = chains.frame(settings.whitening)
    with global_generator_kept():
        network = ControlNetwork(sampler.log_density_at, shape.numel(), settings, generator)
    sampler.control = network
    upper: list[float] = []
    if chains is not None:
        upper = descend(
            network.parameters(),
            _upper_bounds(sampler, network, chains, settings, generator),
            _rule(settings.num_chain_updates, settings.learning_rate, settings),
            name="the bound",
            advice=ADVICE,
        )
    rate = settings.learning_rate / (5 if settings.num_chain_updates else 1)
    lower = descend(
        network.parameters(),
        lambda: -sampler.walk(settings.batch_size, generator=generator, with_held=network.with_held)[1].mean(),
        _rule(settings.num_walk_updates, rate, settings),
        name="the bound",
        advice=ADVICE,
    )
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    rates = chains.rates() if chains is not None else (math.nan, math.nan)
    return sampler, DiffusionTraining(upper, [-bound for bound in lower], *rates)


def _upper_bounds(
    sampler: DiffusionSampler,
    network: ControlNetwork,
    chains: _TargetChains,
    settings: DiffusionSamplerSettings,
    generator: torch.Generator | None,
) -> Callable[[], Tensor]:
    """A function that estimates the upper bound on draws of the chains, and lets these start again where it is time."""
    bound, calls = UpperBound(sampler), itertools.count()
    gap = settings.num_chain_updates / 2 / max(1, settings.num_restarts)
    restarts = {round(gap * index) for index in range(1, settings.num_restarts + 1)}

    def loss_of() -> Tensor:
        if next(calls) in restarts:
            chains.restart(sampler)
        return bound(network, *sampler.frame.to_walk(*chains.draws(settings.num_states)), generator)

    return loss_of


def _rule(num_updates: int, learning_rate: float, settings: DiffusionSamplerSettings) -> DescentRule:
    """Rule of one of the two stages of training."""
    # Gradients of norm above 1 come from the few walks with huge weights; clipping keeps them from deciding alone.
    return DescentRule(
        num_updates, learning_rate, is_annealed=True, max_gradient_norm=1.0, most_rollbacks=settings.most_rollbacks
    )


def _resolve(target: Any, event_shape: tuple[int, ...] | None) -> tuple[LogDensity, torch.Size]:
    """Log density and event shape of a distribution or a function."""
    if not hasattr(target, "log_prob") and event_shape is None:
        raise ValueError("expected event_shape with a function as the target; only a distribution has its own")
    shape = as_event_shape(event_shape) if event_shape is not None else target.event_shape
    log_density = log_density_over_reals(target) if hasattr(target, "log_prob") else target
    if hasattr(target, "log_prob") and shape != target.event_shape:
        raise ValueError(f"the target has event shape {tuple(target.event_shape)}, got {tuple(shape)}")
    return log_density, shape


class _TargetChains:
    """Adjusted chains on the target from N(0, s^2 I), one transition for each update of the control.

    Each transition multiplies the adapted step size by a draw, log-uniform from a tenth to twice, so that chains enter
    narrow and wide places alike. The positions of recent rounds are kept.
    """

    def __init__(
        self, sampler: DiffusionSampler, settings: DiffusionSamplerSettings, generator: torch.Generator | None
    ) -> None:
        self.log_density, self.generator = sampler.log_density, generator
        self.kernel = HMC(num_leapfrog=5, jitter=0.0)
        shape = (settings.num_chains, *sampler.event_shape)
        start = settings.scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DivergenceWarning)
            warmed = run_chain(
                self.kernel,
                self.log_density,
                start,
                num_steps=1,
                num_warmup=NUM_WARMUP,
                step_size=0.2 * settings.scale,
                adaptation=DualAveraging(TARGET_ACCEPTANCE),
                recording=Recording(keep_draws=False),
                generator=generator,
            )
        self.step_size, self.state = warmed.step_size, warmed.final_state
        self.kept: deque[Tensor] = deque([torch.stack([self.state.position, self.state.gradient])], maxlen=ROUNDS_KEPT)
        self._calls, self._accepted, self._diverging = 0, 0.0, 0.0

    def restart(self, sampler: DiffusionSampler) -> None:
        """Starts all chains again at ends of walks, drawn by their weights; no earlier positions are kept."""
        count = len(self.state.position)
        with torch.no_grad():
            ends, weights = sampler.walk(WALKS_PER_CHAIN * count, generator=self.generator)
        self.state = self.kernel.init(ends[resample(weights, count, generator=self.generator)], self.log_density)
        self.kept.clear()
        self.kept.append(torch.stack([self.state.position, self.state.gradient]))

    def frame(self, whitening: Whitening) -> Frame:
        """Coordinates of the walk by the moments of as many rounds of positions as are kept."""
        if whitening == "none":
            return Frame()
        for _ in range(ROUNDS_KEPT * UPDATES_PER_ROUND):
            self.draws(1)
        return Frame.whitening(torch.cat([position for position, _ in self.kept]), whitening)

    def draws(self, count: int) -> tuple[Tensor, Tensor]:
        """Takes one more transition, then draws positions and gradients, ``(count, *event)``, of those kept."""
        self.state, acceptance, info = take_steps(
            self.kernel,
            self.state,
            self.log_density,
            num_steps=1,
            step_size=STEP_SIZE_RANGE[1] * self.step_size,
            spread=STEP_SIZE_RANGE[1] / STEP_SIZE_RANGE[0],
            generator=self.generator,
        )
        self._calls += 1
        self._accepted += float(acceptance.mean())
        self._diverging += float(info.is_diverging.double().mean())
        if self._calls % UPDATES_PER_ROUND == 0:
            self.kept.append(torch.stack([self.state.position, self.state.gradient]))
        rounds = torch.randint(len(self.kept), (count,), generator=self.generator)
        chains = torch.randint(len(self.state.position), (count,), generator=self.generator)
        found = torch.stack(tuple(self.kept))[rounds, :, chains]
        return found[:, 0], found[:, 1]

    def rates(self) -> tuple[float, float]:
        """Acceptance rate and divergence rate over all transitions after the warm-up."""
        return self._accepted / self._calls, self._diverging / self._calls


class UpperBound:
    r"""Unbiased estimates of the mean log weight of walks noised backward from draws, by one random step of each.

    Their mean is that of ``sampler.reverse(draws)``, at the cost of one evaluation of the control instead of K. Before step
    k the walk is at y = a x + sigma epsilon, and the step needs on average the noise

    .. math:: m = s \sqrt{\frac{\alpha_k}{1 - \alpha_k}} \Bigl( S(y) + \frac{y}{s^2} \Bigr),

    where S is the score of the noised target. Two quantities have the mean S(y): the noise of the state,
    :math:`-\epsilon / \sigma`, and the target's gradient at the draw, :math:`\nabla \log\gamma(x) / a`. They are mixed, for
    each step and coordinate, with the share that had the least variance over the calls before.

    Sources: Vincent 2011 (Neural Computation 23), of the first; De Bortoli et al. 2024 (arXiv 2402.08667), of the second.

    Args:
        sampler: the walk to bound.
    """

    def __init__(self, sampler: DiffusionSampler) -> None:
        self.sampler = sampler
        shape = (len(sampler.shares), *sampler.event_shape)
        self._product, self._square = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))

    def gradient_share(self) -> Tensor:
        """Share of the target's gradient in the estimated score at each step and coordinate, ``(K, *event)``.

        It is 0 before the first call, when no variances are known.
        """
        return torch.where(self._square > 0, self._product / self._square, 0.0)

    def __call__(
        self,
        control: Callable[[Tensor, Tensor], Tensor],
        draws: Tensor,
        gradients: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        """The estimate, with its graph.

        Args:
            control: the sampler's control, evaluated with one step per row.
            draws: draws of the target in the walk's coordinates, ``(n, *event)``.
            gradients: gradients of the target's log density at the draws, in the same coordinates.
        """
        sampler, shares, scale = self.sampler, self.sampler.shares, self.sampler.scale
        kept = 0.5 * torch.log1p(-shares)
        # Logarithm of the factor by which the end of the walk is scaled in the state before step k.
        left = kept.flip(0).cumsum(0).flip(0)
        step = torch.randint(len(shares), (len(draws),), generator=generator)

        def column(values: Tensor) -> Tensor:
            return per_row(values[step], draws)

        factor, spread = column(left.exp()), column(scale * (-torch.expm1(2 * left)).sqrt())
        noise = torch.randn(draws.shape, generator=generator, dtype=draws.dtype)
        before = factor * draws + spread * noise
        by_noise, by_gradient = -noise / spread, gradients / factor
        gap = by_noise - by_gradient
        share = self.gradient_share()[step]
        score = by_noise - share * gap
        self._product.index_add_(0, step, by_noise * gap)
        self._square.index_add_(0, step, gap.square())
        keep, size = column(kept.exp()), scale * column(shares.sqrt())
        needed = size / keep * (score + before / scale**2)
        taken = 2 * scale**2 * (1 - keep) / size * control(before, step)
        change = (0.5 * taken.square() - taken * needed).reshape(len(draws), -1).sum(1)
        with torch.no_grad():
            weights = sampler.log_density_at(draws).double() - sampler.log_reference(draws)
        return weights.mean() + len(shares) * change.double().mean()
