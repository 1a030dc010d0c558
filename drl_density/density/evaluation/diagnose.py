"""Long adjusted chains of a fitted density, from data and from noise: do they drift, mix, and match the data?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from torch import Tensor

from drl_density.density.evaluation.diagnosis import FORMAT, Diagnosis
from drl_density.density.evaluation.long_chains import (
    CHAINS_PER_CONDITIONAL,
    ChainTarget,
    LongRun,
    centered,
    marginal_target,
    mode_occupancy,
    recovery_target,
    run_long,
)
from drl_density.density.fitted import FittedModel
from drl_density.density.seeds import random_generator
from drl_density.diagnostics import (
    chain_table,
    chains_to_groups,
    drift_test,
    energy_distance_test,
    nested_r_hat,
    split_r_hat,
)
from drl_density.errors import DataError, Verdict
from drl_density.mcmc import Kernel
from drl_density.model import EnergySequence
from drl_density.records.fields import Interval, NonNegativeFloat, check_fields
from drl_density.records.given import given_or_default
from drl_density.samplers import TemperingSettings, run_tempering

if TYPE_CHECKING:
    import xarray as xr

LARGEST_R_HAT = 1.05
"""Split R-hat above which chains have not mixed; between the 1.01 of long chains and the 1.1 of short ones."""
SMALLEST_P = 1e-3
"""p-value below which a test counts: five tests together raise a false alarm in one of 200 runs."""


@dataclass(frozen=True)
class DiagnoseSettings:
    """Which chains are run, and for how long.

    Attributes:
        level: noise level of the chains.
        is_recovery: run on conditionals p(x_level | x_{level+1}) of noised rows, rather than on the level's own density.
        has_tempering: also run parallel tempering over the noise levels; None does so when single-level chains are slow.
        num_steps: kept steps of every chain, 1e4 to 1e6; at most 1,000 draws of each chain are stored.
        num_chains: chains run in parallel, half started at data.
        kernel: an adjusted kernel; None takes MALA scaled by the score.

    Raises:
        ValueError: fewer than 8 chains or 100 steps.
    """

    level: NonNegativeFloat = 0.0
    is_recovery: bool = False
    has_tempering: bool | None = None
    num_steps: Annotated[int, Interval(100)] = 10_000
    num_chains: Annotated[int, Interval(8)] = 64
    kernel: Kernel | None = None

    def __post_init__(self) -> None:
        check_fields(self)


def diagnose(
    density: FittedModel,
    rows: Any,
    *,
    settings: DiagnoseSettings | None = None,
    generator: torch.Generator | None = None,
    seed: int | None = None,
) -> Diagnosis:
    """See :meth:`drl_density.density.Density.diagnose`; ``seed`` is only kept in the record."""
    import xarray as xr

    settings = given_or_default(settings, DiagnoseSettings)
    generator = random_generator(seed) if generator is None else generator
    model, level = density.model, settings.level
    u = density.to_states(_checked_rows(density, rows, settings))
    make = recovery_target if settings.is_recovery else marginal_target
    target = make(model, u, level, settings.num_chains - settings.num_chains % CHAINS_PER_CONDITIONAL, generator)
    run = run_long(target, settings.kernel, settings.num_steps, generator)
    draws, names = run.result.draws, [column.name for column in density.columns]
    if level == 0 and not settings.is_recovery:
        draws = density.to_data(draws)
    tree = xr.DataTree.from_dict(chains_to_groups(draws, run.result.stats, names, starts=target.starts))
    figures, occupancy = _figures(target, run, generator)
    verdict, advice = _judge(figures)
    is_slow = verdict is Verdict.SLOW and not settings.is_recovery
    if settings.has_tempering or (settings.has_tempering is None and is_slow):
        more, ladder = _tempered(model, target, level, generator)
        figures |= more
        tree["tempering"] = xr.DataTree(ladder)
        advice = f"{advice}; {_tempered_advice(figures)}"
    tree["occupancy"] = xr.DataTree(occupancy)
    tree.attrs |= figures | {
        "format": FORMAT,
        "name": density.provenance.name,
        "level": float(level),
        "is_recovery": int(settings.is_recovery),
        "num_steps": settings.num_steps,
        "num_chains": len(target.starts),
        "thin": run.thin,
        "seed": "fresh" if seed is None else seed,
        "verdict": verdict.value,
        "advice": advice,
    }
    return Diagnosis(tree)


def _checked_rows(density: FittedModel, rows: Any, settings: DiagnoseSettings) -> Tensor:
    """Complete rows within bounds, enough of them for the chains."""
    x = density.rows(rows, codes="cells")  # chains move between codes, and so may the rows that they start at
    if len(x) < settings.num_chains // 2:
        raise DataError(
            f"need half as many rows as chains, got {len(x)} rows for {settings.num_chains} chains: give more rows, or take "
            "fewer chains (num_chains, --chains)"
        )
    if not 0 <= settings.level < density.model.num_levels:
        raise DataError(f"expected a level in [0, {density.model.num_levels}), got {settings.level:g}")
    inside = density.log_density_of(x).isfinite()
    if not bool(inside.all()):
        raise DataError(
            f"expected rows within the bounds of every column, {int((~inside).sum())} of {len(x)} lie outside; leave "
            "them out, chains cannot start there"
        )
    return x


def _figures(
    target: ChainTarget, run: LongRun, generator: torch.Generator
) -> tuple[dict[str, float | int], xr.Dataset]:
    import xarray as xr

    is_recovery = int(target.conditional.max()) > 0
    draws = centered(run.result.draws, target.conditional)
    lp = run.result.stats["lp"]
    half, steps = lp.shape[1] // 2, len(draws) * run.thin
    ess, resolved = (_least_ess(x) for x in (draws, centered(run.resolved, target.conditional)))
    # A thinned chain without visible correlation has more effective draws than are kept. The unthinned stretch shows it.
    time = steps * lp.shape[1] / ess
    if run.thin > 1 and time < 2 * run.thin:
        time = min(time, len(run.resolved) * lp.shape[1] / resolved)
    independent = torch.arange(lp.shape[1])
    if is_recovery:
        independent = torch.arange(half, half + int(target.conditional.max()) + 1)
    ends, reference = run.result.final_state.position[independent].cpu(), target.reference.cpu()
    distance, p_value = energy_distance_test(ends, reference, generator=generator)
    shift, shift_p_value = drift_test(draws)
    drift, drift_p_value = _drift(lp)
    occupancy = mode_occupancy(reference, run.result.draws, independent)
    with torch.no_grad():
        at_data = target.log_density(target.reference[:2000]).mean() if not is_recovery else math.nan
        at_start = target.log_density(target.initial).double().cpu()
    figures = {
        "max_r_hat": float(split_r_hat(draws.flatten(2).transpose(0, 1)).max()),
        "nested_r_hat": float(nested_r_hat(draws.flatten(2), target.superchains).max()),
        "min_ess": steps * lp.shape[1] / time,
        "ess_per_gradient": steps / time / run.gradients,
        "autocorrelation_time": time,
        "drift": drift,
        "drift_p_value": drift_p_value,
        "summary_drift": float(shift.abs().max()),
        "summary_drift_p_value": shift_p_value,
        "start_gap": float(lp[:, :half].mean() - lp[:, half:].mean()),
        "energy_gap": float(at_data - lp.mean()),
        "distance": distance,
        "distance_p_value": p_value,
        "rank_p_value": _rank_p_value(at_start, lp.double(), independent) if is_recovery else 1.0,
        "num_modes": len(occupancy.data),
        "occupancy_p_value": occupancy.p_value,
        "mode_switches": occupancy.switches,
        "acceptance_rate": float(run.result.stats["acceptance_rate"].mean()),
    }
    shares = {"data": ("mode", occupancy.data), "chains": ("mode", occupancy.chains)}
    return figures, xr.Dataset(shares, coords={"mode": np.arange(len(occupancy.data))})


def _least_ess(draws: Tensor) -> float:
    import xarray as xr

    x = draws.flatten(2).cpu().double().permute(1, 0, 2).numpy()
    data = xr.Dataset({"x": (("chain", "draw", "cell"), x)})
    return min(row["ess_bulk"] for row in chain_table(xr.DataTree.from_dict({"posterior": data})).values())


def _drift(lp: Tensor) -> tuple[float, float]:
    """Mean change of the log density from the first to the last half of the chains, and its t-test p-value over chains."""
    middle = len(lp) // 2
    by_chain = (lp[middle:].double().mean(0) - lp[:middle].double().mean(0)).numpy()
    if not by_chain.any():
        return 0.0, 1.0
    from scipy import stats

    # The stub of scipy describes the result as a bare tuple.
    p_value: Any = stats.ttest_1samp(by_chain, 0.0)[1]
    return float(by_chain.mean()), float(p_value)


def _rank_p_value(at_start: Tensor, lp: Tensor, chains: Tensor) -> float:
    """Kolmogorov-Smirnov p-value of the ranks of each row's own state among the draws of a chain of its conditional.

    Where the model is right, the state is an exact draw of that conditional, so its rank is uniform.
    """
    half = lp.shape[1] // 2
    ranks = (lp[:, chains] < at_start[chains - half]).double().mean(0)
    from scipy import stats

    return float(stats.kstest(ranks.numpy(), "uniform").pvalue)


def _tempered(
    model: EnergySequence, target: ChainTarget, level: float, generator: torch.Generator
) -> tuple[dict[str, float | int], xr.Dataset]:
    """Figures of replicas that swap over the noise levels, started where the chains started."""
    import xarray as xr

    initial = target.initial[:: max(1, len(target.initial) // 32)]
    settings = TemperingSettings(num_sweeps=300)
    found = run_tempering(model, len(initial), level=level, initial=initial, settings=settings, generator=generator)
    draws, reference = found.draws[len(found.draws) // 4 :].cpu(), target.reference.cpu()
    occupancy = mode_occupancy(reference, draws, torch.arange(len(initial)))
    figures = {
        "tempered_max_r_hat": float(split_r_hat(draws.flatten(2).transpose(0, 1)).max()),
        "tempered_min_ess": _least_ess(draws),
        "tempered_distance_p_value": energy_distance_test(draws[-1], reference, generator=generator)[1],
        "tempered_occupancy_p_value": occupancy.p_value,
        "tempered_restarts": float(found.restarts.double().mean()),
        "tempered_rungs": len(found.levels),
        "tempered_gradients": found.num_gradients,
    }
    ladder = xr.Dataset(
        {"swap_rate": ("pair", found.swap_rates.numpy()), "level": ("rung", np.array(found.levels))},
    )
    return figures, ladder


def _tempered_advice(figures: dict[str, Any]) -> str:
    if not figures["tempered_max_r_hat"] < LARGEST_R_HAT:
        return (
            f"parallel tempering over the noise levels does not mix either (R-hat {figures['tempered_max_r_hat']:.2f}): "
            "believe no mode weights; train longer or add levels"
        )
    text = f"parallel tempering over the noise levels mixes (R-hat {figures['tempered_max_r_hat']:.2f})"
    if min(figures["tempered_distance_p_value"], figures["tempered_occupancy_p_value"]) < SMALLEST_P:
        return f"{text}, and its draws differ from the data: the model gives its modes other weights; train longer"
    return f"{text} and agrees with the data: draw by samplers.run_tempering or the progressive sampler"


def _judge(figures: dict[str, Any]) -> tuple[Verdict, str]:
    if figures["drift_p_value"] < SMALLEST_P and abs(figures["drift"]) > 0.05:
        return (
            Verdict.DRIFTING,
            f"the log density moves by {figures['drift']:+.2f} nats along the chains: train longer, or add levels",
        )
    if figures["summary_drift_p_value"] < SMALLEST_P and figures["summary_drift"] > 0.1:
        return (
            Verdict.DRIFTING,
            f"a mean or second moment moves by {figures['summary_drift']:.2f} spreads along the chains: train longer",
        )
    if figures["distance_p_value"] < 2 * SMALLEST_P:
        return (
            Verdict.DRIFTING,
            "the ends of the chains differ from the data: the model's mass lies elsewhere; train longer",
        )
    if figures["rank_p_value"] < SMALLEST_P:
        return (
            Verdict.DRIFTING,
            "the data's own states are not draws of the conditionals: the model disagrees with the data there; train longer",
        )
    worst = max(
        figures["max_r_hat"], figures["nested_r_hat"], key=lambda value: math.inf if math.isnan(value) else value
    )
    if not worst < LARGEST_R_HAT or not math.isfinite(figures["min_ess"]):
        return Verdict.SLOW, (
            f"R-hat {worst:.2f}: chains have not forgotten where they started; run longer, or sample with the "
            "progressive sampler, which does not depend on it"
        )
    if figures["occupancy_p_value"] < SMALLEST_P:
        return Verdict.DRIFTING, "chains occupy the data's modes in other shares than the data: train longer"
    return Verdict.STABLE, "chains from data and from noise agree with each other and with the data"
