"""Fits of autoregressive densities to images, of sizes that the time and the images allow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from drl_density.autograd import outside_inference_mode
from drl_density.bases.autoregressive import AutoregressivePixels, PixelSettings
from drl_density.bases.fitting.averaged_descent import DescentRecord, descend_to_best_average
from drl_density.devices import uniform_draws
from drl_density.records.brief import brief
from drl_density.records.fields import (
    Chance,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Share,
    check_fields,
)

WIDTHS = (256, 192, 128, 64)
"""Hidden units of the networks that are tried, the largest first."""

LEAST_IMAGES = 200
"""Images below which no network is begun: of 96 images of 16 pixels, factor analysers scored a nat better."""

LEAST_STEPS, LEAST_PASSES, MOST_STEPS, MOST_PASSES = 5000, 4, 100_000, 400
"""Steps that a network should take, or passes over the values where these are fewer steps, or the next smaller one is
fitted; steps, and passes, at most."""

LEAST_STEPS_AT_ALL = 200
"""Steps below which no network is begun."""

ROWS_PER_PARAMETER = 2.0
"""Values of all images, weighed by their entropy in bits, for each parameter at least; the smallest network needs none."""

FEW_PASSES = 6
"""Passes over the values of the images up to which a network has no dropout."""

EVEN_SHARE = 0.1
"""Share of the mean entropy that every pixel has in the choice of the values of a step, beside its own entropy."""

MOST_SCORED = 2**15
"""Values of validation images whose probability is a score."""

SECONDS_PER_PRODUCT, SECONDS_PER_VALUE = 1.5e-10, 2e-6
"""Seconds of one core in a gradient step: for a value and multiply-add of the network, and for a value beside them."""


@dataclass(frozen=True, eq=False)
class GreyLevels:
    """Images as whole numbers from 0, with the histograms of their pixels.

    Attributes:
        train: images to fit to, ``(n, d)``.
        validation: images to be scored, ``(m, d)``.
        shape: channels, height and width of an image.
        log_shares: log probability of every grey level of every pixel, ``(d, num_cells)``.
        weights: relative weight of each training image, ``(n,)``; None where all are equal.

    Raises:
        ValueError: images of another size than the shape's, grey levels outside the histograms, or no images.
    """

    train: Tensor
    validation: Tensor
    shape: tuple[int, int, int]
    log_shares: Tensor
    weights: Tensor | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        num_features, num_cells = math.prod(self.shape), self.log_shares.shape[-1]
        if self.log_shares.shape != (num_features, num_cells):
            raise ValueError(
                f"expected log shares ({num_features}, cells) of images {self.shape}, got {tuple(self.log_shares.shape)}"
            )
        for name, given in (("train", self.train), ("validation", self.validation)):
            if given.ndim != 2 or given.shape[1] != num_features or not len(given):
                raise ValueError(f"expected {name} (n, {num_features}) with n at least 1, got {tuple(given.shape)}")
            if given.is_floating_point() or int(given.min()) < 0 or int(given.max()) >= num_cells:
                raise ValueError(
                    f"expected {name} of whole numbers from 0 to {num_cells - 1}, got {given.dtype} from "
                    f"{float(given.min()):g} to {float(given.max()):g}"
                )


@dataclass(frozen=True)
class PixelPlan:
    """Sizes of an autoregressive density and of its fit.

    Attributes:
        settings: sizes of the images and of the network.
        num_steps: number of gradient steps.
        batch_size: number of values in a step, each of an image and a pixel of its own.
        learning_rate: learning rate after the warm-up, from which it falls to zero as a half cosine of the progress. That
            is the share of the steps or of the time that is over, whichever is larger.
        num_warm_up: number of first steps in which the learning rate rises in proportion.
        dropout: share of the hidden units that is left out in a step.
        weight_decay: decay of the weights, in units of the learning rate.
        averaging: decay of the exponential average of the weights, which is scored and kept.
        max_gradient_norm: gradients whose norm is larger are scaled down to it.
        num_scores: number of validation scores, evenly over the progress.
        patience: progress without a better score after which the fit ends.
    """

    settings: PixelSettings
    num_steps: PositiveInt = 4000
    batch_size: PositiveInt = 1024
    learning_rate: PositiveFloat = 2e-3
    num_warm_up: NonNegativeInt = 100
    dropout: Chance = 0.0
    weight_decay: NonNegativeFloat = 0.01
    averaging: Chance = 0.999
    max_gradient_norm: PositiveFloat = 1.0
    num_scores: PositiveInt = 30
    patience: Share = 0.3

    def __post_init__(self) -> None:
        check_fields(self)


class PixelAffordability(NamedTuple):
    """The autoregressive density that images and a time allow.

    Attributes:
        plan: sizes of the density and of its fit; None where none should be begun.
        reason: the plan in words, or what stands against one.
    """

    plan: PixelPlan | None
    reason: str


@dataclass(frozen=True, eq=False)
class FittedPixels:
    """A fitted autoregressive density of images.

    Attributes:
        base: the density with the weights that scored best.
        record: steps, ending and seconds of the fit.
    """

    base: AutoregressivePixels
    record: DescentRecord

    __repr__ = brief


def affordable_pixels(levels: GreyLevels, seconds: float, *, is_timed: bool = False) -> PixelAffordability:
    """Choose the sizes of an autoregressive density by images and time, or find that none should be begun.

    The widest network is taken of which 5,000 steps fit the time, or four passes over the values of few images, and which
    the images determine: it has at most one parameter for two values, counted by their entropy. The time of a step follows
    from the sizes by a measured rule, so that the same images get the same plan on every machine. A few passes over the
    values need no dropout.

    Args:
        levels: grey levels of the images.
        seconds: seconds of one core that the fit may take.
        is_timed: whether the clock ends the fit after these seconds, so that the plan holds the most steps that any time
            gives.

    >>> images = torch.zeros(60_000, 784, dtype=torch.uint8)
    >>> levels = GreyLevels(images, images[:1], (1, 28, 28), torch.zeros(784, 256).log_softmax(1))
    >>> affordable_pixels(levels, 600.0).reason
    'a network of 3 layers of 256, 16,971 steps, 600 s'
    >>> affordable_pixels(levels, 1.0).reason
    'no autoregressive density: the smallest takes 2 s of one core, and 1 s are allowed'
    """
    num_images, num_cells = len(levels.train), levels.log_shares.shape[1]
    if num_images < LEAST_IMAGES:
        return PixelAffordability(None, f"no autoregressive density: {num_images} images are fewer than {LEAST_IMAGES}")
    bits = num_images * float(_entropies(levels.log_shares).sum()) / math.log(2)
    cost, least = 0.0, WIDTHS[-1]
    for width in WIDTHS:
        settings = PixelSettings(levels.shape, num_cells=num_cells, width=width)
        products = _num_products(settings)
        plan = PixelPlan(settings)
        cost = plan.batch_size * (SECONDS_PER_VALUE + products * SECONDS_PER_PRODUCT)
        affordable = int(seconds / cost)
        passes = num_images * settings.num_features / plan.batch_size
        needed = min(LEAST_STEPS, math.ceil(LEAST_PASSES * passes))
        is_large = bits < ROWS_PER_PARAMETER * products or affordable < needed
        if affordable < LEAST_STEPS_AT_ALL or (is_large and width != least):
            continue
        most = min(MOST_STEPS, max(LEAST_STEPS_AT_ALL, math.ceil(MOST_PASSES * passes)))
        affordable = min(most, affordable)
        num_steps = most if is_timed else affordable
        dropout = 0.0 if affordable <= FEW_PASSES * passes else 0.1
        steps = f"at most {num_steps:,} steps" if is_timed else f"{num_steps:,} steps"
        words = f"a network of {settings.depth + 1} layers of {width}, {steps}, {min(seconds, num_steps * cost):.0f} s"
        return PixelAffordability(PixelPlan(settings, num_steps, dropout=dropout), words)
    shortest = LEAST_STEPS_AT_ALL * cost
    return PixelAffordability(
        None,
        f"no autoregressive density: the smallest takes {shortest:.0f} s of one core, and {seconds:.0f} s are allowed",
    )


def _num_products(settings: PixelSettings) -> int:
    """Multiply-adds of the network for one value."""
    read = 3 * settings.neighbours().shape[1]
    return (
        settings.width * (read + settings.depth * settings.width + settings.rank) + settings.rank * settings.num_cells
    )


@outside_inference_mode
def fit_autoregressive_pixels(
    levels: GreyLevels,
    *,
    plan: PixelPlan,
    max_seconds: float = math.inf,
    on_score: Callable[[int, float], None] | None = None,
    generator: torch.Generator | None = None,
) -> FittedPixels:
    """Fit an autoregressive density to images by maximum likelihood, and keep the weights that score best on validation.

    A step takes values of many images at pixels of their own, which costs a fraction of whole images and says more.
    Pixels whose histogram has more entropy are taken more often; weights make up for that. Equal seeds give equal densities,
    as long as the time does not end the fit.

    Args:
        levels: grey levels of the images.
        plan: sizes of the density and of its fit, such as those of :func:`affordable_pixels`.
        max_seconds: wall-clock seconds after which the fit ends, with one step at least; the learning rate falls in time
            with them.
        on_score: called with the number of steps and the mean log probability of a value, in nats, after every score.
        generator: source of the initial weights, of the values of every step and of dropout.

    Raises:
        ValueError: images of another shape than the plan's.
        NumericalError: a loss that is not finite before the first finite score.

    Source: Larochelle and Murray 2011; Salimans et al. 2017, "PixelCNN++", for dropout and averages.

    >>> generator = torch.Generator().manual_seed(0)
    >>> images = torch.randint(2, (200, 1), generator=generator).repeat(1, 2)
    >>> levels = GreyLevels(images, images[:50], (1, 1, 2), torch.zeros(2, 2).log_softmax(1))
    >>> plan = PixelPlan(PixelSettings((1, 1, 2), num_cells=2, width=16), num_steps=200)
    >>> base = fit_autoregressive_pixels(levels, plan=plan, generator=generator).base
    >>> bool(base.cell_log_probabilities(images)[:, 1].mean() > -0.1)  # the second pixel is the first one
    True
    """
    settings, images, validation = plan.settings, levels.train, levels.validation
    if (settings.shape, settings.num_cells) != (levels.shape, levels.log_shares.shape[1]):
        raise ValueError(
            f"expected images {settings.shape} of {settings.num_cells} grey levels, got {levels.shape} of "
            f"{levels.log_shares.shape[1]}"
        )
    base = AutoregressivePixels(settings, levels.log_shares, generator=generator).to(images.device)
    chances = _entropies(base.log_shares)
    chances = chances + EVEN_SHARE * chances.mean() + 1e-12 / len(chances)
    chances = chances / chances.sum()
    worth = (1 / (len(chances) * chances)).float()
    ends = [None if each is None else _ends(each) for each in (levels.weights, chances)]

    def chosen(count: int, num_items: int, end: Tensor | None) -> Tensor:
        """Indices of ``count`` items, in proportion to the weights that have these partial sums."""
        numbers = uniform_draws((count,), worth.double(), generator)
        if end is None:
            return (numbers * num_items).long()
        return torch.searchsorted(end, numbers, right=True).clamp_max(num_items - 1)  # rounding can reach the last end

    def losses(cells: Tensor, rows: Tensor, places: Tensor, share: float = 0.0) -> Tensor:
        """Minus the log probability of values, each times its weight."""

        def drop(hidden: Tensor) -> Tensor:
            kept = uniform_draws(hidden.shape, hidden, generator) >= share
            return torch.where(kept, hidden / (1 - share), 0.0)

        logits = base.logits_of(cells, rows, places, drop if share else None)
        own = cells[rows, places].long()
        return functional.cross_entropy(logits, own, reduction="none") * worth[places]

    def loss() -> Tensor:
        rows = chosen(plan.batch_size, len(images), ends[0])
        return losses(images, rows, chosen(plan.batch_size, len(chances), ends[1]), plan.dropout).mean()

    scored = _scored_values(validation, chances, generator)

    def score() -> float:
        parts = zip(*(each.split(plan.batch_size) for each in scored), strict=True)
        values = torch.cat([losses(validation, rows, places) for rows, places in parts])
        return -float(values.double().mean())

    record = descend_to_best_average(
        list(base.weights()),
        loss,
        score,
        plan,
        max_seconds=max_seconds,
        name="the autoregressive density",
        on_score=on_score,
    )
    return FittedPixels(base, record)


def _scored_values(images: Tensor, chances: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Images and pixels of the values that are scored, the same at every score: some for each image, without favourites."""
    each = max(1, MOST_SCORED // len(images))
    rows = torch.arange(len(images), device=images.device)[:MOST_SCORED].repeat(each)
    numbers = uniform_draws((len(rows),), chances.double(), generator)
    places = torch.searchsorted(_ends(chances), numbers, right=True)
    return rows, places.clamp_max(len(chances) - 1)  # rounding can reach the last end


def _entropies(log_shares: Tensor) -> Tensor:
    """Entropy of the histogram of every pixel, in nats, ``(d,)``, float64."""
    logs = log_shares.double()
    return -(logs.exp() * logs).sum(1)


def _ends(weights: Tensor) -> Tensor:
    """Partial sums of weights that sum to 1, float64."""
    ends = weights.double().cumsum(0)
    return ends / ends[-1]
