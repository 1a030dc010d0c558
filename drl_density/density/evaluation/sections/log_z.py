"""The estimates of log Z in a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drl_density.partition_function import Sandwich, SandwichSettings

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class LogZ:
    """Everything that is known about log Z.

    Attributes:
        result: two-sided estimate with its interval and verdict.
        settings: sizes of its run.
    """

    result: Sandwich
    settings: SandwichSettings

    def groups(self) -> dict[str, xr.Dataset]:
        """``ais``, ``paths`` in both directions, ``estimates`` by name, and ``segments`` in many dimensions."""
        import xarray as xr

        result, dims = self.result, ("replicate", "particle")
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
        # There may be several times as many forward paths.
        forward = (("replicate", "forward_path"), result.forward.numpy())
        paths = {"forward": forward, "reverse_from_noise": (dims, result.reverse.numpy())}
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
        groups = {"ais": ais, "paths": xr.Dataset(paths), "estimates": estimates}
        if (gaps := result.segments) is not None:
            lows, highs = zip(*gaps.levels, strict=True)
            columns = {"level": lows, "noisier_level": highs, "gap": gaps.gaps}
            columns |= {"standard_error": gaps.standard_errors, "scatter": gaps.scatters}
            variables = {name: ("segment", list(values)) for name, values in columns.items()}
            groups["segments"] = xr.Dataset(variables, attrs={"num_rows": gaps.num_rows, "units": "nats"})
        return groups

    def attributes(self) -> dict[str, str | float]:
        """The interval, the verdict, and the sizes of the run."""
        result, settings = self.result, self.settings
        return {
            "log_z": result.log_z,
            "log_z_standard_error": result.standard_error,
            "log_z_lower": result.lower,
            "log_z_upper": result.upper,
            "origin": result.origin,
            "bracket_lower": result.bracket[0],
            "bracket_upper": result.bracket[1],
            "certificate": result.certificate,
            "overlap": result.overlap,
            "verdict": result.verdict.value,
            "advice": result.advice,
            "settings": f"{settings}",
            "num_densities": len(result.path.levels),
            "num_transitions": result.annealing.path.num_transitions,
            "num_particles": settings.num_particles,
            "num_replicates": settings.num_replicates,
            "num_mixing_steps": settings.num_mixing_steps,
        }
