"""The fixed base of a fitted sequence: a Gaussian mixture whose size validation chooses, with the noise of level 0."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from drl_density.bases import Base, FactorAnalysers, LayeredBase, NoisedGaussianMixture, QuadraticBase
from drl_density.bases.fitting import (
    LEAST_ROWS,
    DrawRows,
    FittedFlow,
    SizeSearch,
    affordable_flow,
    fit_averaged_mixture,
    fit_blend,
    fit_factors_by_size,
    fit_stacked_mixture,
    race_flows,
)
from drl_density.bases.flows import Elementwise
from drl_density.devices import available_memory
from drl_density.parallel import Workers, num_lanes
from drl_density.schedule import NoiseSchedule

SIGMAS = (0.1, 0.07, 0.05, 0.035, 0.025)
"""Candidates for the noise of level 0, the widest first."""

FINE_SIGMAS = (*SIGMAS, 0.015, 0.01, 0.005)
"""The same for a stack, whose narrowest components have a standard deviation of 0.01."""

NUM_COMPONENTS = (2, 3, 5, 8, 12, 20)
"""Candidates for the number of mixture components."""

KINDS = ("auto", "reference", "factors", "stack", "mixture", "gaussian", "independent", "quadratic")
"""Kinds of base that :func:`choose_bases` accepts."""

QUADRATIC_SCALE = 10.0
"""Standard deviation of the small quadratic base: ten times the half range of rescaled pixels."""

MOST_SINGLE_ROWS = 5000
"""Rows up to which single mixtures are candidates beside a stack: beyond, stacks score better and scikit-learn is slow.
Within a limit of time they are no candidates where flows are, which need the time more."""

NOISE_LOSS, NOISE_BITS = 0.02, 0.0005
"""Nats a row that the noise of level 0 may cost the best base on validation, far below the error of most scores; or bits for
each column, where these are more, as for images."""

MOST_DENSE_COLUMNS = 1024
"""Columns up to which bagged mixtures, and Gaussians of few rows, keep covariance matrices, whose time grows as the cube."""

LEAST_FACTOR_COLUMNS = 24
"""Columns from which a mixture of factor analysers is a candidate for a reference: below, full covariances cost little."""

FACTOR_PASSES = 15
"""Passes over the rows of a table, which are few enough for that."""

MOST_FACTOR_ROWS = 2000
"""Validation rows on which sizes of factor analysers are compared: by pairs, so that a few hundred tell them apart."""

MOST_FITTED, MOST_FITTED_PIXELS = 0.92, 0.85
"""Shares of the time of a fit after which its flows end, and its autoregressive density: draws and scores follow."""

FLOW_SHARE, LATER_FLOW_SHARE = 0.65, 0.4
"""Share of the first minute that flows may take, and of all further ones: a tilt then gains more than a longer flow."""

LARGE_SHARE = 0.08
"""Share of the time for large mixtures, where flows are planned; the search for a stack has half its time there."""


@dataclass(frozen=True)
class ReferenceTime:
    """Time that the fits of a reference may take; without limits the same seed gives the same reference everywhere.

    Attributes:
        flow: Seconds of one core by which the sizes and the steps of the flows are chosen; 0 fits none.
        most_flow: Wall-clock seconds after which the flows end, with a learning rate that falls in time.
        most_search: Wall-clock seconds of the search for the sizes of a stack. Its final fits take about as long again.
        most_factors: Wall-clock seconds of the search for the size of a mixture of factor analysers, its fits included.
        most_total: Wall-clock seconds after which the last flow ends, whatever the other fits took.
        pixels: Seconds of one core by which the sizes and the steps of an autoregressive density are chosen; 0 fits none.
        most_pixels: Wall-clock seconds after which that density ends, those of the factor analysers before it included.
        large: Seconds that large mixtures may take, beside flows: of the clock where it ends the flows, or else of one
            core.

    >>> limited = ReferenceTime.within(4.0, spent=10.0)
    >>> limited.most_total, limited.most_pixels
    (210.8, 194.0)
    """

    flow: float = 150.0
    most_flow: float = math.inf
    most_search: float = math.inf
    most_factors: float = math.inf
    most_total: float = math.inf
    pixels: float = 300.0
    most_pixels: float = math.inf
    large: float = 20.0

    @classmethod
    def within(cls, max_minutes: float | None, *, spent: float = 0.0) -> ReferenceTime:
        """The usual time without a limit; else shares of it.

        Flows may take 65 % of the first minute and 40 % of the further ones, large mixtures 8 %, the search for a
        stack 7 %, and factor analysers 40 %. An autoregressive density has what the factor analysers beside it leave of
        85 %. These have a quarter of theirs.

        Args:
            max_minutes: Time to aim at for the whole fit; None is no limit.
            spent: Seconds of it that are over.
        """
        if max_minutes is None:
            return cls()
        seconds = 60 * max_minutes
        flows = round(FLOW_SHARE * min(seconds, 60) + LATER_FLOW_SHARE * max(seconds - 60, 0), 6)
        most_total, pixels = (round(share * seconds - spent, 6) for share in (MOST_FITTED, MOST_FITTED_PIXELS))
        large = round(LARGE_SHARE * seconds, 6)
        return cls(flows, flows, round(0.07 * seconds, 6), round(0.4 * seconds, 6), most_total, pixels, pixels, large)


FLOWS: dict[str, Elementwise] = {"affine flow": "affine", "spline flow": "both"}
"""Flows that race, with the map of each column. Splines after an affine map score better in the same time than alone."""

NO_FLOW = ReferenceTime(flow=0.0, pixels=0.0, large=0.0)
"""No time for a flow or an autoregressive density, and no limits."""


@dataclass(frozen=True)
class ChosenBases:
    """The fixed parts of a fit's energies; each has a network trained on it.

    Attributes:
        mixtures: Bases by name, the simplest first.
        sigma_min: Widest noise of level 0 that costs the best base next to nothing on validation.
        scores: Mean validation log density in model space of every candidate, by name, at its best noise.
        noisy: Best base with noised forms, which noisy levels use where level 0 uses a flow; None where every
            base of :attr:`mixtures` has noised forms.
        remarks: What kept a candidate from being fitted, a sentence each.
        beside: Seconds of the clock and of the calling thread's processor in which flows were fitted side by side.
    """

    mixtures: dict[str, Base]
    sigma_min: float
    scores: dict[str, float]
    noisy: Base | None = None
    remarks: tuple[str, ...] = ()
    beside: tuple[float, float] = (0.0, 0.0)

    @property
    def best(self) -> Base:
        """The base that scores best on validation."""
        return self.mixtures[max(self.mixtures, key=lambda name: self.scores[name])]

    @property
    def num_features(self) -> int:
        """Number of columns."""
        return next(iter(self.mixtures.values())).num_features

    def over_levels(self, schedule: NoiseSchedule) -> dict[str, Base]:
        """The bases by name, each with a density at every level of a schedule."""
        return {
            name: base if self.noisy is None else LayeredBase(base, self.noisy, float(schedule.log_snr_at(0)))
            for name, base in self.mixtures.items()
        }


def choose_bases(
    train: Tensor,
    validation: Tensor,
    *,
    kind: str = "auto",
    num_copies: int = 1,
    allowed: ReferenceTime = NO_FLOW,
    source: Tensor | None = None,
    seed: int = 0,
) -> ChosenBases:
    """Fit fixed bases to model-space rows, and choose among them on validation.

    The kind "reference" keeps the best of independent columns, a Gaussian, mixtures, a stack of bagged mixtures, and where
    rows and time allow them large mixtures, an affine and a spline flow, or a blend that scores better than each. The
    kind "auto" keeps the Gaussian and the best mixture: a mixture is closer to the data, but was fitted to the rows that
    training sees again, and which of the two ends better is known only after training. In up to three dimensions, or where
    no mixture beats the Gaussian on validation, it keeps the Gaussian alone.

    Args:
        train: Rows ``(n, d)`` in model space; freshly dequantised copies of a row are welcome.
        num_copies: Number of such copies of the whole table that ``train`` holds, one after the other.
        validation: Rows ``(m, d)`` in model space. Rows with NaN are scored on their observed values.
        kind: "auto", "reference", "factors" (the mixture of factor analysers that scores best), "stack" (the average of many
            bagged mixtures), "mixture", "gaussian", "independent" (the standard normal), or "quadratic" (a normal of
            standard deviation 10 whose only purpose is to keep the density integrable).
        allowed: Time that the fits may take.
        source: Index ``(m,)`` of the row that each validation row is a copy of; None where all are distinct.
        seed: Seed of the fits.

    Raises:
        ValueError: An unknown kind; the message lists the known ones.
    """
    if kind not in KINDS:
        raise ValueError(f"base must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    num_features, is_reference = train.shape[1], kind == "reference"
    begun = time.monotonic()
    copies = train.reshape(num_copies, len(train) // num_copies, num_features)
    generator = torch.Generator().manual_seed(seed)
    singles: dict[str, Base] = {"quadratic": QuadraticBase(num_features, QUADRATIC_SCALE)} if kind == "quadratic" else {}
    if kind in ("independent", "reference"):
        singles["independent"] = NoisedGaussianMixture.standard(num_features)
    if kind in ("auto", "reference", "gaussian"):
        singles["gaussian"] = fit_gaussian(train)
    is_dense, is_timed = num_features <= MOST_DENSE_COLUMNS, math.isfinite(allowed.most_flow)
    remarks = (f"no stack: more than {MOST_DENSE_COLUMNS:,} columns",) if is_reference and not is_dense else ()
    if kind == "stack" or (is_reference and is_dense):
        has_large = is_reference and copies.shape[1] >= LEAST_ROWS and allowed.large > 0
        most = allowed.most_search / 2 if has_large else allowed.most_search
        stack = fit_stacked_mixture(copies, max_seconds=most, generator=generator)
        singles["stack"] = stack.base
        if has_large:
            # Kinds of one component hold rows far out, and their ridges are too wide for many components.
            ridge = max(stack.candidates, key=lambda kind: kind.weight * kind.num_components).ridge
            seconds = {"seconds": allowed.large, "is_timed": is_timed}
            large = fit_averaged_mixture(copies, ridge=ridge, **seconds, generator=generator)
            singles |= {} if large is None else {"large mixtures": large}
    is_wide = num_features >= LEAST_FACTOR_COLUMNS and not bool(validation.isnan().any())
    if kind == "factors" or (is_reference and is_wide):
        singles["factors"], reasons = _fit_factors(train, validation, allowed, generator)
        remarks = (*remarks, *reasons)
    most_single = LEAST_ROWS - 1 if is_timed and allowed.flow > 0 else MOST_SINGLE_ROWS
    wants_mixtures = kind in ("auto", "mixture") or (is_reference and copies.shape[1] <= most_single)
    mixtures = _fit_mixtures(train, seed) if kind == "mixture" or (wants_mixtures and num_features > 3) else {}
    sigmas = FINE_SIGMAS if "stack" in singles or "factors" in singles else SIGMAS
    noises = {name: scores_by_noise(base, validation, sigmas) for name, base in (singles | mixtures).items()}
    scores = {name: max(by_noise.values()) for name, by_noise in noises.items()}
    best = max(scores, key=scores.__getitem__)
    sigma_min = widest_noise(noises[best], num_features)
    found = (singles | mixtures)[best]
    if not is_reference:
        return ChosenBases(singles | {best: found}, sigma_min, scores)
    left = max(0.0, min(allowed.flow, allowed.most_total - (time.monotonic() - begun)))
    lanes = num_lanes() if is_timed and Workers.current().count == 1 else 1
    started = time.monotonic(), time.thread_time()
    flows, flow_remarks = _fit_flows(copies, validation, left, generator, is_timed=is_timed, lanes=lanes)
    beside = (time.monotonic() - started[0], time.thread_time() - started[1]) if lanes > 1 else (0.0, 0.0)
    remarks = (*remarks, *flow_remarks)
    if not flows:
        return ChosenBases({best: found}, sigma_min, scores, remarks=remarks)
    rows = validation.float()
    densities = {name: base.log_prob(rows).double() for name, base in (singles | {best: found}).items()}
    densities |= {name: flow.log_densities for name, flow in flows.items()}
    scores |= {name: flow.log_likelihood for name, flow in flows.items()}
    fitted: dict[str, Base] = singles | {best: found} | {name: flow.flow for name, flow in flows.items()}
    blend = fit_blend(fitted, densities, source=source)
    if blend is not None:
        fitted["blend"], scores["blend"] = blend.base, blend.log_likelihood
        remarks = (*remarks, blend.describe())
    leader = max(fitted, key=scores.__getitem__)
    if leader in (singles | mixtures):
        return ChosenBases({best: found}, sigma_min, scores, remarks=remarks, beside=beside)
    return ChosenBases({leader: fitted[leader]}, sigma_min, scores, noisy=found, remarks=remarks, beside=beside)


def choose_factors(
    draw: DrawRows, num_rows: int, validation: Tensor, *, allowed: ReferenceTime = NO_FLOW, seed: int = 0
) -> ChosenBases:
    """Fit mixtures of factor analysers to many rows that are drawn by index, such as images, and choose their size.

    Args:
        draw: Rows ``(n, d)`` in model space, float32, of indices ``(n,)``, with fresh dequantisation noise at every call.
        num_rows: Number of rows that it can give.
        validation: Rows ``(m, d)`` in model space.
        allowed: Time that the fits may take.
        seed: Seed of the fits.
    """
    generator = torch.Generator().manual_seed(seed)
    held_out = validation[:MOST_FACTOR_ROWS]
    search = SizeSearch(allowed.most_factors, most_bytes=_free_bytes())
    found = fit_factors_by_size(draw, held_out, num_rows=num_rows, search=search, generator=generator)
    noises = scores_by_noise(found.base, held_out, FINE_SIGMAS)
    independent = NoisedGaussianMixture.standard(held_out.shape[1])
    alone = float(independent.log_prob(held_out.float()).double().mean())
    scores = {"independent": alone, "factors": max(noises.values())}
    remarks = (found.remark,) if found.remark else ()
    if alone > scores["factors"]:  # few images; N(0, I) stays the same under any noise
        return ChosenBases({"independent": independent}, FINE_SIGMAS[0], scores, remarks=remarks)
    return ChosenBases({"factors": found.base}, widest_noise(noises, held_out.shape[1]), scores, remarks=remarks)


def widest_noise(scores: Mapping[float, float], num_features: int) -> float:
    """Widest noise of level 0 that costs next to nothing: 0.02 nats a row, or 0.0005 bits a column if that is more.

    Args:
        scores: Mean validation log density of a base by noise, the widest first.
        num_features: Number of columns.
    """
    loss = max(NOISE_LOSS, NOISE_BITS * num_features * math.log(2))
    return next(sigma for sigma, score in scores.items() if score >= max(scores.values()) - loss)


def _free_bytes() -> int | None:
    """Half of the memory that is available now; None where the system does not report it."""
    free = available_memory()
    return None if free is None else free // 2


def _fit_factors(
    train: Tensor, validation: Tensor, allowed: ReferenceTime, generator: torch.Generator
) -> tuple[Base, tuple[str, ...]]:
    """The best mixture of factor analysers of complete rows, and why the search ended, if a limit ended it."""
    search = SizeSearch(allowed.most_factors, most_bytes=_free_bytes(), num_passes=FACTOR_PASSES)
    found = fit_factors_by_size(train, validation[:MOST_FACTOR_ROWS], search=search, generator=generator)
    return found.base, ((found.remark,) if found.remark else ())


def _fit_flows(
    copies: Tensor, validation: Tensor, allowed: float, generator: torch.Generator, *, is_timed: bool, lanes: int
) -> tuple[dict[str, FittedFlow], tuple[str, ...]]:
    """Flows within the time by name, and the reasons why there are none.

    Args:
        allowed: Seconds that all flows may take.
        is_timed: Whether these are seconds of the clock, and not those of one core that the sizes promise.
    """
    plans, reasons, (_, num_rows, num_columns) = {}, {}, copies.shape
    for name, elementwise in FLOWS.items():
        plan, reason = affordable_flow(num_rows, num_columns, allowed, elementwise=elementwise, is_timed=is_timed)
        if plan is None:
            reasons[name] = reason
        else:
            plans[name] = plan
    times = {"seconds": allowed, "is_timed": is_timed, "lanes": lanes}
    flows, missing = race_flows(copies, validation, plans=plans, **times, generator=generator)
    refusals: dict[str, list[str]] = {}
    for name, reason in {**reasons, **missing}.items():
        refusals.setdefault(reason, []).append(name)
    named = {reason: "flow" if len(names) == len(FLOWS) else " and ".join(names) for reason, names in refusals.items()}
    return flows, tuple(f"no {names}: {reason}" for reason, names in named.items())


def _fit_mixtures(train: Tensor, seed: int) -> dict[str, Base]:
    """Single mixtures of several sizes and shapes by name."""
    shapes: tuple[Literal["full", "diag"], ...] = ("full", "diag")
    return {
        f"{number} {shape}": _fit_mixture(train, number, shape, seed)
        for number in NUM_COMPONENTS
        for shape in shapes
        if _is_affordable(number, shape, len(train), train.shape[1])
    }


def _is_affordable(number: int, shape: str, count: int, num_features: int) -> bool:
    """Whether a mixture has fewer parameters than half of the data's numbers, and than 50,000, which fit in seconds."""
    parameters = number * num_features * ((num_features + 3) / 2 if shape == "full" else 2)
    return parameters < 0.5 * count * num_features and parameters < 50_000


def fit_gaussian(train: Tensor) -> Base:
    """One Gaussian with the shrunk covariance of Ledoit and Wolf (2004), without matrices for few rows of many columns."""
    from sklearn.covariance import ledoit_wolf, ledoit_wolf_shrinkage

    (num_rows, num_features), middle = train.shape, train.mean(0)
    if num_features > MOST_DENSE_COLUMNS and num_rows <= num_features // 4:  # a low rank, shrunk towards the identity
        share = float(ledoit_wolf_shrinkage(train.numpy()))
        _, lengths, directions = torch.linalg.svd((train - middle).double(), full_matrices=False)
        loadings = directions.T * lengths * math.sqrt((1 - share) / num_rows)
        noise = share * lengths.square().sum() / (num_rows * num_features)
        return FactorAnalysers(torch.ones(1), middle[None], loadings[None], noise.expand(1, num_features))
    return NoisedGaussianMixture(torch.ones(1), middle[None], torch.as_tensor(ledoit_wolf(train.numpy())[0])[None])


def _fit_mixture(train: Tensor, number: int, shape: Literal["full", "diag"], seed: int) -> NoisedGaussianMixture:
    """A Gaussian mixture fitted by expectation maximisation, without components that hold no row."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(number, covariance_type=shape, reg_covar=1e-3, random_state=seed, max_iter=100)
    with warnings.catch_warnings():
        # A mixture that stops early is still a density; validation judges it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train.numpy())
    covariances = torch.as_tensor(model.covariances_)
    kept = torch.as_tensor(model.weights_) > 1e-6
    weights = torch.as_tensor(model.weights_)[kept]
    return NoisedGaussianMixture(weights / weights.sum(), torch.as_tensor(model.means_)[kept], covariances[kept])


def scores_by_noise(base: Base, rows: Tensor, sigmas: Sequence[float]) -> dict[float, float]:
    """Mean log density of ``rows`` under ``base`` at each candidate noise."""
    log_snrs = {sigma: NoiseSchedule.log_spaced(1, sigma_min=sigma).log_snr[0] for sigma in sigmas}
    if bool(rows.isnan().any()):
        laws = {sigma: base.conditional(log_snr) for sigma, log_snr in log_snrs.items()}
        observed = torch.where(rows.isnan(), 0.0, rows)
        return {sigma: float(law.observed_log_density(observed, rows.isnan()).mean()) for sigma, law in laws.items()}
    with torch.no_grad():
        return {sigma: float(base(rows.float(), log_snr).double().mean()) for sigma, log_snr in log_snrs.items()}
