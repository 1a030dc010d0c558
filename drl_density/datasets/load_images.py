"""Which sources are 8-bit images, and their split: an official test part stays the test."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drl_density.datasets.dataset import Dataset
from drl_density.datasets.files import UNREADABLE, unreadable
from drl_density.datasets.image_files import is_idx, read_images
from drl_density.datasets.images import RawImages, as_pixels, image_arrays, images_in_memory, pixel_columns
from drl_density.datasets.splits import Split, split_rows
from drl_density.errors import DataError


def find_images(source: Any, image_size: int | None = None) -> tuple[str, str, RawImages] | None:
    """(short name, source as it can be loaded again, images), or None when the source is a table.

    Raises:
        DataError: naming the file or row at fault.
    """
    if not isinstance(source, str | os.PathLike):
        found = images_in_memory(source)
        return None if found is None else ("images", "", found)
    text, key = str(source), None
    path = Path(text)
    if not path.exists() and ".npz:" in text:
        stem, key = text.rsplit(":", 1)
        path = Path(stem)
    if path.is_dir() or (path.is_file() and is_idx(path)):
        return path.name, text, read_images(path, image_size=image_size)
    found = _in_archive(path, key) if path.suffix in (".npz", ".npy") and path.is_file() else None
    return None if found is None else (path.stem, text, found)


def _in_archive(path: Path, key: str | None) -> RawImages | None:
    try:
        if path.suffix == ".npy":
            arrays = {"": np.load(path, allow_pickle=False, mmap_mode="r")}
        else:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                arrays = dict(archive)
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    if key is not None:
        arrays = {name: array for name, array in arrays.items() if name == key}
    elif (official := image_arrays(arrays, str(path))) is not None:
        return official
    images = [array for array in arrays.values() if array.dtype == np.uint8 and array.ndim in (3, 4)]
    return RawImages(as_pixels(images[0], str(path))) if len(images) == 1 else None


def split_images(name: str, where: str, images: RawImages, split: Split) -> Dataset:
    """Images as a data set; equal images stay on one side, and an official test part is the test.

    Raises:
        DataError: splits by columns, which images do not have, or images of zeros and ones.
    """
    roles = [role for role in ("group", "time", "weights") if getattr(split, role) is not None]
    if roles:
        raise DataError(f"images have no columns to split or weigh by, got {', '.join(roles)}")
    if images.pixels.max() <= 1:
        raise DataError(
            f"{where or 'the array'}: expected grey levels 0..255, got none above 1; multiply images of zeros and ones "
            "by 255"
        )
    rows = images.pixels.reshape(len(images.pixels), -1)
    num_own = len(rows) if images.num_train is None else images.num_train
    own = split if images.num_train is None else dataclasses.replace(split, test=0.0)
    train, validation, test = split_rows(_equal_images(rows[:num_own]), own)
    if images.num_train is not None:
        test = np.arange(num_own, len(rows))
    parts = [torch.from_numpy(rows[index]) for index in (train, validation, test)]
    labels = None
    if images.labels is not None:
        labels = tuple(torch.as_tensor(images.labels[index].astype(np.int64)) for index in (train, validation, test))
    shape = tuple(int(size) for size in images.pixels.shape[1:])
    return Dataset(name, *parts, pixel_columns(rows.shape[1]), shape, source=where, labels=labels)


def _equal_images(rows: np.ndarray) -> np.ndarray:
    """One integer per row, equal exactly for equal rows."""
    seen: dict[bytes, int] = {}
    return np.array(
        [seen.setdefault(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), len(seen)) for row in rows]
    )
