r"""A density for each label: draws of a label, the density of all rows, and probabilities of labels by Bayes' rule.

.. math:: P(c \mid x) \propto \pi_c\, p(x \mid c)^\tau

With :math:`\tau = 1` this is Bayes' rule. Log densities of images differ by tens of nats between labels, and errors of the
densities do too, so that rule is far too sure of itself. One number :math:`\tau`, the value that maximises the likelihood of
the labels of held-out rows, makes probabilities hold what they promise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from drl_density.density.fitted import FittedModel
from drl_density.density.seeds import random_generator
from drl_density.errors import DataError
from drl_density.records.brief import brief

LEAST_POWER, MOST_POWER = 1e-6, 1e2
"""Range of tau: from labels that say nothing to labels that a hundredth of a nat decides."""
NUM_HALVINGS = 60
"""Halvings of that range on a logarithmic scale, down to the rounding of float64."""


@dataclass(frozen=True, eq=False)
class ClassDensities:
    """One fitted density for each label, and the probabilities of labels that follow from them.

    Attributes:
        densities: the density of the rows of each label.
        shares: probability of each label before a row is seen, ``(labels,)``, float64, in the order of the densities.
        power: exponent tau of the likelihoods in :meth:`probabilities`; 1 is Bayes' rule as it is.

    Raises:
        DataError: fewer than two labels, densities of rows of different shapes, or shares that are not positive.
    """

    densities: Mapping[int, FittedModel]
    shares: Tensor
    power: float = 1.0

    __repr__ = brief

    def __post_init__(self) -> None:
        shapes = {tuple(density.event_shape) for density in self.densities.values()}
        if len(self.densities) < 2:
            raise DataError(f"expected densities of at least two labels, got {len(self.densities)}")
        if len(shapes) > 1:
            raise DataError(f"expected densities of rows of one shape, got {', '.join(map(str, sorted(shapes)))}")
        shares = torch.as_tensor(self.shares, dtype=torch.float64)
        if shares.shape != (len(self.densities),) or not bool((shares > 0).all() and shares.isfinite().all()):
            raise DataError(f"expected {len(self.densities)} positive shares, one for each label, got {shares.tolist()}")
        object.__setattr__(self, "shares", shares / shares.sum())

    @classmethod
    def calibrated(cls, densities: Mapping[int, FittedModel], rows: Any, labels: Any, *, shares: Any = None) -> Self:
        """Densities with the power that maximises the likelihood of the labels of held-out rows.

        Args:
            densities: the density of the rows of each label.
            rows: rows ``(n, *event)`` in data units that no density was fitted to.
            labels: label of each row ``(n,)``.
            shares: probability of each label before a row is seen; those of ``labels`` when None.

        Raises:
            DataError: labels without a density, or another number of labels than of rows.
        """
        names, given = list(densities), torch.as_tensor(labels).long().flatten()
        unknown = sorted(set(given.tolist()) - set(names))
        if unknown:
            raise DataError(f"expected labels among {names}, got {unknown[:5]} too: fit densities of these labels")
        places = torch.tensor([names.index(label) for label in given.tolist()])
        if shares is None:
            shares = (places.bincount(minlength=len(names)) + 1.0) / (len(places) + len(names))
        found = cls(densities, torch.as_tensor(shares))
        values = found.log_densities(rows)
        if len(values) != len(places):
            raise DataError(f"expected one label for each of {len(values)} rows, got {len(places)}")
        return cls(densities, found.shares, best_power(values, places, found.shares))

    @property
    def labels(self) -> list[int]:
        """Labels in the order of the columns of all results."""
        return list(self.densities)

    def log_densities(self, rows: Any) -> Tensor:
        """Log density of each row under each label in data units, nats, ``(n, labels)``, float64.

        Args:
            rows: rows ``(n, *event)`` or flat ``(n, d)``.
        """
        return torch.stack([density.log_prob(rows).reshape(-1) for density in self.densities.values()], 1)

    def log_prob(self, rows: Any) -> Tensor:
        """Normalised log density of rows whatever their label, log sum_c pi_c p(x | c), nats, ``(n,)``, float64.

        Args:
            rows: rows ``(n, *event)`` or flat ``(n, d)``.
        """
        return (self.log_densities(rows) + self.shares.log()).logsumexp(1)

    def probabilities(self, rows: Any) -> Tensor:
        """Probability of each label given a row, ``(n, labels)``, float64.

        Args:
            rows: rows ``(n, *event)`` or flat ``(n, d)``.

        Raises:
            DataError: a row whose density is 0 under every label.
        """
        values = self.log_densities(rows)
        lost = (~values.isfinite()).all(1).nonzero().flatten()
        if len(lost):
            raise DataError(f"row {int(lost[0])} has density 0 under every label, so none is more probable: leave it out")
        return label_probabilities(values, self.shares, self.power)

    def predict(self, rows: Any) -> Tensor:
        """Most probable label of each row, ``(n,)``.

        Args:
            rows: rows ``(n, *event)`` or flat ``(n, d)``.
        """
        return torch.tensor(self.labels)[self.probabilities(rows).argmax(1)]

    def sample(self, num_samples: int, *, label: int | None = None, seed: int | None = None) -> Tensor:
        """Draw rows ``(num_samples, *event)`` in data units.

        Args:
            num_samples: number of rows to draw.
            label: label of all rows; None draws labels by their shares, in an order of chance.
            seed: seed of the draws; None draws fresh ones.

        Raises:
            DataError: a label without a density.
        """
        if label is not None:
            if label not in self.densities:
                raise DataError(f"expected a label among {self.labels}, got {label!r}")
            return self.densities[label].sample(num_samples, seed=seed)
        generator = random_generator(seed)
        places = torch.multinomial(self.shares, num_samples, replacement=True, generator=generator)
        rows = torch.empty(num_samples, *next(iter(self.densities.values())).event_shape, dtype=torch.float64)
        for place, density in enumerate(self.densities.values()):
            own = places == place
            if bool(own.any()):
                own_seed = int(torch.randint(2**31, (), generator=generator))
                rows[own] = density.sample(int(own.sum()), seed=own_seed)
        return rows


def label_probabilities(values: Tensor, shares: Tensor, power: float) -> Tensor:
    """Softmax over labels of tau times the log density plus the log share, ``(n, labels)``.

    Args:
        values: log density of each row under each label, ``(n, labels)``.
        shares: probability of each label before a row is seen, ``(labels,)``.
        power: tau.

    >>> label_probabilities(torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([0.5, 0.5]), 1.0)
    tensor([[0.2500, 0.7500]])
    """
    return (power * values + shares.log()).softmax(1)


def best_power(values: Tensor, places: Tensor, shares: Tensor) -> float:
    """The power tau that maximises the likelihood of labels; its logarithm is concave in tau.

    The slope is the mean log density under the true label, less its expectation under the probabilities. It falls with tau,
    and its root is found by halving.

    Args:
        values: log density of each row under each label, ``(n, labels)``, finite or minus infinity.
        places: index of the true label of each row, ``(n,)``.
        shares: probability of each label before a row is seen, ``(labels,)``.

    >>> values = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> odds = best_power(values, torch.tensor([0, 0, 1, 1]), torch.tensor([0.5, 0.5]))
    >>> round(odds, 3)  # three of four labels are right, at odds of exp(tau)
    1.099
    """
    low, high = math.log(LEAST_POWER), math.log(MOST_POWER)
    # A row that one label cannot have says as much about tau as a row far away.
    finite = values.double().clamp_min(float(values[values.isfinite()].min()) - 1.0)
    own = finite.gather(1, places[:, None]).squeeze(1)
    for _ in range(NUM_HALVINGS):
        middle = 0.5 * (low + high)
        expected = (label_probabilities(finite, shares, math.exp(middle)) * finite).sum(1)
        if float((own - expected).mean()) > 0:
            low = middle
        else:
            high = middle
    return math.exp(0.5 * (low + high))
