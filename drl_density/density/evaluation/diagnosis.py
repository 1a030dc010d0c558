"""The record of long chains: verdict, figures, page and file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from drl_density.diagnostics import (
    as_arviz,
    chain_table,
)
from drl_density.errors import RunFolderError, Verdict
from drl_density.plots import plot_chains, plot_occupancy
from drl_density.records.html import html_card
from drl_density.reports import ReportPage, ReportPanel, ReportSection, ReportTable
from drl_density.run_folder import write_netcdf

if TYPE_CHECKING:
    import xarray as xr

FORMAT = "drl_density diagnosis, version 1"


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Results of long chains of a density; a thin view of ``tree``.

    Attributes:
        tree: DataTree with groups ``posterior`` and ``sample_stats`` (dims ``chain``, ``draw``, ``feature``), ``occupancy``
            (dim ``mode``) and, where it ran, ``tempering``. Scalars are its attributes.
    """

    tree: xr.DataTree

    def __repr__(self) -> str:
        a = self.tree.attrs
        return f"{type(self).__name__}({a['num_chains']} chains of {a['num_steps']} steps at {self.target}, {self.verdict})"

    def _repr_html_(self) -> str:
        names = {"max_r_hat": "largest R-hat", "min_ess": "least effective sample size", "acceptance_rate": "acceptance"}
        figures = {text: f"{self[name]:.3g}" for name, text in names.items()}
        return html_card(f"Long chains of {self.target}", figures, verdict=self.verdict, advice=self.advice)

    @property
    def verdict(self) -> Verdict:
        """``Verdict.STABLE``, ``SLOW`` (chains agree with the data but mix slowly) or ``DRIFTING`` (they leave the data)."""
        return Verdict(self.tree.attrs["verdict"])

    @property
    def advice(self) -> str:
        """Reason for the verdict, and what to do."""
        return str(self.tree.attrs["advice"])

    def __getitem__(self, name: str) -> float:
        """One figure of the run, by its name.

        Names are ``max_r_hat``, ``nested_r_hat``, ``min_ess``, ``ess_per_gradient``, ``autocorrelation_time`` (steps),
        ``acceptance_rate``; ``drift`` (nats) and ``drift_p_value`` of the log density, ``summary_drift`` and
        ``summary_drift_p_value`` of means and second moments; ``start_gap``, ``energy_gap`` (nats); ``distance``,
        ``distance_p_value``, ``rank_p_value`` (recovery conditionals); ``occupancy_p_value``, ``mode_switches``;
        and with tempering ``tempered_max_r_hat``,
        ``tempered_min_ess``, ``tempered_distance_p_value``, ``tempered_occupancy_p_value``, ``tempered_restarts``.
        """
        return float(self.tree.attrs[name])

    def to_arviz(self) -> Any:
        """The tree in the form that the installed ArviZ takes."""
        return as_arviz(self.tree)

    def save(self, path: str | Path) -> Path:
        """Write the tree as netCDF, atomically.

        Args:
            path: netCDF file to write.
        """
        write_netcdf(path, self.tree)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a diagnosis.

        Args:
            path: file that :meth:`save` wrote.

        Raises:
            RunFolderError: a missing or damaged file, or no diagnosis of this version.
        """
        import xarray as xr

        try:
            with xr.open_datatree(path, engine="h5netcdf") as stored:
                tree = stored.load()
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path} cannot be read as a diagnosis: {error}") from error
        if tree.attrs.get("format") != FORMAT:
            raise RunFolderError(f"{path}: expected a '{FORMAT}', got {tree.attrs.get('format')!r}; diagnose again")
        return cls(tree)

    @property
    def target(self) -> str:
        """Density that the chains ran on, in words."""
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
        """The page: verdict, statistics by column, figures."""
        table = ReportTable(
            "",
            ("feature", "mean", "R-hat", "bulk ESS", "tail ESS"),
            tuple(
                (name, f"{r['mean']:.4g}", f"{r['r_hat']:.3f}", f"{r['ess_bulk']:.0f}", f"{r['ess_tail']:.0f}")
                for name, r in list(chain_table(self.tree).items())[:40]
            )
            if not self.tree.attrs["is_recovery"]
            else (),
            "Half of the chains started at data, half at noise. " + self.summary().split("\n", 1)[1],
        )
        words = f"Log density along {self.tree.attrs['num_chains']} chains of {self.target}"
        panels = [ReportPanel(plot_chains(self), f"{words}, half of them from data.", "Log density along the chains.")]
        if self.tree.attrs["num_modes"] > 1:
            shares = self.tree.children["occupancy"].to_dataset()
            pairs = zip(shares["data"].values, shares["chains"].values, strict=True)
            alt = ", ".join(f"{data:.2f} and {chains:.2f}" for data, chains in pairs)
            panels.append(
                ReportPanel(
                    plot_occupancy(self), f"Shares of the modes among data and chains: {alt}.", "Modes of the data."
                )
            )
        section = ReportSection(f"Chains of {self.target}", panels=tuple(panels), tables=(table,))
        return ReportPage(
            title=f"Long chains of {self.tree.attrs['name']}",
            lead=self.summary().splitlines()[0],
            verdict=self.verdict,
            advice=self.advice,
            subject=f"chains of {self.target}:",
            sections=(section,),
            appendix=self.summary(),
        )
