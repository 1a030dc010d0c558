"""``fit_classes``: one density for the rows of each label."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from drl_density.datasets import Dataset, Split, load_dataset
from drl_density.density.classification.class_densities import ClassDensities
from drl_density.density.data_units import most_scored_images
from drl_density.density.fitting.fit import fit
from drl_density.density.fitting.run import choose_seed
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.errors import DataError

LEAST_ROWS = 20
"""Training rows of a label at least: a density of fewer says little."""


def fit_classes(
    data: Any,
    *,
    seed: int | None = None,
    settings: FitSettings | None = None,
    max_minutes: float | None = None,
    progress: bool = True,
    device: str | torch.device | None = None,
) -> ClassDensities:
    """Learn one density for each label, and calibrate the probabilities of labels that follow from them.

    Args:
        data: A :class:`Dataset` with labels, or a source of images with labels that :func:`load_dataset` takes, such as an
            .npz file with ``x_train`` and ``y_train``.
        seed: Seed of the split and of all fits; None draws one.
        settings: Settings of every fit; see :class:`FitSettings`.
        max_minutes: Time to aim at for all fits together, of which each label has an equal part. The scores of validation
            rows under all densities come on top.
        progress: Shows messages and progress bars.
        device: Device of the models.

    Returns:
        Densities by label, with the power that maximises the likelihood of the labels of validation rows.

    Raises:
        DataError: Data without labels, time that is not positive, fewer than two labels, or a label with fewer than 20
            training rows.
    """
    if max_minutes is not None and not max_minutes > 0:
        raise DataError(f"max_minutes must be a positive number, got {max_minutes}")
    seed = choose_seed(seed)
    dataset = data if isinstance(data, Dataset) else load_dataset(data, split=Split(seed=seed))
    if dataset.labels is None:
        raise DataError(
            f"{dataset.name}: expected data with one label for each row, such as an .npz file with images x_train and whole "
            "numbers y_train (n,), got none; a table with a column of labels needs one fit alone, and density.predict(rows, "
            "column) gives their probabilities"
        )
    train, validation = dataset.labels.train, dataset.labels.validation
    names, counts = train.unique(return_counts=True)
    few = {int(name): int(count) for name, count in zip(names, counts, strict=True) if count < LEAST_ROWS}
    if few or len(names) < 2:
        got = ", ".join(f"{count} of label {name}" for name, count in few.items()) or f"{len(names)} label"
        raise DataError(f"expected at least two labels with {LEAST_ROWS} training rows each, got {got}: leave others out")
    densities = {
        int(name): fit(
            _rows_of(dataset, int(name)),
            seed=seed,
            settings=settings,
            max_minutes=None if max_minutes is None else max_minutes / len(names),
            progress=progress,
            device=device,
        )
        for name in names
    }
    order = torch.randperm(len(validation), generator=torch.Generator().manual_seed(seed))
    chosen = order[: max(LEAST_ROWS * len(names), most_scored_images(dataset.num_columns) // 2)]  # one number is fitted
    return ClassDensities.calibrated(densities, dataset.validation[chosen], validation[chosen], shares=counts / counts.sum())


def _rows_of(dataset: Dataset, label: int) -> Dataset:
    """The rows of one label, in their parts."""
    assert dataset.labels is not None
    parts = {
        name: getattr(dataset, name)[getattr(dataset.labels, name) == label] for name in ("train", "validation", "test")
    }
    name = f"{dataset.name}, label {label}"
    return dataclasses.replace(dataset, **parts, name=name, labels=None, source="", loading={})
