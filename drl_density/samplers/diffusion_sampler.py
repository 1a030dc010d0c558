r"""Denoising diffusion samplers: a controlled walk from N(0, s^2 I) to an unnormalised target, with its log Z.

With shares :math:`\alpha_k` and :math:`\lambda_k = 1 - \sqrt{1 - \alpha_k}` the walk and its log weight are

.. math:: y_{k+1} = \sqrt{1 - \alpha_k}\, y_k + 2 s^2 \lambda_k f(y_k, k) + s \sqrt{\alpha_k}\, \epsilon_k, \qquad
    \log w = \log\gamma(y_K) - \log N(y_K; 0, s^2 I)
    - \sum_k \Bigl( \tfrac{2 s^2 \lambda_k^2}{\alpha_k} \lVert f \rVert^2
    + \tfrac{2 s \lambda_k}{\sqrt{\alpha_k}}\, f \cdot \epsilon_k \Bigr),

and E[w] = Z for any control f. An energy sequence brings its control along, score + x, without training.

Source: Vargas, Grathwohl and Doucet 2023 (arXiv 2302.13834).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drl_density.errors import TrainingFailed
from drl_density.model import EnergySequence
from drl_density.weights import LogPartitionEstimate, judge_estimate

LogDensity = Callable[[Tensor], Tensor]
Control = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class DiffusionSamplerSettings:
    """Walk and training.

    Attributes:
        num_steps: K.
        scale: s, which must cover the target.
        decay: -sum of log(1 - alpha_k) over the walk; large forgets the target's end fully, small leaves smaller steps.
        width: hidden units of the control network.
        num_updates: gradient steps.
        batch_size: walks per gradient step.
        learning_rate: of Adam.
        gradient_scale: size beyond which the target's gradient, an input of the control, is smoothly compressed.
        most_rollbacks: how often training may return to the network of up to 50 updates before, with half the learning rate,
            because the bound was no finite number.

    Raises:
        ValueError: no steps, or a scale or decay that is not positive.

    >>> DiffusionSamplerSettings(num_steps=10).shares().shape
    torch.Size([10])
    """

    num_steps: int = 64
    scale: float = 1.0
    decay: float = 6.0
    width: int = 64
    num_updates: int = 1000
    batch_size: int = 256
    learning_rate: float = 2e-3
    gradient_scale: float = 100.0
    most_rollbacks: int = 4

    def __post_init__(self) -> None:
        if self.num_steps < 1 or not self.scale > 0 or not self.decay > 0:
            raise ValueError(
                f"need num_steps >= 1, scale > 0 and decay > 0, got {self.num_steps}, {self.scale} and {self.decay}"
            )

    def shares(self) -> Tensor:
        """alpha_k from the first step (noise) to the last (target), falling as a squared cosine, ``(K,)``."""
        grid = (torch.arange(self.num_steps, dtype=torch.float64) + 0.5) / self.num_steps
        shape = torch.cos(0.5 * math.pi * grid).square()
        return 1 - torch.exp(-self.decay * shape / shape.sum() - 0.5 / self.num_steps * (1 - grid))


class DiffusionSampler:
    """A walk with a control; ``sample`` and ``log_partition`` work for any control, trained or not.

    Args:
        log_density: unnormalised target over rows ``(n, *event)``.
        event_shape: of one point.
        shares: alpha_k, ``(K,)``, each in (0, 1).
        scale: s.
        control: f; zero when not given.

    Raises:
        ValueError: shares outside (0, 1).

    >>> sampler = DiffusionSampler(lambda x: 1.5 - 0.5 * (x**2).sum(-1), (2,), DiffusionSamplerSettings().shares())
    >>> bool((sampler.walk(4)[1] - 1.5 - math.log(2 * math.pi)).abs().max() < 1e-9)
    True
    """

    def __init__(
        self,
        log_density: LogDensity,
        event_shape: tuple[int, ...],
        shares: Tensor,
        *,
        scale: float = 1.0,
        control: Control | None = None,
    ) -> None:
        if not bool(((shares > 0) & (shares < 1)).all()):
            raise ValueError(f"shares must lie in (0, 1), got {shares.tolist()}")
        self.log_density, self.event_shape = log_density, torch.Size(event_shape)
        self.shares, self.scale, self.control = shares.double(), scale, control

    def walk(
        self, num_walks: int, *, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float64
    ) -> tuple[Tensor, Tensor]:
        """Ends ``(n, *event)`` and log weights ``(n,)``; with gradients enabled, both carry their graph.

        Args:
            num_walks: n.
            generator: source of randomness.
            dtype: of the states.
        """
        shape = (num_walks, *self.event_shape)
        y = self.scale * torch.randn(shape, generator=generator, dtype=dtype)
        cost = torch.zeros(num_walks, dtype=torch.float64)
        for step, share in enumerate(self.shares.tolist()):
            noise = torch.randn(shape, generator=generator, dtype=dtype)
            keep, pull = math.sqrt(1 - share), 1 - math.sqrt(1 - share)
            moved = keep * y + self.scale * math.sqrt(share) * noise
            if self.control is not None:
                f = self.control(y, step)
                moved = moved + 2 * self.scale**2 * pull * f
                cost = cost + self._cost(f, noise, share)
            y = moved
        return y, self.log_density(y).double() - self._log_reference(y) - cost

    def reverse(self, draws: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Log weights ``(n,)`` of walks noised backward from draws of the target: their mean errs high (EUBO).

        Args:
            draws: ``(n, *event)``, taken for draws of the target.
            generator: source of randomness.
        """
        y, cost = draws, torch.zeros(len(draws), dtype=torch.float64)
        weights = self.log_density(y).double() - self._log_reference(y)
        for step in reversed(range(len(self.shares))):
            share = float(self.shares[step])
            keep, pull = math.sqrt(1 - share), 1 - math.sqrt(1 - share)
            noise = torch.randn(y.shape, generator=generator, dtype=y.dtype)
            before = keep * y + self.scale * math.sqrt(share) * noise
            if self.control is not None:
                f = self.control(before, step)
                forward = (y - keep * before - 2 * self.scale**2 * pull * f) / (self.scale * math.sqrt(share))
                cost = cost + self._cost(f, forward, share)
            y = before
        return weights - cost

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Ends of walks; draws of the target only as far as the weights are even.

        Args:
            num_samples: walks.
            generator: source of randomness.
        """
        with torch.no_grad():
            return self.walk(num_samples, generator=generator)[0]

    def log_partition(
        self, *, num_walks: int = 2000, num_replicates: int = 8, generator: torch.Generator | None = None
    ) -> LogPartitionEstimate:
        """log Z with error, verdict, and in ``details`` the lower bound "elbo" (mean log weight).

        Args:
            num_walks: per replicate.
            num_replicates: independent; their spread is the error.
            generator: source of randomness.
        """
        with torch.no_grad():
            weights = torch.stack([self.walk(num_walks, generator=generator)[1] for _ in range(num_replicates)])
        return judge_estimate(
            weights, bias="lower", details={"elbo": float(weights.mean()), "num_steps": len(self.shares)}
        )

    def _cost(self, f: Tensor, noise: Tensor, share: float) -> Tensor:
        pull = 1 - math.sqrt(1 - share)
        square, cross = (v.double().flatten(1).sum(1) for v in (f.square(), f * noise))
        return 2 * self.scale**2 * pull**2 / share * square + 2 * self.scale * pull / math.sqrt(share) * cross

    def _log_reference(self, y: Tensor) -> Tensor:
        scaled = y.double().flatten(1) / self.scale
        return -0.5 * (scaled.square() + math.log(2 * math.pi * self.scale**2)).sum(1)


class ControlNetwork(nn.Module):
    """f(y, k) = a(y, k) + b(k) g(y) with the target's compressed gradient g; zero at first, so the walk is the reference.

    Args:
        log_density: the target.
        num_features: length of y.
        settings: sizes.
    """

    def __init__(
        self, log_density: LogDensity, num_features: int, settings: DiffusionSamplerSettings, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.log_density, self.settings = log_density, settings
        self.first = nn.Linear(num_features + 16, settings.width, dtype=torch.float64)
        self.second = nn.Linear(settings.width, settings.width, dtype=torch.float64)
        self.last = nn.Linear(settings.width, num_features + 1, dtype=torch.float64)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, y: Tensor, step: int) -> Tensor:
        """The control at rows ``(n, *event)`` before step ``step``."""
        flat = y.flatten(1)
        time = (step + 0.5) / self.settings.num_steps * torch.arange(1, 9, dtype=flat.dtype) * math.pi
        phases = torch.cat([time.sin(), time.cos()]).expand(len(flat), -1)
        hidden = nn.functional.gelu(self.first(torch.cat([flat, phases], 1)))
        out = self.last(nn.functional.gelu(self.second(hidden)))
        return (out[:, :-1] + out[:, -1:] * self._gradient(y)).reshape(y.shape)

    def _gradient(self, y: Tensor) -> Tensor:
        with torch.enable_grad():
            point = y.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.log_density(point).sum(), point)
        flat = gradient.flatten(1)
        return flat / (1 + flat.norm(dim=1, keepdim=True) / self.settings.gradient_scale)


def train_diffusion_sampler(
    log_density: LogDensity,
    event_shape: tuple[int, ...],
    *,
    settings: DiffusionSamplerSettings | None = None,
    seed: int = 0,
) -> tuple[DiffusionSampler, list[float]]:
    """Learn a control by maximising the lower bound of log Z; returns the sampler and the bound at every update.

    Args:
        log_density: differentiable unnormalised target over rows ``(n, *event)``, float64.
        event_shape: of one point.
        settings: walk and training.
        seed: of everything.

    Raises:
        TrainingFailed: when the bound is no finite number again after ``settings.most_rollbacks`` returns.

    >>> settings = DiffusionSamplerSettings(num_steps=4, width=8, num_updates=2, batch_size=16)
    >>> sampler, bounds = train_diffusion_sampler(lambda x: -0.5 * (x**2).sum(-1), (2,), settings=settings)
    >>> sampler.sample(3).shape, len(bounds)
    (torch.Size([3, 2]), 2)
    """
    settings = settings or DiffusionSamplerSettings()
    generator = torch.Generator().manual_seed(seed)
    network = ControlNetwork(log_density, torch.Size(event_shape).numel(), settings, generator)
    sampler = DiffusionSampler(log_density, event_shape, settings.shares(), scale=settings.scale, control=network)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    bounds: list[float] = []
    kept, num_rollbacks = {}, 0
    while len(bounds) < settings.num_updates:
        bound = sampler.walk(settings.batch_size, generator=generator)[1].mean()
        if not bool(torch.isfinite(bound)):
            num_rollbacks += 1
            if num_rollbacks > settings.most_rollbacks or not kept:
                raise TrainingFailed(
                    f"the bound at update {len(bounds)} is {float(bound.detach())}, after {num_rollbacks - 1} returns to an "
                    "earlier network with half the learning rate: widen scale or lower the rate"
                )
            network.load_state_dict(kept["network"])
            optimizer.load_state_dict(copy.deepcopy(kept["optimizer"]))
            continue
        if len(bounds) % 50 == 0:
            kept = copy.deepcopy({"network": network.state_dict(), "optimizer": optimizer.state_dict()})
        optimizer.zero_grad(set_to_none=True)
        (-bound).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        falling = 0.5 * (1 + math.cos(math.pi * len(bounds) / settings.num_updates))
        optimizer.param_groups[0]["lr"] = settings.learning_rate * falling * 0.5**num_rollbacks
        optimizer.step()
        bounds.append(float(bound.detach()))
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return sampler, bounds


def sequence_sampler(model: EnergySequence, *, num_steps: int = 100) -> DiffusionSampler:
    """The sampler whose control is a sequence's own score: no training, and errors of its levels cost variance only.

    Args:
        model: the sequence, whose level 0 is the target.
        num_steps: K, evenly over the levels.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> sequence_sampler(model, num_steps=20).sample(4).shape
    torch.Size([4, 2])
    """
    levels = torch.linspace(model.num_levels, 0, num_steps + 1, dtype=torch.float64).tolist()
    pairs = list(zip(levels, levels[1:], strict=False))
    kept = [float(model.schedule.step_between(cleaner, noisier)[0]) for noisier, cleaner in pairs]
    shares = 1 - torch.tensor(kept, dtype=torch.float64).square()

    def control(y: Tensor, step: int) -> Tensor:
        return model.score(y.to(model.dtype), levels[step]).to(y) + y

    return DiffusionSampler(
        lambda x: model.log_density(x.to(model.dtype), 0), tuple(model.event_shape), shares, control=control
    )
