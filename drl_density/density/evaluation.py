"""``Density.evaluate``: test likelihoods with the interval of log Z, as one labelled tree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from drl_density.diagnostics import as_arviz, chain_table, chains_to_groups
from drl_density.errors import DataError, RunFolderError
from drl_density.mcmc import MALA, DualAveraging, Recording, run_chain
from drl_density.partition import Sandwich, SandwichSettings, flow_log_likelihood, sequence_sandwich
from drl_density.plots import plot_chains, plot_log_likelihood, plot_sandwich, plot_weights
from drl_density.reports import ReportPage, ReportTable
from drl_density.transforms import Dequantization

if TYPE_CHECKING:
    from drl_density.density.fitted import Density

FORMAT = "drl_density likelihood report, version 1"


@dataclass(frozen=True)
class LikelihoodReport:
    """Everything known about a density's likelihood on some rows; a thin view of ``tree``.

    Attributes:
        tree: xarray DataTree with the groups ``log_likelihood`` and ``observed_data`` (dim ``obs_id``), ``posterior``
            and ``sample_stats`` (long chains of the model; ArviZ looks for a model's draws under this name), ``ais``
            (dims ``replicate``, ``particle``, ``density``), ``paths`` and ``estimates``; scalars stand in its attributes.
    """

    tree: xr.DataTree

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

    @property
    def log_likelihood(self) -> Tensor:
        """Log density of each row in data units at the point estimate, nats, float64, shape ``(n,)``."""
        return torch.as_tensor(self.tree["log_likelihood"]["x"].values[0, 0].copy())

    @property
    def mean_log_likelihood(self) -> float:
        """Mean over rows, nats."""
        return float(self.log_likelihood.mean())

    @property
    def mean_log_likelihood_lower(self) -> float:
        """Mean at the upper end of log Z: the conservative number."""
        return self.mean_log_likelihood + self.log_z - self.log_z_upper

    @property
    def mean_log_likelihood_upper(self) -> float:
        """Mean at the lower end of log Z."""
        return self.mean_log_likelihood + self.log_z - self.log_z_lower

    @property
    def sampling_error(self) -> float:
        """Standard error of the mean over rows; log Z's error is apart, in the interval."""
        values = self.log_likelihood
        return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan

    @property
    def bits_per_dim(self) -> float:
        """Minus the mean log density per column in bits; comparable only between reports of one ``scheme``."""
        return -self.mean_log_likelihood / (self._scalar("num_features") * math.log(2))

    @property
    def scheme(self) -> str:
        """Units and dequantisation of the rows: reports of different schemes do not compare."""
        return str(self.tree.attrs["scheme"])

    @property
    def verdict(self) -> str:
        """ "reliable", "doubtful", "unreliable" or "unknown"."""
        return str(self.tree.attrs["verdict"])

    @property
    def advice(self) -> str:
        """Why, and what to do."""
        return str(self.tree.attrs["advice"])

    @property
    def estimates(self) -> dict[str, tuple[float, float]]:
        """(value, standard error) of every estimator of log Z."""
        group = self.tree["estimates"]
        names = group["estimator"].values.tolist()
        return dict(zip(names, zip(group["value"].values, group["standard_error"].values, strict=True), strict=True))

    def to_arviz(self) -> Any:
        """The tree as the installed ArviZ takes it."""
        return as_arviz(self.tree)

    def chain_diagnostics(self) -> dict[str, dict[str, float]]:
        """R-hat and ESS of the long chains, by feature."""
        return chain_table(self.tree)

    def save(self, path: str | Path) -> Path:
        """Write the tree as netCDF."""
        self.tree.to_netcdf(path, engine="h5netcdf")
        return Path(path)

    @staticmethod
    def load(path: str | Path) -> LikelihoodReport:
        """Read a report.

        Raises:
            RunFolderError: missing, damaged, or not a report of this version.
        """
        if not Path(path).is_file():
            raise RunFolderError(f"there is no report {path}; make one with drl-density evaluate")
        try:
            with xr.open_datatree(path, engine="h5netcdf") as stored:
                tree = stored.load()
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path} cannot be read as a report: {error}") from error
        if tree.attrs.get("format") != FORMAT:
            raise RunFolderError(f"{path}: expected a '{FORMAT}', got {tree.attrs.get('format')!r}; evaluate again")
        return LikelihoodReport(tree)

    def summary(self) -> str:
        """A few lines for a person."""
        return "\n".join(
            [
                f"mean log-likelihood {self.mean_log_likelihood:.4f} nats/row in [{self.mean_log_likelihood_lower:.4f}, "
                f"{self.mean_log_likelihood_upper:.4f}] by log Z, +- {self.sampling_error:.4f} by {self.num_rows} rows",
                f"log Z = {self.log_z:.4f} in [{self.log_z_lower:.4f}, {self.log_z_upper:.4f}]; learned constant "
                f"{self._scalar('learned_constant'):.4f}",
                f"verdict: {self.verdict}: {self.advice}",
            ]
        )

    @property
    def num_rows(self) -> int:
        """Rows evaluated."""
        return int(self.tree["log_likelihood"].sizes["obs_id"])

    def to_html(self, path: str | Path) -> Path:
        """Write one self-contained page."""
        Path(path).write_text(self.page().to_html(), encoding="utf-8")
        return Path(path)

    def page(self) -> ReportPage:
        """The page: verdict, tables, figures."""
        return ReportPage(
            title=f"Likelihood of {self.tree.attrs['name']}",
            lead=f"{self.num_rows} rows: mean log-likelihood {self.mean_log_likelihood:.3f} nats per row, between "
            f"{self.mean_log_likelihood_lower:.3f} and {self.mean_log_likelihood_upper:.3f} as log Z is known.",
            verdict=self.verdict,
            advice=self.advice,
            tables=self.tables(),
            figures=self.figures(),
            appendix=self.summary() + f"\nscheme: {self.scheme}\nsettings: {self.tree.attrs['settings']}",
        )

    def tables(self) -> tuple[ReportTable, ...]:
        """Tables of the page."""
        likelihood = ReportTable(
            "Likelihood of these rows",
            ("density", "nats per row", "low end", "high end", "error over rows"),
            (
                (
                    "energy-based model",
                    f"{self.mean_log_likelihood:.4f}",
                    f"{self.mean_log_likelihood_lower:.4f}",
                    f"{self.mean_log_likelihood_upper:.4f}",
                    f"{self.sampling_error:.4f}",
                ),
                *(
                    (str(name), f"{float(value):.4f}", "-", "-", "-")
                    for name, value in zip(
                        self.tree["other_densities"]["density"].values,
                        self.tree["other_densities"]["mean_log_likelihood"].values,
                        strict=True,
                    )
                ),
            ),
            f"{self.bits_per_dim:.4f} bits per column. {self.scheme}. The other densities share the model's scores or "
            "constants but not its normaliser; they are printed beside the interval and never inside it.",
        )
        estimates = ReportTable(
            "log Z by every estimator",
            ("estimator", "value", "standard error"),
            tuple((name, f"{value:.4f}", f"{error:.4f}") for name, (value, error) in self.estimates.items()),
            "Annealing and forward paths err low, reverse paths err high; Bennett's ratio joins both and gives the "
            "interval. The upper side holds as far as the draws that start it are draws of the model.",
        )
        chains = ReportTable(
            "Long chains",
            ("feature", "R-hat", "bulk ESS", "tail ESS"),
            tuple(
                (name, f"{row['r_hat']:.3f}", f"{row['ess_bulk']:.0f}", f"{row['ess_tail']:.0f}")
                for name, row in list(self.chain_diagnostics().items())[:12]
            ),
            "Half of the chains began at data, half at draws that came from noise; R-hat above 1.05 means that they have "
            "not forgotten where they began, and the reach of the model's basins is then judged by the paths alone.",
        )
        return likelihood, estimates, chains

    def figures(self) -> dict[str, Any]:
        """Figures of the page."""
        return {
            "log Z": plot_sandwich(self.tree),
            "weights": plot_weights(self.tree),
            "log-likelihood of the rows": plot_log_likelihood(self.tree),
            "chains": plot_chains(self.tree),
        }


def evaluate(
    density: Density,
    x: Tensor | np.ndarray,
    *,
    seed: int = 0,
    settings: SandwichSettings | None = None,
    start_rows: Tensor | None = None,
    num_chain_steps: int = 1000,
) -> LikelihoodReport:
    """See :meth:`drl_density.density.Density.evaluate`."""
    rows = _checked(density, x)
    settings = settings or SandwichSettings()
    generator = torch.Generator().manual_seed(seed)
    rows, widths = _dequantized(density, rows, generator)
    source = rows if start_rows is None else _dequantized(density, _checked(density, start_rows), generator)[0]
    model = density.model
    u_start = density.transform(source).to(model.dtype)
    result = sequence_sandwich(model, data=u_start, settings=settings, generator=generator)
    values = density.log_prob(rows) + density.estimate.value - result.log_z
    tree = {
        "log_likelihood": xr.Dataset(
            {"x": (("chain", "draw", "obs_id"), values[None, None].numpy())},
            coords={"chain": [0], "draw": [0], "obs_id": np.arange(len(rows))},
        ),
        "observed_data": xr.Dataset(
            {"x": (("obs_id", "feature"), rows.numpy())}, coords={"feature": [c.name for c in density.columns]}
        ),
        **_long_chains(density, u_start, generator, num_chain_steps),
        **_sandwich_groups(result),
        "other_densities": _other_densities(density, rows, values),
    }
    attributes = {
        "format": FORMAT,
        "name": str(density.details.get("name", "a density")),
        "log_z": result.log_z,
        "log_z_standard_error": result.standard_error,
        "log_z_lower": result.lower,
        "log_z_upper": result.upper,
        "bracket_lower": result.bracket[0],
        "bracket_upper": result.bracket[1],
        "certificate": result.certificate,
        "overlap": result.overlap,
        "verdict": result.verdict,
        "advice": result.advice,
        "learned_constant": float(model.log_normalizer(0)),
        "num_features": rows.shape[1],
        "scheme": _scheme(widths),
        "seed": seed,
        "settings": f"{settings}",
        "units": "nats",
        "inference_library": "drl_density",
    }
    whole = xr.DataTree.from_dict(tree)
    whole.attrs |= attributes
    return LikelihoodReport(whole)


@dataclass(frozen=True)
class Comparison:
    """One rival beside the first.

    Attributes:
        name: of the rival.
        mean: its mean log density, nats per row.
        difference: the first one's mean less this one's.
        standard_error: of the difference, paired over rows.
    """

    name: str
    mean: float
    difference: float
    standard_error: float


def compare(models: dict[str, Any], x: Tensor) -> list[Comparison]:
    """Mean log densities on the same rows with paired differences to the first model.

    Args:
        models: by name: anything with ``log_prob`` (densities, Pyro or torch distributions, flows) or scikit-learn's
            ``score_samples``, or a :class:`LikelihoodReport` of exactly these rows.
        x: rows ``(n, d)``.

    Raises:
        DataError: fewer than two models, an object without a density, or reports of different schemes.
    """
    if len(models) < 2:
        raise DataError(f"expected at least two models to compare, got {len(models)}")
    schemes = {model.scheme for model in models.values() if isinstance(model, LikelihoodReport)}
    if len(schemes) > 1:
        raise DataError(f"reports of different schemes do not compare: {' | '.join(sorted(schemes))}")
    values = {name: _row_values(name, model, x) for name, model in models.items()}
    first = next(iter(values.values()))
    result = []
    for name, own in values.items():
        gap = first - own
        result.append(Comparison(name, float(own.mean()), float(gap.mean()), float(gap.std() / math.sqrt(len(gap)))))
    return result


def _row_values(name: str, model: Any, x: Tensor) -> Tensor:
    if isinstance(model, LikelihoodReport):
        values = model.log_likelihood
    elif hasattr(model, "score_samples"):
        values = torch.as_tensor(model.score_samples(np.asarray(x)))
    elif hasattr(model, "log_prob"):
        with torch.no_grad():
            values = model.log_prob(torch.as_tensor(x))
    else:
        raise DataError(f"{name} has neither log_prob nor score_samples; got a {type(model).__name__}")
    if values.shape != (len(x),):
        raise DataError(f"{name} gave shape {tuple(values.shape)} for {len(x)} rows; expected one number per row")
    return values.double()


def _checked(density: Density, x: Tensor | np.ndarray) -> Tensor:
    rows = torch.as_tensor(x, dtype=torch.float64)
    count = torch.Size(density.event_shape).numel()
    if rows.ndim < 1 or len(rows) == 0 or rows[0].numel() != count:
        raise DataError(f"expected at least one row of shape {tuple(density.event_shape)}, got {tuple(rows.shape)}")
    rows = rows.reshape(len(rows), count)
    bad = (~torch.isfinite(rows)).any(1).nonzero().flatten()
    if len(bad):
        raise DataError(f"row {int(bad[0])} holds a NaN or infinite value ({len(bad)} such rows); drop or mend them")
    return rows


def _dequantized(density: Density, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows with noise on every column of which all values stand on its grid, and the widths used."""
    widths = torch.tensor([column.width for column in density.columns], dtype=torch.float64)
    grid = torch.where(widths > 0, widths, torch.ones_like(widths))
    on_grid = ((rows / grid - (rows / grid).round()).abs() < 1e-6).all(0)
    widths = torch.where(on_grid, widths, torch.zeros_like(widths))
    return Dequantization(widths)(rows, generator), widths


def _scheme(widths: Tensor) -> str:
    if not bool((widths > 0).any()):
        return "log density in data units, rows as given"
    used = ", ".join(f"{width:g}" for width in widths.tolist())
    return f"log density in data units, rows dequantised once by uniform noise of widths ({used})"


def _sandwich_groups(result: Sandwich) -> dict[str, xr.Dataset]:
    dims = ("replicate", "particle")
    ais = xr.Dataset(
        {
            "log_weight": (dims, result.annealing.log_weights.numpy()),
            "ess_fraction": ("density", result.details["ess_by_density"]),
            "acceptance_rate": ("density", result.details["acceptance_by_density"]),
            "level": ("density", result.details["levels"]),
        },
        attrs={"pareto_k": result.annealing.pareto_k, "verdict": result.annealing.verdict},
    )
    paths = {"forward": (dims, result.forward.numpy())}
    paths |= {f"reverse_from_{name}": (dims, weights.numpy()) for name, weights in result.reverse.items()}
    names = list(result.estimates)
    estimates = xr.Dataset(
        {
            "value": ("estimator", [result.estimates[name][0] for name in names]),
            "standard_error": ("estimator", [result.estimates[name][1] for name in names]),
        },
        coords={"estimator": names},
    )
    return {"ais": ais, "paths": xr.Dataset(paths), "estimates": estimates}


def _long_chains(
    density: Density, u_start: Tensor, generator: torch.Generator, num_steps: int
) -> dict[str, xr.Dataset]:
    """Adjusted chains at level 0, half begun at data, half at pool draws, in data units."""
    model, count = density.model, 4
    from_pool = density.transform(density.pool[torch.randint(len(density.pool), (count,), generator=generator)])
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
    shape = result.draws.shape
    with torch.no_grad():
        draws = density.transform.inv(result.draws.reshape(-1, shape[-1]).double()).reshape(shape)
    names = [column.name for column in density.columns]
    return chains_to_groups(draws, result.stats, names, starts=["data"] * count + ["noise"] * count)


def _other_densities(density: Density, rows: Tensor, values: Tensor) -> xr.Dataset:
    model = density.model
    learned = float((density.log_prob(rows) + density.estimate.value).mean()) - float(model.log_normalizer(0))
    figures = {"normalised by its learned constant": learned}
    if rows.shape[1] <= 20:
        few = rows[:200]
        u = density.transform(few)
        jacobian = density.transform.log_abs_det_jacobian(few, u)
        flow = float((flow_log_likelihood(model, u.to(model.dtype)) + jacobian).mean())
        figures[f"probability flow, first {len(few)} rows"] = flow
        figures[f"energy-based model, first {len(few)} rows"] = float(values[: len(few)].mean())
    return xr.Dataset({"mean_log_likelihood": ("density", list(figures.values()))}, coords={"density": list(figures)})
