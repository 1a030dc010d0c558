"""8-bit images in one layout: recognised among objects in memory, checked, and split into a data set."""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from drl_density.datasets.column import Column
from drl_density.datasets.dataset import Dataset
from drl_density.datasets.splits import Parts, Split, split_rows
from drl_density.errors import DataError, DataWarning

TRAIN_NAMES = ("x_train", "train_images", "train")
TEST_NAMES = ("x_test", "test_images", "test")
LABELS_BESIDE = {"x_train": "y_train", "x_test": "y_test", "train_images": "train_labels", "test_images": "test_labels"}
"""Array of an archive that holds the labels of another one."""


@dataclass(frozen=True)
class RawImages:
    """Images as they were read.

    Attributes:
        pixels: grey levels ``(n, channels, height, width)``, uint8.
        labels: class of every image ``(n,)``, or None.
        num_train: number of images of the official training part, before those of the official test part; None
            without official parts.
    """

    pixels: np.ndarray
    labels: np.ndarray | None = None
    num_train: int | None = None


def as_pixels(values: Any, where: str) -> np.ndarray:
    """Brings an array of images into the layout ``(n, channels, height, width)``, uint8.

    Accepts ``(n, h, w)``, ``(n, h, w, c)`` and ``(n, c, h, w)`` with 1 or 3 channels.

    Raises:
        DataError: another shape, or values that are not whole numbers in 0..255.
    """
    array = np.asarray(values)
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[-1] in (1, 3):
        array = np.moveaxis(array, -1, 1)
    elif array.ndim != 4 or array.shape[1] not in (1, 3):
        raise DataError(
            f"{where}: expected images (n, height, width), or with 1 or 3 channels last or first, got shape {array.shape}"
        )
    if len(array) == 0 or 0 in array.shape:
        raise DataError(f"{where}: has no pixels, shape {array.shape}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    low, high = float(array.min()), float(array.max())
    if scaling := scaling_of(array):
        raise DataError(f"{where}: its values {scaling}")
    if not (low >= 0 and high <= 255 and np.all(array == np.round(array))) or high <= 1:
        raise DataError(
            f"{where}: expected 8-bit images, whole numbers in 0..255, got {array.dtype} in [{low:g}, {high:g}]; convert "
            "them to grey levels 0..255 in uint8 first"
        )
    return np.ascontiguousarray(array.astype(np.uint8))


def scaling_of(array: np.ndarray) -> str:
    """How grey levels were scaled, and how to get them back, the end of a message; empty where they were not scaled.

    Values within 0 and 1 are taken for levels divided by 255, and values within -1 and 1 for levels divided by 127.5, less
    1, where these are whole numbers. Arrays of the ends and the middle alone are not. NaN, a hidden pixel, is left out.

    >>> import numpy as np
    >>> scaling_of(np.array([0.0, 51 / 255, 1.0]))
    'look like grey levels divided by 255: give the levels themselves, np.round(255 * images).astype(np.uint8)'
    >>> scaling_of(np.array([0.0, 1.0])), scaling_of(np.array([-1.0, 0.3, 1.0]))
    ('', '')
    """
    array = array[~np.isnan(array)] if array.dtype.kind == "f" else array
    if array.dtype.kind != "f" or not array.size or array.min() < -1 or array.max() > 1 or not (array % 1).any():
        return ""
    is_centred = bool(array.min() < 0)
    levels = 127.5 * (array + 1) if is_centred else 255 * array
    # float16 keeps grey levels of 255 parts to 0.06.
    if (np.abs(levels - np.round(levels)) >= 0.1).any():
        return ""
    way, back = ("127.5, less 1", "127.5 * (images + 1)") if is_centred else ("255", "255 * images")
    return f"look like grey levels divided by {way}: give the levels themselves, np.round({back}).astype(np.uint8)"


def images_of_array(array: np.ndarray, where: str) -> RawImages | None:
    """Images of an array of any number type, or None for one that is a table or has continuous values.

    Whole numbers within 0..255 are grey levels in any type, as scikit-learn's digits are.

    Args:
        array: any array.
        where: what it is, for messages.

    Raises:
        DataError: grey levels that were divided by 255, and whole numbers beyond 0..255.
    """
    is_layout = array.ndim == 3 or (array.ndim == 4 and (array.shape[-1] in (1, 3) or array.shape[1] in (1, 3)))
    if not array.size or array.dtype.kind not in "uif" or not is_layout:
        return RawImages(as_pixels(array, where)) if array.dtype == np.uint8 and array.ndim in (3, 4) else None
    if array.dtype == np.uint8:
        return RawImages(as_pixels(array, where))
    if scaling := scaling_of(array):
        raise DataError(f"{where}: its values {scaling}")
    low, high = float(array.min()), float(array.max())
    if low >= 0 and 1 < high <= 255 and bool(np.all(array == np.round(array))):
        return RawImages(as_pixels(array, where))
    if array.dtype.kind != "f" and not (low >= 0 and high <= 255):
        raise DataError(
            f"{where}: expected grey levels 0..255, got whole numbers from {low:g} to {high:g}; scale them to 0..255, or "
            "give floating-point numbers for continuous values"
        )
    return None


def pixel_columns(num_pixels: int) -> tuple[Column, ...]:
    """Columns of 8-bit images: whole numbers, with bounds half a grey level outside 0..255."""
    return tuple(Column(f"x{index}", "integer", 1.0, lower=-0.5, upper=255.5) for index in range(num_pixels))


def image_arrays(arrays: Mapping[str, np.ndarray], where: str) -> RawImages | None:
    """Finds an official training part, and test part and labels if any, among the arrays of an archive.

    Returns:
        The images, or None for an archive without such arrays, which is a table.
    """
    train = next((name for name in TRAIN_NAMES if name in arrays and arrays[name].ndim >= 3), None)
    if train is None:
        return None
    test = next((name for name in TEST_NAMES if name in arrays and arrays[name].ndim >= 3), None)
    parts = [(train, as_pixels(arrays[train], f"{where}:{train}"))]
    if test is not None:
        parts.append((test, as_pixels(arrays[test], f"{where}:{test}")))
    labels = [_labels_beside(arrays, name, len(pixels), where) for name, pixels in parts]
    known = [part for part in labels if part is not None]
    if 0 < len(known) < len(parts):
        lacking = next(name for (name, _), part in zip(parts, labels, strict=True) if part is None)
        warnings.warn(
            f"{where}: has no {LABELS_BESIDE.get(lacking, 'labels')} for its {lacking}, so those of the other part are left "
            "out too",
            DataWarning,
            stacklevel=4,
        )
    return join(
        [pixels for _, pixels in parts],
        known if len(known) == len(parts) else None,
        [f"{where}:{name}" for name, _ in parts],
    )


def join(parts: Sequence[np.ndarray], labels: Sequence[np.ndarray] | None, names: Sequence[str]) -> RawImages:
    """Joins a training part and an official test part, if there is one."""
    if len({part.shape[1:] for part in parts}) > 1:
        shapes = ", ".join(f"{name} {part.shape[1:]}" for name, part in zip(names, parts, strict=True))
        raise DataError(f"training and test images differ in size: {shapes}")
    together = None if labels is None else np.concatenate([np.asarray(part).reshape(-1) for part in labels])
    return RawImages(np.concatenate(parts), together, len(parts[0]) if len(parts) > 1 else None)


def images_in_memory(source: Any) -> RawImages | None:
    """Images of an object in memory, or None for any other object.

    Recognises arrays and tensors of 3 or 4 dimensions that hold grey levels, lists of such images, of images of Pillow and
    of nested lists of pixels, torchvision data sets (``data`` with ``targets`` or ``labels``, or items of image and label),
    Hugging Face data sets (``features`` and ``column_names``) and their dictionaries of splits. Nothing is downloaded: the
    object must have its images already.

    Raises:
        DataError: images that differ in size, are not 8-bit, or were divided by 255.
    """
    if isinstance(source, np.ndarray | torch.Tensor):
        array = source.detach().cpu().numpy() if isinstance(source, torch.Tensor) else np.asarray(source)
        return images_of_array(array, "the array") if source.ndim in (3, 4) else None
    if isinstance(source, list | tuple) and source and all(_is_image(part) for part in source):
        parts = [_image_array(part, index) for index, part in enumerate(source)]
        check_sizes(parts, [f"image {index}" for index in range(len(parts))], "; scale them to one size first")
        return images_of_array(np.stack(parts), "the list of images")
    if isinstance(source, Mapping) and "train" in source and hasattr(source["train"], "features"):
        names = [name for name in ("train", "test") if name in source]
        parts = [_from_features(source[name], f"split {name!r}") for name in names]
        known = [part.labels for part in parts if part.labels is not None]
        return join([part.pixels for part in parts], known if len(known) == len(parts) else None, names)
    if hasattr(source, "features") and hasattr(source, "column_names"):
        return _from_features(source, "the data set")
    data, labels = getattr(source, "data", None), getattr(source, "targets", getattr(source, "labels", None))
    if data is not None and np.ndim(data) in (3, 4) and labels is not None:
        return RawImages(as_pixels(data, type(source).__name__), np.asarray(labels).reshape(-1))
    if hasattr(source, "loader") and hasattr(source, "samples"):
        return _from_items([source[index] for index in range(len(source))], type(source).__name__)
    return None


def _is_image(part: Any) -> bool:
    """Whether a part of a list is an image: an array, an image of Pillow, or lists of the pixels of each line."""
    if isinstance(part, list | tuple):
        return bool(part) and all(isinstance(line, list | tuple) for line in part)
    is_pillow = hasattr(part, "__array_interface__") and hasattr(part, "getbands")
    return is_pillow or (isinstance(part, np.ndarray | torch.Tensor) and part.ndim in (2, 3))


def _image_array(part: Any, index: int) -> np.ndarray:
    """The array of an image in a list, whose lines must be of one length."""
    try:
        return np.asarray(part)
    except ValueError as error:
        raise DataError(f"image {index} has lines of different lengths: give each line as many pixels") from error


def check_sizes(arrays: Sequence[np.ndarray], names: Sequence[str], hint: str) -> None:
    """Refuses images of different shapes; the error names the first image and the one that differs."""
    for name, array in zip(names, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise DataError(
                f"images must be of one size and kind: {names[0]} is {_size(arrays[0])}, {name} is {_size(array)}{hint}"
            )


def _size(array: np.ndarray) -> str:
    kind = "grey" if array.ndim == 2 else f"{array.shape[-1]} channels"
    return f"{array.shape[1]}x{array.shape[0]} {kind}"


def _from_features(source: Any, where: str) -> RawImages:
    """Images and labels, if any, of one split of a Hugging Face data set, which must have one image column."""
    names = [name for name in source.column_names if type(source.features[name]).__name__ == "Image"]
    if not names:
        names = [name for name in ("image", "img") if name in source.column_names]
    if len(names) != 1:
        raise DataError(f"{where}: expected one image column, got {names or 'none'} among {list(source.column_names)}")
    rows = [np.asarray(source[index][names[0]]) for index in range(len(source))]
    check_sizes(rows, [f"{where}, row {index}" for index in range(len(rows))], "")
    label = next((name for name in ("label", "labels", "fine_label") if name in source.column_names), None)
    labels = None if label is None else np.asarray([source[index][label] for index in range(len(source))])
    return RawImages(as_pixels(np.stack(rows), where), labels)


def _from_items(items: Sequence[tuple[Any, int]], where: str) -> RawImages:
    rows = [np.asarray(image) for image, _ in items]
    check_sizes(rows, [f"{where}[{index}]" for index in range(len(rows))], "")
    return RawImages(as_pixels(np.stack(rows), where), np.asarray([label for _, label in items]))


def _labels_beside(arrays: Mapping[str, np.ndarray], name: str, count: int, where: str) -> np.ndarray | None:
    labels = arrays.get(LABELS_BESIDE.get(name, ""))
    if labels is not None and labels.reshape(-1).shape != (count,):
        raise DataError(
            f"{where}: {LABELS_BESIDE[name]} has shape {labels.shape}, expected one label for each of the {count} images of "
            f"{name}: give whole numbers ({count},), or leave {LABELS_BESIDE[name]} out"
        )
    return labels


def split_images(name: str, where: str, images: RawImages, split: Split) -> Dataset:
    """Makes a data set of images; equal images stay together, and an official test part becomes the test.

    Raises:
        DataError: a split by columns, which images do not have, images of zeros and ones, or labels that are not whole
            numbers.
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
    parts = split_rows(_equal_images(rows[:num_own]), own)
    if images.num_train is not None:
        parts = parts._replace(test=np.arange(num_own, len(rows)))
    labels = None
    if images.labels is not None:
        known = _whole_labels(images.labels, where or "the array")
        labels = Parts(*(torch.as_tensor(known[index]) for index in parts))
    return Dataset(
        name=name,
        train=torch.from_numpy(rows[parts.train]),
        validation=torch.from_numpy(rows[parts.validation]),
        test=torch.from_numpy(rows[parts.test]),
        columns=pixel_columns(rows.shape[1]),
        event_shape=tuple(int(size) for size in images.pixels.shape[1:]),
        source=where,
        labels=labels,
    )


def _whole_labels(labels: np.ndarray, where: str) -> np.ndarray:
    """Labels as int64; fractions, missing values and texts that are no numbers are refused."""
    message = f"{where}: expected labels that are whole numbers, got {{!r}}: number the labels 0, 1, ..."
    if labels.dtype.kind == "f" and not (is_whole := np.isfinite(labels) & (labels == np.round(labels))).all():
        raise DataError(message.format(float(labels[~is_whole][0])))
    try:
        return labels.astype(np.int64)
    except (TypeError, ValueError):
        raise DataError(message.format(str(labels[0]))) from None


def _equal_images(rows: np.ndarray) -> np.ndarray:
    """Numbers the distinct rows: one integer per row, the same for equal rows."""
    seen: dict[bytes, int] = {}
    return np.array(
        [seen.setdefault(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), len(seen)) for row in rows]
    )
