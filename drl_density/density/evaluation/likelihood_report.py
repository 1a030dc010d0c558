"""A likelihood report: its numbers, its page, and its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from drl_density.density.evaluation.likelihood import FORMAT, Likelihood
from drl_density.density.evaluation.page.likelihood_page import key_figures, likelihood_page
from drl_density.errors import RunFolderError
from drl_density.records.html import html_card
from drl_density.reports import ReportPage
from drl_density.run_folder import write_bytes


@dataclass(frozen=True, eq=False)
class LikelihoodReport(Likelihood):
    """Everything that is known about a density's likelihood on some rows, as a tree and as an HTML page.

    Attributes:
        tree: xarray DataTree with the groups ``log_likelihood`` and ``observed_data`` (dim ``obs_id``), ``posterior`` and
            ``sample_stats`` (long chains of the model, under the name that ArviZ expects), ``ais`` (dims ``replicate``,
            ``particle``, ``density``), ``paths``, ``estimates``, ``other_densities`` and ``draws``; scalars are
            its attributes.
    """

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(mean log-likelihood {self.mean_log_likelihood:.4f} nats/row of {self.num_rows} rows, "
            f"log Z {self.log_z:.4f} in [{self.log_z_lower:.4f}, {self.log_z_upper:.4f}], {self.verdict})"
        )

    def _repr_html_(self) -> str:
        figures = {figure.name: f"{figure.number} ({figure.detail})" for figure in key_figures(self)}
        return html_card(f"Likelihood of {self.num_rows} rows", figures, verdict=self.verdict, advice=self.advice)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a report.

        Args:
            path: file that :meth:`save` wrote.

        Raises:
            RunFolderError: a missing or damaged file, or no report of this version.
        """
        import xarray as xr

        if not Path(path).is_file():
            raise RunFolderError(f"there is no report {path}; make one with drl-density evaluate")
        try:
            with xr.open_datatree(path, engine="h5netcdf") as stored:
                tree = stored.load()
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path} cannot be read as a report: {error}") from error
        if tree.attrs.get("format") != FORMAT:
            raise RunFolderError(f"{path}: expected a '{FORMAT}', got {tree.attrs.get('format')!r}; evaluate again")
        return cls(tree)

    def page(self) -> ReportPage:
        """The page: verdict, rivals, gain, log Z from two sides, what was checked and what not, samples, outliers."""
        return likelihood_page(self)

    def to_html(self, path: str | Path) -> Path:
        """Write one self-contained page atomically.

        Args:
            path: HTML file to write.
        """
        write_bytes(path, self.page().to_html().encode())
        return Path(path)
