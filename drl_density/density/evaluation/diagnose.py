"""Long adjusted chains of a fitted density, from data and from noise: do they stay, do they mix, do they match the data?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from scipy import stats
from torch import Tensor

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
from drl_density.diagnostics import (
    as_arviz,
    chain_table,
    chains_to_groups,
    drift_test,
    energy_distance_test,
    nested_r_hat,
    split_r_hat,
)
from drl_density.errors import DataError, RunFolderError, Verdict
from drl_density.mcmc import Kernel
from drl_density.model import EnergySequence
from drl_density.plots import plot_chains, plot_occupancy
from drl_density.reports import ReportPage, ReportTable
from drl_density.samplers import TemperingSettings, run_tempering

if TYPE_CHECKING:
    from drl_density.density.fitted import Density

FORMAT = "drl_density diagnosis, version 1"
LARGEST_R_HAT = 1.05
SMALLEST_P = 1e-3


@dataclass(frozen=True)
class Diagnosis:
    """What long chains say about a density; a thin view of ``tree``.

    Attributes:
        tree: DataTree with groups ``posterior`` and ``sample_stats`` (dims ``chain``, ``draw``, ``feature``), ``occupancy``
            (dim ``mode``), ``tempering`` where it ran; scalars in its attributes.
    """

    tree: xr.DataTree

    @property
    def verdict(self) -> Verdict:
        """``Verdict.STABLE``, ``SLOW`` (chains agree with the data but mix slowly) or ``DRIFTING`` (they leave the data)."""
        return Verdict(self.tree.attrs["verdict"])

    @property
    def advice(self) -> str:
        """Why, and what to do."""
        return str(self.tree.attrs["advice"])

    def __getitem__(self, name: str) -> float:
        """A scalar of the tree's attributes.

        ``max_r_hat``, ``nested_r_hat``, ``min_ess``, ``ess_per_gradient``, ``autocorrelation_time`` (steps),
        ``acceptance_rate``; ``drift`` (nats) and ``drift_p_value`` of the log density, ``summary_drift`` and
        ``summary_drift_p_value`` of means and second moments; ``start_gap``, ``energy_gap`` (nats); ``distance``,
        ``distance_p_value``, ``rank_p_value`` (recovery conditionals); ``occupancy_p_value``, ``mode_switches``;
        and with tempering ``tempered_max_r_hat``,
        ``tempered_min_ess``, ``tempered_distance_p_value``, ``tempered_occupancy_p_value``, ``tempered_restarts``.
        """
        return float(self.tree.attrs[name])

    def to_arviz(self) -> Any:
        """The tree as the installed ArviZ takes it."""
        return as_arviz(self.tree)

    def save(self, path: str | Path) -> Path:
        """Write the tree as netCDF.

        Args:
            path: of the file.
        """
        self.tree.to_netcdf(path, engine="h5netcdf")
        return Path(path)

    @staticmethod
    def load(path: str | Path) -> Diagnosis:
        """Read a diagnosis.

        Args:
            path: of the file.

        Raises:
            RunFolderError: missing, damaged, or not a diagnosis of this version.
        """
        try:
            with xr.open_datatree(path, engine="h5netcdf") as stored:
                tree = stored.load()
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path} cannot be read as a diagnosis: {error}") from error
        if tree.attrs.get("format") != FORMAT:
            raise RunFolderError(f"{path}: expected a '{FORMAT}', got {tree.attrs.get('format')!r}; diagnose again")
        return Diagnosis(tree)

    @property
    def target(self) -> str:
        """What the chains ran on, in words."""
        a = self.tree.attrs
        return f"recovery conditionals of level {a['level']:g}" if a["is_recovery"] else f"level {a['level']:g}"

    def summary(self) -> str:
        """A few lines for a person."""
        a = self.tree.attrs
        lines = [
            f"{a['num_chains']} chains of {a['num_steps']} steps at {self.target}: {self.verdict}: {self.advice}",
            f"largest R-hat {a['max_r_hat']:.3f}, nested {a['nested_r_hat']:.3f}, least ESS {a['min_ess']:.0f}, "
            f"{a['ess_per_gradient']:.2g} a gradient, autocorrelation time {a['autocorrelation_time']:.0f} steps, "
            f"acceptance {a['acceptance_rate']:.2f}",
            f"log density drifts by {a['drift']:+.3f} from the first to the last half (p = {a['drift_p_value']:.2g}), "
            f"means and second moments by up to {a['summary_drift']:.3f} (p = {a['summary_drift_p_value']:.2g})",
            f"energy distance of chain ends to data {a['distance']:.3g} (permutation p = {a['distance_p_value']:.2g}), "
            + (f"ranks of the data in their conditionals p = {a['rank_p_value']:.2g}, " if a["is_recovery"] else "")
            + f"{a['num_modes']} modes, occupied as by the data with p = {a['occupancy_p_value']:.2g}, "
            f"{a['mode_switches']:.2g} switches a kept draw",
        ]
        if "tempered_max_r_hat" in a:
            lines.append(
                f"parallel tempering, {a['tempered_rungs']} rungs: largest R-hat {a['tempered_max_r_hat']:.3f}, least ESS "
                f"{a['tempered_min_ess']:.0f}, {a['tempered_restarts']:.1f} restarts a ladder, distance p = "
                f"{a['tempered_distance_p_value']:.2g}, modes p = {a['tempered_occupancy_p_value']:.2g}"
            )
        return "\n".join(lines)

    def page(self) -> ReportPage:
        """The report page."""
        table = ReportTable(
            f"Chains of {self.target}",
            ("feature", "mean", "R-hat", "bulk ESS", "tail ESS"),
            tuple(
                (name, f"{r['mean']:.4g}", f"{r['r_hat']:.3f}", f"{r['ess_bulk']:.0f}", f"{r['ess_tail']:.0f}")
                for name, r in list(chain_table(self.tree).items())[:40]
            )
            if not self.tree.attrs["is_recovery"]
            else (),
            "Half of the chains began at data, half at noise. " + self.summary().split("\n", 1)[1],
        )
        figures = {f"log density along the chains of {self.target}": plot_chains(self.tree)}
        if self.tree.attrs["num_modes"] > 1:
            figures[f"modes at {self.target}"] = plot_occupancy(self.tree)
        return ReportPage(
            title=f"Long chains of {self.tree.attrs['name']}",
            lead=self.summary().splitlines()[0],
            verdict=self.verdict,
            advice=self.advice,
            subject=f"chains of {self.target}:",
            tables=(table,),
            figures=figures,
            appendix=self.summary(),
        )


def diagnose(
    density: Density,
    rows: Tensor,
    *,
    level: float = 0.0,
    recovery: bool = False,
    tempering: bool | None = None,
    num_steps: int = 10_000,
    num_chains: int = 64,
    kernel: Kernel | None = None,
    seed: int = 0,
) -> Diagnosis:
    """See :meth:`drl_density.density.Density.diagnose`."""
    model = density.model
    rows = _checked_rows(density, rows, level, num_steps, num_chains)
    generator = torch.Generator().manual_seed(seed)
    u = density.transform(rows).to(model.device, model.dtype)
    make = recovery_target if recovery else marginal_target
    target = make(model, u, level, num_chains - num_chains % CHAINS_PER_CONDITIONAL, generator)
    run = run_long(target, kernel, num_steps, generator)
    draws, names = run.result.draws, [column.name for column in density.columns]
    if level == 0 and not recovery:
        with torch.no_grad():
            draws = density.transform.inv(draws.reshape(-1, draws.shape[-1]).double()).reshape(draws.shape)
    groups = chains_to_groups(draws, run.result.stats, names, starts=target.starts)
    tree = xr.DataTree.from_dict(groups)
    figures, occupancy = _figures(target, run, generator)
    verdict, advice = _judge(figures)
    if tempering or (tempering is None and verdict is Verdict.SLOW and not recovery):
        more, ladder = _tempered(model, target, level, generator)
        figures |= more
        tree["tempering"] = xr.DataTree(ladder)
        advice = f"{advice}; {_tempered_advice(figures)}"
    tree["occupancy"] = xr.DataTree(occupancy)
    tree.attrs |= figures | {
        "format": FORMAT,
        "name": str(density.details.get("name", "a density")),
        "level": float(level),
        "is_recovery": int(recovery),
        "num_steps": num_steps,
        "num_chains": len(target.starts),
        "thin": run.thin,
        "seed": seed,
        "verdict": verdict.value,
        "advice": advice,
    }
    return Diagnosis(tree)


def _checked_rows(density: Density, rows: Tensor, level: float, num_steps: int, num_chains: int) -> Tensor:
    rows = torch.as_tensor(rows, dtype=torch.float64, device="cpu")
    count = torch.Size(density.event_shape).numel()
    if rows.ndim < 1 or len(rows) == 0 or rows[0].numel() != count or not bool(rows.isfinite().all()):
        raise DataError(f"expected complete rows of shape {tuple(density.event_shape)}, got {tuple(rows.shape)}")
    if num_chains < 8 or num_steps < 100 or len(rows) < num_chains // 2:
        raise DataError(
            f"need at least 8 chains, 100 steps and half as many rows as chains, got {num_chains}, {num_steps}, {len(rows)}"
        )
    if not 0 <= level < density.model.num_levels:
        raise DataError(f"expected a level in [0, {density.model.num_levels}), got {level:g}")
    rows = rows.reshape(-1, count)
    inside = density.log_prob(rows).isfinite()
    if not bool(inside.all()):
        raise DataError(
            f"expected rows within the bounds of every column, {int((~inside).sum())} of {len(rows)} lie outside; leave "
            "them out, chains cannot begin there"
        )
    return rows


def _figures(
    target: ChainTarget, run: LongRun, generator: torch.Generator
) -> tuple[dict[str, float | int], xr.Dataset]:
    is_recovery = int(target.conditional.max()) > 0
    draws = centered(run.result.draws, target.conditional)
    lp = run.result.stats["lp"]
    half, steps = lp.shape[1] // 2, len(draws) * run.thin
    ess, resolved = (_least_ess(x) for x in (draws, centered(run.resolved, target.conditional)))
    # A thinned chain without visible correlation has more effective draws than are kept: the stretch kept whole tells.
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
    x = draws.flatten(2).cpu().double().permute(1, 0, 2).numpy()
    data = xr.Dataset({"x": (("chain", "draw", "cell"), x)})
    return min(row["ess_bulk"] for row in chain_table(xr.DataTree.from_dict({"posterior": data})).values())


def _drift(lp: Tensor) -> tuple[float, float]:
    """Mean change of the log density from the first to the last half of the chains, and its p-value by a t-test."""
    middle = len(lp) // 2
    by_chain = (lp[middle:].double().mean(0) - lp[:middle].double().mean(0)).numpy()
    if not by_chain.any():
        return 0.0, 1.0
    return float(by_chain.mean()), float(stats.ttest_1samp(by_chain, 0.0).pvalue)


def _rank_p_value(at_start: Tensor, lp: Tensor, chains: Tensor) -> float:
    """Is the log density of each row's own state, an exact draw of its conditional where the model is right, uniformly
    ranked among the draws of a chain of that conditional? Kolmogorov and Smirnov's p-value.
    """
    half = lp.shape[1] // 2
    ranks = (lp[:, chains] < at_start[chains - half]).double().mean(0)
    return float(stats.kstest(ranks.numpy(), "uniform").pvalue)


def _tempered(
    model: EnergySequence, target: ChainTarget, level: float, generator: torch.Generator
) -> tuple[dict[str, float | int], xr.Dataset]:
    """The same questions to replicas that swap over the noise levels, begun where the chains began."""
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
            "the ends of the chains are told apart from the data: the model's mass lies elsewhere; train longer",
        )
    if figures["rank_p_value"] < SMALLEST_P:
        return (
            Verdict.DRIFTING,
            "the data's own states are no draws of the conditionals: the model disagrees with the data there; train longer",
        )
    worst = max(
        figures["max_r_hat"], figures["nested_r_hat"], key=lambda value: math.inf if math.isnan(value) else value
    )
    if not worst < LARGEST_R_HAT or not math.isfinite(figures["min_ess"]):
        return Verdict.SLOW, (
            f"R-hat {worst:.2f}: chains have not forgotten where they began; run longer, or sample with the "
            "progressive sampler, which does not depend on it"
        )
    if figures["occupancy_p_value"] < SMALLEST_P:
        return Verdict.DRIFTING, "chains occupy the data's modes in other shares than the data: train longer"
    return Verdict.STABLE, "chains from data and from noise agree with each other and with the data"
