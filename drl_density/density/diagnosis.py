"""Long adjusted chains of a fitted density, from data and from noise: do they stay, do they mix, do they match the data?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from scipy import stats
from torch import Tensor

from drl_density.diagnostics import as_arviz, chain_table, chains_to_groups, energy_distance_test
from drl_density.errors import DataError
from drl_density.mcmc import MALA, DualAveraging, Kernel, Recording, run_chain
from drl_density.plots import plot_chains
from drl_density.reports import ReportPage, ReportTable
from drl_density.samplers import sample_progressive

if TYPE_CHECKING:
    from drl_density.density.fitted import Density


@dataclass(frozen=True)
class Diagnosis:
    """What long chains say about a density; a thin view of ``tree``.

    Attributes:
        tree: DataTree with groups ``posterior`` and ``sample_stats`` (dims ``chain``, ``draw``, ``feature``), scalars in its
            attributes.
    """

    tree: xr.DataTree

    @property
    def verdict(self) -> str:
        """ "stable", "slow" (chains agree with the data but forget slowly) or "drifting" (they leave where they were)."""
        return str(self.tree.attrs["verdict"])

    @property
    def advice(self) -> str:
        """Why, and what to do."""
        return str(self.tree.attrs["advice"])

    def __getitem__(self, name: str) -> float:
        """A scalar: ``max_r_hat``, ``min_ess``, ``ess_per_gradient``, ``autocorrelation_time``, ``drift``,
        ``drift_p_value``, ``start_gap``, ``distance``, ``distance_p_value``, ``acceptance_rate``.
        """
        return float(self.tree.attrs[name])

    def to_arviz(self) -> Any:
        """The tree as the installed ArviZ takes it."""
        return as_arviz(self.tree)

    def summary(self) -> str:
        """A few lines for a person."""
        a = self.tree.attrs
        return "\n".join(
            [
                f"{a['num_chains']} chains of {a['num_steps']} steps at level {a['level']:g}: {self.verdict}: {self.advice}",
                f"largest R-hat {a['max_r_hat']:.3f}, least ESS {a['min_ess']:.0f}, {a['ess_per_gradient']:.2g} a gradient, "
                f"autocorrelation time {a['autocorrelation_time']:.0f} steps, acceptance {a['acceptance_rate']:.2f}",
                f"log density drifts by {a['drift']:+.3f} from the first to the last half (p = {a['drift_p_value']:.2g}); "
                f"energy distance of chain ends to data {a['distance']:.3g} (permutation p = {a['distance_p_value']:.2g})",
            ]
        )

    def page(self) -> ReportPage:
        """The report page."""
        rows = chain_table(self.tree)
        table = ReportTable(
            "Chains",
            ("feature", "mean", "R-hat", "bulk ESS", "tail ESS"),
            tuple(
                (name, f"{r['mean']:.4g}", f"{r['r_hat']:.3f}", f"{r['ess_bulk']:.0f}", f"{r['ess_tail']:.0f}")
                for name, r in list(rows.items())[:40]
            ),
            "Half of the chains began at data, half at draws that came from noise.",
        )
        return ReportPage(
            title=f"Long chains of {self.tree.attrs['name']}",
            lead=self.summary().splitlines()[0],
            verdict={"stable": "reliable", "slow": "doubtful", "drifting": "unreliable"}[self.verdict],
            advice=f"chains are {self.verdict}",
            tables=(table,),
            figures={"log density along the chains": plot_chains(self.tree)},
            appendix=self.summary(),
        )


def diagnose(
    density: Density,
    rows: Tensor,
    *,
    level: float = 0.0,
    num_steps: int = 10_000,
    num_chains: int = 64,
    kernel: Kernel | None = None,
    seed: int = 0,
) -> Diagnosis:
    """See :meth:`drl_density.density.Density.diagnose`."""
    rows = torch.as_tensor(rows, dtype=torch.float64).reshape(-1, torch.Size(density.event_shape).numel())
    if num_chains < 4 or num_steps < 100 or len(rows) < num_chains // 2:
        raise DataError(
            f"need at least 4 chains, 100 steps and half as many rows as chains, got {num_chains}, {num_steps}, {len(rows)}"
        )
    model, half = density.model, num_chains // 2
    generator = torch.Generator().manual_seed(seed)
    u = density.transform(rows).to(model.dtype)
    u = model.schedule.diffuse(u, level, generator=generator) if level else u
    noise = sample_progressive(model.truncate(level) if level else model, half, generator=generator).draws
    initial = torch.cat([u[torch.randperm(len(u), generator=generator)[:half]], noise])
    scale = model.score(u[:512], level).square().mean(0).rsqrt()
    kernel = MALA(scale=scale) if kernel is None else kernel
    result = run_chain(
        kernel,
        lambda x: model.log_density(x, level),
        initial,
        num_steps=num_steps,
        step_size=0.8,
        num_warmup=min(500, num_steps // 10),
        adaptation=DualAveraging(kernel.target_acceptance),
        recording=Recording(thin=max(1, num_steps // 1000)),
        generator=generator,
    )
    names = [column.name for column in density.columns]
    with torch.no_grad():
        shape = result.draws.shape
        draws = density.transform.inv(result.draws.reshape(-1, shape[-1]).double()).reshape(shape)
    groups = chains_to_groups(draws, result.stats, names, starts=["data"] * half + ["noise"] * half)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs |= _figures(tree, result.final_state.position, u, kernel, num_steps, generator)
    tree.attrs |= {
        "name": str(density.details.get("name", "a density")),
        "level": float(level),
        "num_steps": num_steps,
        "num_chains": num_chains,
        "seed": seed,
    }
    verdict, advice = _judge(tree.attrs)
    tree.attrs |= {"verdict": verdict, "advice": advice}
    return Diagnosis(tree)


def _figures(
    tree: xr.DataTree, ends: Tensor, u: Tensor, kernel: Kernel, num_steps: int, generator: torch.Generator
) -> dict[str, float]:
    table = chain_table(tree).values()
    lp = tree["sample_stats"]["lp"].values
    middle = lp.shape[1] // 2
    by_chain = lp[:, middle:].mean(1) - lp[:, :middle].mean(1)
    half = len(lp) // 2
    least_ess = min(row["ess_bulk"] for row in table)
    distance, p_value = energy_distance_test(ends, u, generator=generator)
    return {
        "max_r_hat": max(row["r_hat"] for row in table),
        "min_ess": least_ess,
        "ess_per_gradient": least_ess / (num_steps * len(lp) * kernel.gradients_per_step),
        "autocorrelation_time": num_steps * len(lp) / least_ess,
        "drift": float(by_chain.mean()),
        "drift_p_value": float(stats.ttest_1samp(by_chain, 0.0).pvalue),
        "start_gap": float(lp[:half].mean() - lp[half:].mean()),
        "distance": distance,
        "distance_p_value": p_value,
        "acceptance_rate": float(np.mean(tree["sample_stats"]["acceptance_rate"].values)),
    }


def _judge(figures: dict[str, Any]) -> tuple[str, str]:
    if figures["drift_p_value"] < 1e-3 and abs(figures["drift"]) > 0.05:
        return (
            "drifting",
            f"the log density moves by {figures['drift']:+.2f} nats along the chains: train longer, or add levels",
        )
    if figures["distance_p_value"] < 2e-3:
        return (
            "drifting",
            "the ends of the chains are told apart from the data: the model's mass lies elsewhere; train longer",
        )
    if not figures["max_r_hat"] < 1.05 or not math.isfinite(figures["min_ess"]):
        return "slow", (
            f"R-hat {figures['max_r_hat']:.2f}: chains have not forgotten where they began; run longer, or sample with the "
            "progressive sampler, which does not depend on it"
        )
    return "stable", "chains from data and from noise agree with each other and with the data"
