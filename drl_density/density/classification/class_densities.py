r"""A density for each label: draws of a label, the density of all rows, and probabilities of labels by Bayes' rule.

.. math:: P(c \mid x) \propto \pi_c\, p(x \mid c)^\tau

With :math:`\tau = 1` this is Bayes' rule. Log densities of images differ by tens of nats between labels, and errors of the
densities do too, so that rule is far too sure of itself. One number :math:`\tau`, the value that maximises the likelihood of
the labels of held-out rows, makes probabilities hold what they promise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from drl_density.density.classification.class_folder import read_classes, save_classes
from drl_density.density.data_units import draws_shape
from drl_density.density.fitted import FittedModel
from drl_density.density.seeds import random_generator
from drl_density.density.tables import check_same_columns
from drl_density.errors import DataError
from drl_density.records.brief import brief
from drl_density.shapes import is_integer

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
        DataError: densities that are no mapping from whole numbers, fewer than two of them, densities of different columns
            or labels, shares that are not positive, or a power that is negative or not finite.
    """

    densities: Mapping[int, FittedModel]
    shares: Tensor
    power: float = 1.0

    __repr__ = brief

    def __post_init__(self) -> None:
        if not isinstance(self.densities, Mapping) or not all(map(is_integer, self.densities)):
            keys = list(self.densities) if isinstance(self.densities, Mapping) else type(self.densities).__name__
            raise DataError(f"expected a dict from labels, whole numbers, to densities, got {keys}: number the labels")
        if not isinstance(self.power, float | int) or not 0 <= self.power < math.inf:
            raise DataError(f"power must be a finite number of at least 0, got {self.power!r}")
        if len(self.densities) < 2:
            raise DataError(f"expected densities of at least two labels, got {len(self.densities)}")
        check_same_columns({f"that of label {label}": density for label, density in self.densities.items()})
        if isinstance(self.shares, Mapping):
            raise DataError("expected shares as numbers in the order of the densities, got a mapping: list its values")
        shares = torch.as_tensor(self.shares, dtype=torch.float64)
        if shares.shape != (len(self.densities),) or not bool((shares > 0).all() and shares.isfinite().all()):
            raise DataError(f"expected {len(self.densities)} positive shares, one for each label, got {shares.tolist()}")
        object.__setattr__(self, "shares", shares / shares.sum())

    @classmethod
    def calibrated(cls, densities: Mapping[int, FittedModel], rows: Any, labels: Any, *, shares: Any = None) -> Self:
        """Densities with the power that maximises the likelihood of the labels of held-out rows.

        Args:
            densities: the density of the rows of each label.
            rows: complete rows ``(n, *event)`` in data units that no density was fitted to, or a frame of them.
            labels: label of each row, whole numbers ``(n,)``.
            shares: probability of each label before a row is seen; those of ``labels`` when None.

        Raises:
            DataError: no rows, labels that are not whole numbers or without a density, another number of labels than of
                rows, rows with missing values, or no row with a density above 0.
        """
        names, given = list(cls(densities, torch.ones(len(densities))).densities), whole_labels(labels)
        unknown = sorted(set(given.tolist()) - set(names))
        if unknown:
            raise DataError(f"expected labels among {names}, got {unknown[:5]} too: fit densities of these labels")
        places = torch.tensor([names.index(label) for label in given.tolist()], dtype=torch.long)
        if shares is None:
            shares = (places.bincount(minlength=len(names)) + 1.0).double() / (len(places) + len(names))
        found = cls(densities, shares)
        values = found.log_densities(rows)
        if len(values) != len(places) or not len(values):
            raise DataError(f"expected one label for each of {len(values)} rows, one row at least, got {len(places)} labels")
        _refuse_missing(values)
        if not bool(values.isfinite().any()):
            raise DataError(f"all {len(values)} rows have density 0 under every label: they are far from those of the fits")
        return cls(densities, found.shares, best_power(values, places, found.shares))

    @property
    def labels(self) -> list[int]:
        """Labels in the order of the columns of all results."""
        return list(self.densities)

    def log_densities(self, rows: Any) -> Tensor:
        """Log density of each row under each label in data units, nats, ``(n, labels)``, float64.

        Args:
            rows: rows ``(n, *event)`` or flat ``(n, d)``, or a frame, whose columns are found by name.
        """
        read = next(iter(self.densities.values())).rows(rows, missing="keep", least=0)
        return torch.stack([density.log_prob(read) for density in self.densities.values()], 1)

    def log_prob(self, rows: Any) -> Tensor:
        """Normalised log density of rows whatever their label, log sum_c pi_c p(x | c), nats, ``(n,)``, float64.

        Args:
            rows: rows ``(n, *event)`` or flat ``(n, d)``, or a frame, whose columns are found by name.
        """
        return (self.log_densities(rows) + self.shares.log()).logsumexp(1)

    def probabilities(self, rows: Any) -> Tensor:
        """Probability of each label given a row, ``(n, labels)``, float64.

        Args:
            rows: rows ``(n, *event)`` or flat ``(n, d)``, or a frame, whose columns are found by name.

        Raises:
            DataError: a row with missing values, or one whose density is 0 under every label.
        """
        values = self.log_densities(rows)
        _refuse_missing(values)
        lost = (~values.isfinite()).all(1).nonzero().flatten()
        if len(lost):
            raise DataError(f"row {int(lost[0])} has density 0 under every label, so none is more probable: leave it out")
        return label_probabilities(values, self.shares, self.power)

    def predict(self, rows: Any) -> Tensor:
        """Most probable label of each row, ``(n,)``.

        Args:
            rows: rows ``(n, *event)`` or flat ``(n, d)``, or a frame, whose columns are found by name.
        """
        return torch.tensor(self.labels)[self.probabilities(rows).argmax(1)]

    def sample(self, num_samples: int | Sequence[int] = (), *, label: int | None = None, seed: int | None = None) -> Tensor:
        """Draw rows ``(num_samples, *event)`` or ``(*shape, *event)`` in data units.

        Args:
            num_samples: number of rows to draw, or a shape such as ``(64,)``.
            label: label of all rows; None draws labels by their shares, in an order of chance.
            seed: seed of the draws; None draws fresh ones.

        Raises:
            DataError: a label without a density, or a number of draws that is negative or no integer.
        """
        if label is not None:
            if label not in self.densities:
                raise DataError(f"expected a label among {self.labels}, got {label!r}")
            return self.densities[label].sample(num_samples, seed=seed)
        shape, generator = draws_shape(num_samples), random_generator(seed)
        count, event = math.prod(shape), next(iter(self.densities.values())).event_shape
        places = torch.zeros(0)
        if count:
            places = torch.multinomial(self.shares, count, replacement=True, generator=generator)
        rows = torch.empty(count, *event, dtype=torch.float64)
        for place, density in enumerate(self.densities.values()):
            own = places == place
            if bool(own.any()):
                own_seed = int(torch.randint(2**31, (), generator=generator))
                rows[own] = density.sample(int(own.sum()), seed=own_seed)
        return rows.reshape(*shape, *event)

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the densities, shares and power to a new folder, all at once.

        Args:
            path: folder to create, one run folder for each label inside it.
            force: whether to overwrite a folder of densities of labels, which stays until the new one is complete.

        Raises:
            RunFolderError: a path that exists, without ``force`` or where it holds anything but densities of labels, a
                folder that cannot be made, or a full disk.
        """
        return save_classes(self.densities, self.shares, self.power, path, force=force)

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device | None = None) -> Self:
        """Read the densities of labels that :meth:`save` has written.

        Args:
            path: folder that :meth:`save` has written.
            device: device on which the models compute.

        Raises:
            RunFolderError: a missing, foreign or damaged folder, or one of another version.
            ValueError: a device that this machine does not have.
        """
        return cls(**read_classes(path, device=device))


def whole_labels(labels: Any) -> Tensor:
    """Labels as whole numbers ``(n,)``.

    Args:
        labels: whole numbers of any type, ``(n,)`` or ``(n, 1)``.

    Raises:
        DataError: texts, fractions or missing values, or more than one number for a row.

    >>> whole_labels([3.0, 7.0])
    tensor([3, 7])
    """
    try:
        given = torch.as_tensor(labels)
    except (RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"expected labels that are whole numbers, got {type(labels).__name__}: {error}") from None
    if given.ndim > 2 or (given.ndim == 2 and given.shape[1] != 1):
        raise DataError(f"expected one label for each row, (n,), got shape {tuple(given.shape)}: argmax of one-hot ones")
    whole = given.flatten()
    is_whole = whole.isfinite() & (whole == whole.trunc()) if whole.is_floating_point() else torch.ones(len(whole)) > 0
    if whole.is_complex() or not bool(is_whole.all()):
        raise DataError(f"expected labels that are whole numbers, got {whole[~is_whole][0].item()}: number the labels")
    return whole.long()


def _refuse_missing(values: Tensor) -> None:
    """Refuses rows with missing values, whose log densities ``(n, labels)`` are NaN."""
    missing = values.isnan().any(1).nonzero().flatten()
    if len(missing):
        raise DataError(
            f"row {int(missing[0])} has missing values, and no density without them: leave such rows out, or fill them with "
            "density.impute"
        )


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
