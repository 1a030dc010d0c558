"""The numbers of a likelihood report: a thin view of one labelled tree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from drl_density.density.evaluation.bits_per_dimension import BitsPerDimension, bits_per_dimension
from drl_density.diagnostics import ChainFigures, as_arviz, chain_table
from drl_density.errors import DataError, Verdict
from drl_density.partition_function.two_sided.estimates import Estimator
from drl_density.records.intervals import normal_quantile
from drl_density.run_folder import write_netcdf
from drl_density.weights import Estimate

if TYPE_CHECKING:
    import xarray as xr

FORMAT = "drl_density likelihood report, version 5"


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Everything known about a density's likelihood on some rows; :class:`LikelihoodReport` adds the page.

    Attributes:
        tree: xarray DataTree with the groups ``log_likelihood`` and ``observed_data`` (dim ``obs_id``), ``posterior`` and
            ``sample_stats`` (long chains of the model, under the name that ArviZ expects), ``ais`` (dims ``replicate``,
            ``particle``, ``density``), ``paths``, ``estimates``, ``other_densities`` and ``draws``, and where there are any
            ``reference`` (dim ``obs_id``) and ``stages`` (dim ``stage``); scalars are its attributes.
    """

    tree: xr.DataTree

    def values(self, group: str, name: str) -> np.ndarray:
        """Values of one variable or coordinate of a group of the tree.

        Args:
            group: name of the group, such as "estimates".
            name: name of the variable in it.
        """
        return self.tree.children[group].to_dataset()[name].values

    def _scalar(self, name: str) -> float:
        return float(self.tree.attrs[name])

    @property
    def log_z(self) -> float:
        """Point estimate of log Z, nats."""
        return self._scalar("log_z")

    @property
    def log_z_lower(self) -> float:
        """Lower end of the 95 % interval of log Z."""
        return self._scalar("log_z_lower")

    @property
    def log_z_upper(self) -> float:
        """Upper end of the 95 % interval of log Z."""
        return self._scalar("log_z_upper")

    def interval(self, probability: float = 0.95) -> tuple[float, float]:
        """Ends of the interval of log Z; for a probability other than 0.95 its 95 % ends are scaled as normal ones are.

        Args:
            probability: chance in (0, 1) that the interval covers log Z.
        """
        scale = normal_quantile(probability) / normal_quantile()
        return (
            self.log_z - scale * (self.log_z - self.log_z_lower),
            self.log_z + scale * (self.log_z_upper - self.log_z),
        )

    @property
    def log_likelihood(self) -> Tensor:
        """Log density of each row in data units at the point estimate, nats, float64, shape ``(n,)``."""
        return torch.as_tensor(self.values("log_likelihood", "x")[0, 0].copy())

    @property
    def rows(self) -> Tensor:
        """Scored rows ``(n, d)`` in data units, float64, dequantised where ``widths`` is positive."""
        return torch.as_tensor(self.values("observed_data", "x").copy())

    @property
    def draws(self) -> Tensor:
        """Some draws of the model ``(m, d)`` in data units, float64, to be looked at beside the rows."""
        return torch.as_tensor(self.values("draws", "x").astype(np.float64))

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape ``(height, width)`` or ``(channels, height, width)`` of a row that is an image; None for other rows."""
        shape = tuple(int(size) for size in str(self.tree.attrs["event_shape"]).split("x"))
        return shape if len(shape) > 1 else None

    @property
    def widths(self) -> Tensor:
        """Width of the uniform noise that dequantised each column, 0 for none, ``(d,)``."""
        return torch.as_tensor(self.values("observed_data", "width").copy())

    @property
    def log_likelihood_lower(self) -> Tensor:
        """Log density of each row at the upper end of log Z; minus infinity when the verdict is "unknown"."""
        return self.log_likelihood + (self.log_z - self.log_z_upper)

    @property
    def log_likelihood_upper(self) -> Tensor:
        """Log density of each row at the lower end of log Z; infinity when the verdict is "unknown"."""
        return self.log_likelihood + (self.log_z - self.log_z_lower)

    @property
    def mean_log_likelihood(self) -> float:
        """Mean over rows at the point estimate of log Z, nats per row."""
        return float(self.log_likelihood.mean())

    @property
    def mean_log_likelihood_lower(self) -> float:
        """Mean at the upper end of log Z, nats: the conservative figure."""
        return self.mean_log_likelihood + self.log_z - self.log_z_upper

    @property
    def mean_log_likelihood_upper(self) -> float:
        """Mean at the lower end of log Z, nats."""
        return self.mean_log_likelihood + self.log_z - self.log_z_lower

    @property
    def sampling_error(self) -> float:
        """Standard error of the mean over rows, without the error of log Z, which the interval holds."""
        values = self.log_likelihood
        return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan

    @property
    def gain_over_reference(self) -> Estimate | None:
        """Mean gain of the density over its own untouched reference on these rows, nats per row, with its paired error.

        The error counts rows alone; that of log Z is in :meth:`interval`. None for a model without a reference, and where
        log Z is unknown.
        """
        if "reference" not in self.tree.children or not math.isfinite(self.log_z_upper - self.log_z_lower):
            return None
        gains = self.log_likelihood - torch.as_tensor(self.values("reference", "log_likelihood").copy())
        return Estimate(float(gains.mean()), float(gains.std() / math.sqrt(len(gains))) if len(gains) > 1 else math.nan)

    @property
    def bits_per_dim(self) -> float:
        """Minus the mean log density per column in bits; comparable only between reports of one ``scheme``."""
        return -self.mean_log_likelihood / (self._scalar("num_features") * math.log(2))

    def bits(self) -> BitsPerDimension:
        """Bits per dimension with its terms, for whole numbers of one declared range such as 8-bit pixels.

        Raises:
            DataError: rows of another kind, whose bits per dimension would depend on their unit.
        """
        declared = str(self.tree.attrs.get("declared_range", ""))
        if not declared:
            raise DataError(
                "bits per dimension are for whole numbers of one declared range, all dequantised, such as 8-bit images; "
                f"this report has: {self.scheme}"
            )
        low, high = (int(end) for end in declared.split(".."))
        log_z = (self.log_z, self.log_z_lower, self.log_z_upper)
        jacobian = torch.full_like(self.log_likelihood, self._scalar("mean_log_jacobian"))
        return bits_per_dimension(
            self.log_likelihood + self.log_z - jacobian,
            jacobian,
            log_z=log_z,
            num_features=int(self._scalar("num_features")),
            value_range=(low, high),
            level_noise=self._scalar("level_noise"),
        )

    @property
    def scheme(self) -> str:
        """Units and dequantisation of the rows; only reports with the same scheme can be compared."""
        return str(self.tree.attrs["scheme"])

    @property
    def audit_trail(self) -> tuple[str, ...]:
        """The steps from rows in data units to ``log_likelihood`` and :attr:`bits_per_dim`, each with its figures."""
        attributes = self.tree.attrs
        whole = (
            () if not attributes["declared_range"] else (f"as a code for whole numbers: {self.bits().value:.4f} bits",)
        )
        return (
            f"rows: {self.scheme}",
            f"transform: {attributes['transform']}; it adds mean log |det Jacobian| {attributes['mean_log_jacobian']:.4f}",
            f"model: mean F(u, level 0) {attributes['mean_model_log_density']:.4f}, noise of level 0 "
            f"{attributes['level_noise']:.3g} in transformed units",
            f"less log Z {self.log_z:.4f}: mean log-likelihood {self.mean_log_likelihood:.4f} nats per row",
            f"divided by -{attributes['num_features']:.0f} log 2: {self.bits_per_dim:.4f} bits per column",
            *whole,
        )

    @property
    def verdict(self) -> Verdict:
        """How far log Z, and with it every likelihood here, can be trusted."""
        return Verdict(self.tree.attrs["verdict"])

    @property
    def is_reliable(self) -> bool:
        """True for ``Verdict.RELIABLE`` alone."""
        return self.verdict.is_reliable

    @property
    def advice(self) -> str:
        """Reason for the verdict, and what to do."""
        return str(self.tree.attrs["advice"])

    @property
    def estimates(self) -> dict[Estimator, Estimate]:
        """Estimate of log Z, with its standard error, by every estimator."""
        parts = (self.values("estimates", name) for name in ("estimator", "value", "standard_error"))
        return {
            Estimator(name): Estimate(float(log_z), float(error)) for name, log_z, error in zip(*parts, strict=True)
        }

    def to_arviz(self) -> Any:
        """The tree in the form that the installed ArviZ takes."""
        return as_arviz(self.tree)

    def chain_diagnostics(self) -> dict[str, ChainFigures]:
        """R-hat and ESS of the long chains, by feature."""
        return chain_table(self.tree)

    def save(self, path: str | Path) -> Path:
        """Write the tree as netCDF, atomically.

        Args:
            path: netCDF file to write.
        """
        write_netcdf(path, self.tree)
        return Path(path)

    def summary(self) -> str:
        """A few lines for a person; a fit below its floor, or left at its base, is said here too."""
        remarks = str(self.tree.attrs["remarks"])
        return "\n".join(
            [
                f"mean log-likelihood {self.mean_log_likelihood:.4f} nats/row in [{self.mean_log_likelihood_lower:.4f}, "
                f"{self.mean_log_likelihood_upper:.4f}] by log Z, {self._of_rows()}",
                f"log Z = {self._log_z_in_words()}; learned constant {self._scalar('learned_constant'):.4f}",
                f"verdict on log Z: {self.verdict}: {self.advice}",
                *self._of_reference(),
                *((f"about the fit: {remarks}",) if remarks else ()),
            ]
        )

    def _of_reference(self) -> tuple[str, ...]:
        """The gain over the reference in words; nothing for a model without one."""
        gain = self.gain_over_reference
        if gain is None:
            return ("gain over its reference: not known, as log Z is not",) if "reference" in self.tree.children else ()
        return (
            f"gain over its reference on these rows {gain.log_z:+.4f} +- {gain.standard_error:.4f} nats/row, paired",
        )

    def _log_z_in_words(self) -> str:
        if math.isfinite(self.log_z_upper - self.log_z_lower):
            return f"{self.log_z:.4f} in [{self.log_z_lower:.4f}, {self.log_z_upper:.4f}]"
        return f"unknown (the estimate {self.log_z:.4f} is not bounded on both sides)"

    def _of_rows(self) -> str:
        """The error by the number of rows, in words; a single row has none."""
        if self.num_rows < 2:
            return "of a single row, which shows no error by the number of rows"
        return f"+- {self.sampling_error:.4f} by {self.num_rows} rows"

    @property
    def num_rows(self) -> int:
        """Rows evaluated."""
        return int(self.tree["log_likelihood"].sizes["obs_id"])
