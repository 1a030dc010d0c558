"""``Density.evaluate``: test likelihoods with the interval of log Z, as one labelled tree."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from drl_density import __version__
from drl_density.density.evaluation.likelihood import FORMAT
from drl_density.density.evaluation.likelihood_report import LikelihoodReport
from drl_density.density.evaluation.live_line import LiveLine
from drl_density.density.fitted import FittedModel, random_generator
from drl_density.diagnostics import chain_table, chains_to_groups
from drl_density.mcmc import MALA, DualAveraging, Recording, run_chain
from drl_density.model import EnergySequence
from drl_density.partition_function import (
    AISSettings,
    Progress,
    Sandwich,
    SandwichSettings,
    annealing_log_likelihood,
    flow_log_likelihood,
    plan_annealing,
    plan_reverse_path,
    reverse_weights,
    sequence_path,
    sequence_sandwich,
)

FLOW_COLUMNS = 20  # the probability flow's exact trace takes a gradient per column


def evaluate(
    density: FittedModel,
    x: Any,
    *,
    settings: SandwichSettings | None = None,
    start_rows: Any = None,
    num_chain_steps: int = 1000,
    generator: torch.Generator | None = None,
    seed: int | None = None,
    progress: bool = False,
) -> LikelihoodReport:
    """See :meth:`drl_density.density.Density.evaluate`; ``seed`` is only kept in the record."""
    settings = settings or SandwichSettings()
    generator = random_generator(seed) if generator is None else generator
    rows, widths = density.dequantized_rows(x, generator)
    source = rows if start_rows is None else density.dequantized_rows(start_rows, generator)[0]
    model = density.model
    u_start = density.to_states(source)
    line = LiveLine(is_shown=progress)
    result = sequence_sandwich(model, data=u_start, settings=settings, generator=generator, watch=line)
    line(Progress("long chains", 0, 1, result.log_z, result.standard_error, line.ess))
    chains = _long_chains(density, u_start, generator, num_chain_steps)
    line(Progress("other densities", 0, 1, result.log_z, result.standard_error, line.ess))
    values = density.log_prob(rows) + density.estimate.log_z - result.log_z
    tree = {
        "log_likelihood": xr.Dataset(
            {"x": (("chain", "draw", "obs_id"), values[None, None].numpy())},
            coords={"chain": [0], "draw": [0], "obs_id": np.arange(len(rows))},
        ),
        "observed_data": xr.Dataset(
            {"x": (("obs_id", "feature"), rows.numpy()), "width": ("feature", widths.numpy())},
            coords={"feature": [c.name for c in density.columns]},
        ),
        **chains,
        **_sandwich_groups(result),
        "other_densities": _other_densities(density, rows, values, result.log_z, generator, settings.num_particles),
    }
    attributes = {
        "format": FORMAT,
        "name": density.provenance.name,
        "log_z": result.log_z,
        "log_z_standard_error": result.standard_error,
        "log_z_lower": result.lower,
        "log_z_upper": result.upper,
        "bracket_lower": result.bracket[0],
        "bracket_upper": result.bracket[1],
        "certificate": result.certificate,
        "overlap": result.overlap,
        "verdict": result.verdict.value,
        "advice": result.advice,
        "learned_constant": float(model.log_normalizer(0)),
        "num_features": rows.shape[1],
        "scheme": _scheme(widths),
        "level_noise": float(model.schedule.sigma_at(0)),
        "declared_range": _declared_range(density, widths),
        **_audit(density, rows, values, result.log_z),
        "seed": "fresh" if seed is None else seed,
        "settings": f"{settings}",
        "num_densities": len(result.path.levels),
        "num_transitions": result.annealing.path.num_transitions,
        "num_particles": settings.num_particles,
        "num_replicates": settings.num_replicates,
        "num_mixing_steps": settings.num_mixing_steps,
        "units": "nats",
        "inference_library": "drl_density",
        "inference_library_version": __version__,
    }
    line.close()
    whole = xr.DataTree.from_dict(tree)
    whole.attrs |= attributes
    least_ess = min(row["ess_bulk"] for row in chain_table(whole).values())
    whole.attrs["autocorrelation_time"] = num_chain_steps * whole["posterior"].sizes["chain"] / least_ess
    return LikelihoodReport(whole)


def _audit(density: FittedModel, rows: Tensor, values: Tensor, log_z: float) -> dict[str, Any]:
    """Figures of the audit trail, and what is to be said of the fit itself."""
    u = density.transform(rows)
    jacobian = float(density.transform.log_abs_det_jacobian(rows, u).mean())
    base = density.baselines
    return {
        "transform": type(density.transform).__name__,
        "mean_log_jacobian": jacobian,
        "mean_model_log_density": float(values.mean()) + log_z - jacobian,
        "validation_model": base.model,
        "validation_gaussian": base.gaussian,
        "validation_independent": base.independent,
        "remarks": "; ".join(density.remarks),
    }


def _scheme(widths: Tensor) -> str:
    used, counts = widths[widths > 0].unique(return_counts=True)
    if not len(used):
        return "log density in data units, rows as given"
    parts = [f"{width:g} ({count} columns)" for width, count in zip(used.tolist(), counts.tolist(), strict=True)]
    return f"log density in data units, rows dequantised once by uniform noise of widths {', '.join(parts)}"


def _declared_range(density: FittedModel, widths: Tensor) -> str:
    """Least and largest value of whole numbers with one declared range, all of them dequantised; else nothing."""
    ends = {(column.lower + column.width / 2, column.upper - column.width / 2) for column in density.columns}
    is_whole = all(column.kind == "integer" and column.width == 1 for column in density.columns)
    if not is_whole or len(ends) > 1 or not bool((widths == 1).all()):
        return ""
    low, high = ends.pop()
    return f"{low:g}..{high:g}" if np.isfinite([low, high]).all() else ""


def _sandwich_groups(result: Sandwich) -> dict[str, xr.Dataset]:
    dims = ("replicate", "particle")
    ais = xr.Dataset(
        {
            "log_weight": (dims, result.annealing.log_weights.numpy()),
            "ess_fraction": ("density", list(result.path.ess_shares)),
            "acceptance_rate": ("density", list(result.path.acceptance_rates)),
            "level": ("density", list(result.path.levels)),
            "overlap": (("state", "other_state"), result.path.overlap.numpy()),
        },
        attrs={"pareto_k": result.annealing.pareto_k, "verdict": result.annealing.verdict.value},
    )
    paths = {"forward": (dims, result.forward.numpy()), "reverse_from_noise": (dims, result.reverse.numpy())}
    if result.reverse_from_data is not None:
        paths["reverse_from_data"] = (dims, result.reverse_from_data.numpy())
    names = list(result.estimates)
    estimates = xr.Dataset(
        {
            "value": ("estimator", [result.estimates[name][0] for name in names]),
            "standard_error": ("estimator", [result.estimates[name][1] for name in names]),
        },
        coords={"estimator": [name.value for name in names]},
    )
    return {"ais": ais, "paths": xr.Dataset(paths), "estimates": estimates}


def _long_chains(
    density: FittedModel, u_start: Tensor, generator: torch.Generator, num_steps: int
) -> dict[str, xr.Dataset]:
    """Adjusted chains at level 0, half begun at data, half at pool draws, in data units."""
    model, count = density.model, 4
    from_pool = density.to_model(density.pool[torch.randint(len(density.pool), (count,), generator=generator)])
    chosen = u_start[torch.randint(len(u_start), (count,), generator=generator)]
    initial = torch.cat([chosen, from_pool.to(chosen)]).detach()
    scale = u_start.std(0)
    kernel = MALA(scale=torch.where(scale > 0, scale, torch.ones_like(scale)))
    result = run_chain(
        kernel,
        lambda u: model.log_density(u, 0),
        initial,
        num_steps=num_steps,
        step_size=0.3,
        num_warmup=200,
        adaptation=DualAveraging(kernel.target_acceptance),
        recording=Recording(thin=max(1, num_steps // 250)),
        generator=generator,
    )
    draws = density.to_data(result.draws)
    names = [column.name for column in density.columns]
    return chains_to_groups(draws, result.stats, names, starts=["data"] * count + ["noise"] * count)


def _other_densities(
    density: FittedModel, rows: Tensor, values: Tensor, log_z: float, generator: torch.Generator, num_particles: int
) -> xr.Dataset:
    """Mean log-likelihoods of densities that share the model's scores or constants but not its normaliser.

    Over no more rows, and with no larger pilot, than there are particles, so that one number bounds what a report costs.
    """
    most = min(200, num_particles)
    model, few = density.model, rows[:most]
    learned = float(values.mean()) + log_z - float(model.log_normalizer(0))
    u = density.transform(few)
    jacobian, u = density.transform.log_abs_det_jacobian(few, u), u.to(model.device, model.dtype)
    figures = {
        "normalised by its learned constant": learned,
        f"annealing sampler (errs low), first {len(few)} rows": float(
            (_annealing_sampler(model, u, generator, num_particles) + jacobian).mean()
        ),
        f"diffusion sampler (lower bound), first {len(few)} rows": float(
            (_diffusion_sampler(density, u, generator) + jacobian).mean()
        ),
    }
    if len(few) < len(rows):
        figures[f"energy-based model, first {len(few)} rows"] = float(values[:most].mean())
    if rows.shape[1] <= FLOW_COLUMNS:
        flow = float((flow_log_likelihood(model, u) + jacobian).mean())
        figures[f"probability flow, first {len(few)} rows"] = flow
    left_out = (
        ""
        if rows.shape[1] <= FLOW_COLUMNS
        else f"The probability flow is left out above {FLOW_COLUMNS} columns: its exact "
        "trace takes a gradient per column."
    )
    return xr.Dataset(
        {"mean_log_likelihood": ("density", list(figures.values()))},
        coords={"density": list(figures)},
        attrs={"left_out": left_out},
    )


def _annealing_sampler(model: EnergySequence, u: Tensor, generator: torch.Generator, num_particles: int) -> Tensor:
    path = sequence_path(model, steps_per_level=8)
    settings = AISSettings(num_pilot_particles=min(AISSettings.num_pilot_particles, num_particles))
    plan = plan_annealing(path, settings, generator=generator)
    return annealing_log_likelihood(path, plan, settings, u, generator=generator)


def _diffusion_sampler(density: FittedModel, u: Tensor, generator: torch.Generator) -> Tensor:
    """Evidence lower bound of the Gaussian reverse chain whose means are the model's denoisers."""
    model = density.model
    draws = density.to_model(density.pool[:512].double()).to(model.dtype)
    path = plan_reverse_path(model, draws, generator=generator)
    with torch.no_grad():
        return model.log_density(u, 0).double().cpu() - reverse_weights(path, u, generator=generator)
