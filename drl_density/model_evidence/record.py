"""The evidence of one Pyro model, with draws of its posterior."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from drl_density.diagnostics import as_arviz
from drl_density.distributions.pyro_models import JointDensity
from drl_density.errors import Verdict
from drl_density.model_evidence.posterior import posterior_tree
from drl_density.partition_function import Sandwich
from drl_density.records.brief import brief
from drl_density.records.html import ends_in_words, html_card

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False)
class ModelEvidence:
    """The log evidence of a Pyro model, log p(y), in nats, and draws of its posterior.

    Attributes:
        sandwich: everything that is known about log Z of the joint density.
        joint: joint density of the model's latent sites.
        seed: seed of the discrete sites' draws, ``None`` for fresh ones.
    """

    sandwich: Sandwich
    joint: JointDensity
    seed: int | None = None

    __repr__ = brief

    @property
    def log_z(self) -> float:
        """Point estimate of the log evidence, nats."""
        return self.sandwich.log_z

    @property
    def lower(self) -> float:
        """Lower end of the 95 % interval, nats."""
        return self.sandwich.lower

    @property
    def upper(self) -> float:
        """Upper end of the 95 % interval, nats."""
        return self.sandwich.upper

    @property
    def standard_error(self) -> float:
        """Standard error of the point estimate, nats."""
        return self.sandwich.standard_error

    @property
    def verdict(self) -> Verdict:
        """How far the estimate and the draws can be trusted."""
        return self.sandwich.verdict

    @property
    def advice(self) -> str:
        """Reasons for the verdict, and what to do; improper priors are named here."""
        if not self.improper_sites:
            return self.sandwich.advice
        return (
            f"{self.sandwich.advice}; the priors of {', '.join(self.improper_sites)} are improper, so the evidence holds a "
            "constant of free choice and compares only with models that share them"
        )

    @property
    def is_reliable(self) -> bool:
        """True for the verdict ``Verdict.RELIABLE`` alone."""
        return self.verdict.is_reliable

    @property
    def improper_sites(self) -> tuple[str, ...]:
        """Sites whose prior has no finite integral."""
        return self.joint.improper_sites

    def interval(self, probability: float = 0.95) -> tuple[float, float]:
        """Ends of the interval of the log evidence, nats; at 0.95 ``lower`` and ``upper``."""
        return self.sandwich.interval(probability)

    @property
    def draws(self) -> Tensor:
        """Draws of the posterior in unconstrained coordinates, ``(replicate, particle, num_features)``."""
        assert self.sandwich.draws is not None  # sandwiches of targets without levels keep theirs
        return self.sandwich.draws

    @functools.cached_property
    def tree(self) -> xr.DataTree:
        """Groups ``posterior``, ``sample_stats``, ``observed_data`` and ``log_likelihood``, see :meth:`to_arviz`."""
        tree = posterior_tree(self.joint, self.draws, seed=self.seed)
        tree.attrs |= {
            "log_z": self.log_z,
            "log_z_lower": self.lower,
            "log_z_upper": self.upper,
            "verdict": str(self.verdict),
            "advice": self.advice,
            "improper_sites": ", ".join(self.improper_sites),
        }
        return tree

    def to_arviz(self) -> Any:
        """Draws of all sites in their own space and by their own names, in the form that the installed ArviZ takes.

        A chain is a replicate, whose draws are not in an order of time: those that lie side by side may share an ancestor.
        Draws are as good as the verdict. The group ``log_likelihood`` is missing where discrete sites are summed out.
        """
        return as_arviz(self.tree)

    def __str__(self) -> str:
        return f"log evidence = {self.log_z:.4f} in [{self.lower:.4f}, {self.upper:.4f}], {self.verdict}: {self.advice}"

    def _repr_html_(self) -> str:
        interval = ends_in_words(self.lower, self.upper, digits=4)
        figures = {"log evidence, nats": f"{self.log_z:.4f}", "95 % interval": interval}
        return html_card("Evidence of a model", figures, verdict=self.verdict, advice=self.advice)
