"""A mixture of products over columns, each with probabilities of single values beside a normal density."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from drl_density.bases.atoms.cells import AtomCells
from drl_density.bases.atoms.conditional import AtomConditional
from drl_density.bases.contract import Base, Tail
from drl_density.bases.gaussian_mixture import draw_components
from drl_density.devices import uniform_draws

ROWS_AT_ONCE = 4096
"""Rows whose log densities are computed at once, which limits memory."""


class AtomMixture(Base):
    r"""A mixture whose components are products of spike-and-slab densities, one for each column; it has no noised form.

    .. math:: b(u) = \sum_k w_k \prod_j \Big\{ \sum_a p_{kja}\, s_{ja}(u_j) + p_{kj0}\, \frac{N(u_j;\ \mu_{kj}, v_{kj})\,
        1[u_j \notin C_j]}{1 - N(C_j;\ \mu_{kj}, v_{kj})} \Big\}

    The spikes s have disjoint cells (:class:`AtomCells`), and C is the union of the cells of a column. The normal density,
    the slab, is truncated to the values between the cells, so every component is normalised exactly. Marginals are products
    of fewer columns, and conditionals have the same form with other weights.

    Args:
        log_weights: log weights of the components ``(K,)``, normalised here.
        log_shares: log probabilities of the cells ``(K, A)``, then of the slabs ``(K, d)``, side by side ``(K, A + d)``.
            They are normalised for each column. The slab of a column whose cells cover the line does not count.
        means: means of the slabs ``(K, d)``.
        variances: variances of the slabs ``(K, d)``, positive.
        columns: column of every cell ``(A,)``, ascending.
        edges: ends of the bins of every cell ``(A, M + 1)``; see :class:`AtomCells`.

    Raises:
        ValueError: shapes that do not fit, or variances that are not positive.

    Source: Mitchell and Beauchamp 1988, "Bayesian variable selection in linear regression" (spike and slab).

    >>> half, edges = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.0, 0.1]])
    >>> base = AtomMixture(torch.zeros(1), half, torch.zeros(1, 1), torch.ones(1, 1), torch.tensor([0]), edges)
    >>> base.log_prob(torch.tensor([[0.05], [1.0]])).exp().round(decimals=2)  # 0.5 / 0.1, and half a normal density
    tensor([5.0000, 0.1300])
    """

    kind = "atoms"
    has_noised_form = False

    log_weights: Tensor
    log_shares: Tensor
    means: Tensor
    variances: Tensor
    columns: Tensor
    edges: Tensor

    def __init__(
        self, log_weights: Tensor, log_shares: Tensor, means: Tensor, variances: Tensor, columns: Tensor, edges: Tensor
    ) -> None:
        super().__init__()
        (count, num_features), num_atoms = means.shape, len(columns)
        if (
            log_weights.shape != (count,)
            or log_shares.shape != (count, num_atoms + num_features)
            or variances.shape != means.shape
        ):
            raise ValueError(
                f"expected {count} weights, shares of {num_atoms} cells and {num_features} slabs, and as many variances as "
                f"means, got shapes {tuple(log_weights.shape)}, {tuple(log_shares.shape)} and {tuple(variances.shape)}"
            )
        if not bool((variances > 0).all()):
            raise ValueError(f"expected positive variances of the slabs, the least is {float(variances.min()):g}")
        AtomCells(columns, edges, num_features)
        for name, value in (("log_weights", log_weights.double().log_softmax(0)), ("log_shares", log_shares)):
            self.register_buffer(name, value.float())
        self.register_buffer("means", means.float())
        self.register_buffer("variances", variances.float())
        self.register_buffer("columns", columns.long())
        self.register_buffer("edges", edges.float())
        self._law: AtomConditional | None = None
        self.register_load_state_dict_post_hook(lambda module, _: module._forget())

    @property
    def num_features(self) -> int:
        """Length d of the vectors."""
        return self.means.shape[1]

    @property
    def num_components(self) -> int:
        """Number K of components."""
        return len(self.means)

    @property
    def tail(self) -> Tail:
        """Quadratic decay, in cells and slabs alike."""
        return Tail.QUADRATIC

    @property
    def cells(self) -> AtomCells:
        """Cells of the spikes, in float64."""
        return AtomCells(self.columns, self.edges.double(), self.num_features)

    def to_state(self) -> dict[str, Any]:
        """Sizes of the tensors."""
        sizes = {"num_components": self.num_components, "num_features": self.num_features}
        return {"kind": self.kind, **sizes, "num_atoms": len(self.columns), "num_bins": self.edges.shape[1] - 1}

    @classmethod
    def from_state(cls, values: dict[str, Any]) -> Self:
        """Build the density from the saved sizes in ``values``, with tensors that wait for ``load_state_dict``."""
        count, num_features, num_atoms = (values[name] for name in ("num_components", "num_features", "num_atoms"))
        shares, means = torch.zeros(count, num_atoms + num_features), torch.zeros(count, num_features)
        edges = torch.arange(num_atoms)[:, None] + torch.linspace(0, 0.5, values["num_bins"] + 1)
        columns = torch.zeros(num_atoms, dtype=torch.int64)
        return cls(torch.zeros(count), shares, means, torch.ones_like(means), columns, edges)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``x`` ``(n, *event)``, in nats, ``(n,)``; computed in float64."""
        law, u = self.conditional(), x.flatten(1).double()
        return torch.cat([law.log_joint(part).logsumexp(1) for part in u.split(ROWS_AT_ONCE)] or [u.sum(1)]).to(x)

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw independent vectors ``(num_samples, d)``: a component, then every column by the inverse of its CDF."""
        law = self.conditional()
        chosen = draw_components(law.log_weights, num_samples, generator)
        places = uniform_draws((num_samples, self.num_features), law.means, generator)
        columns = [law.quantiles(column)(chosen, places[:, column]) for column in range(self.num_features)]
        return torch.stack(columns, 1).to(self.means)

    def covariances(self, log_snr: Tensor | None = None) -> Tensor:
        """Diagonal covariances ``(K, d, d)`` that bound the decay; an unbounded cell decays as a standard normal.

        Args:
            log_snr: not used; this density has no noised form.
        """
        is_open = torch.zeros(self.num_features, dtype=torch.bool, device=self.means.device)
        is_open[self.columns[self.edges.isinf().any(1)]] = True
        least = is_open.to(self.variances).expand_as(self.variances)
        return torch.diag_embed(torch.maximum(self.variances, least))

    def conditional(self, log_snr: Tensor | None = None) -> AtomConditional:
        """Marginals and conditionals without noise.

        Args:
            log_snr: not used; this density has no noised form.
        """
        if self._law is None:
            self._law = AtomConditional(
                self.log_weights.double().log_softmax(0),
                self.log_shares.double(),
                self.means.double(),
                self.variances.double(),
                self.cells,
            )
        return self._law

    def _forget(self) -> None:
        self._law = None

    def _apply(self, *args: Any, **options: Any) -> Self:
        self._forget()
        return super()._apply(*args, **options)
