"""Reads 8-bit images from folders, idx files and archives; errors name the file at fault."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drl_density.datasets.images import (
    RawImages,
    as_pixels,
    check_sizes,
    image_arrays,
    images_in_memory,
    images_of_array,
    join,
)
from drl_density.datasets.tables.arrays import UNREADABLE, unreadable
from drl_density.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""numpy types by their code in an idx header. Source: the description of the format at yann.lecun.com/exdb/mnist."""


def is_idx(path: Path) -> bool:
    """Whether ``path`` is named like an idx file of MNIST, gzipped or not."""
    return "idx" in path.name and "ubyte" in path.name


def read_idx(path: Path) -> np.ndarray:
    """Reads an array in the idx format: two zero bytes, type, number of dimensions, big-endian sizes, values.

    Raises:
        DataError: a file in another format, or a truncated one.
    """
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); is the file complete?") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in IDX_TYPES:
        raise DataError(
            f"{path}: not an idx file: expected two zero bytes and a type, got {raw[:4].hex() or 'nothing'}"
        )
    start = 4 + 4 * raw[3]
    sizes = np.frombuffer(raw[4:start], ">u4").tolist()
    kind = np.dtype(IDX_TYPES[raw[2]])
    expected = start + math.prod(sizes) * kind.itemsize
    if len(sizes) != raw[3] or len(raw) != expected:
        raise DataError(f"{path}: the header promises {expected} bytes (sizes {sizes}), the file has {len(raw)}")
    return np.frombuffer(raw, kind, offset=start).reshape(sizes)


def read_images(path: Path, *, image_size: int | None = None) -> RawImages:
    """Reads the images of a folder or of one idx file.

    A folder has image files in it, or one folder per class, whose sorted names are the labels 0, 1, .... It may also
    have ``train`` and ``test`` folders of that kind, or the idx files of MNIST.

    Args:
        path: folder or idx file to read.
        image_size: side in pixels to which the largest centred square of every file is scaled; None keeps the sizes.

    Raises:
        DataError: a file that cannot be read, differs in size, or is not 8-bit grey or RGB.
    """
    if path.is_file():
        return RawImages(as_pixels(read_idx(path), str(path)))
    found = sorted(entry for entry in path.rglob("*") if entry.is_file() and is_idx(entry))
    if found:
        return _read_idx_folder(path, found)
    parts = [part for part in (path / "train", path / "test") if part.is_dir()]
    if not parts:
        parts = [path]
    classes = sorted({entry.name for part in parts for entry in part.iterdir() if entry.is_dir()})
    read = [_read_folder(part, classes, image_size) for part in parts]
    known = [part.labels for part in read if part.labels is not None]
    return join([part.pixels for part in read], known if len(known) == len(read) else None, [str(p) for p in parts])


def _read_idx_folder(path: Path, found: list[Path]) -> RawImages:
    parts: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    names: list[str] = []
    for prefix in ("train", "t10k", "test"):
        images = [entry for entry in found if entry.name.startswith(prefix) and "images" in entry.name]
        if not images:
            continue
        names.append(str(images[0]))
        parts.append(as_pixels(read_idx(images[0]), names[-1]))
        labels += [read_idx(entry) for entry in found if entry.name.startswith(prefix) and "labels" in entry.name][:1]
        if len(labels) == len(parts) and len(labels[-1]) != len(parts[-1]):
            raise DataError(f"{names[-1]}: {len(parts[-1])} images but {len(labels[-1])} labels")
    if not parts:
        raise DataError(f"{path}: expected train-images-idx3-ubyte, got {', '.join(entry.name for entry in found)}")
    return join(parts, labels if len(labels) == len(parts) else None, names)


def _read_folder(path: Path, classes: list[str], image_size: int | None) -> RawImages:
    files = sorted(entry for entry in path.rglob("*") if entry.suffix.lower() in SUFFIXES and entry.is_file())
    if not files:
        raise DataError(f"{path}: has no image files ({', '.join(SUFFIXES)}) and no idx files")
    arrays = [read_image(file, image_size) for file in files]
    check_sizes(arrays, [str(file) for file in files], "; scale them with image_size=32 (--image-size 32)")
    has_labels = bool(classes) and all(file.parent.parent == path for file in files)
    labels = np.array([classes.index(file.parent.name) for file in files]) if has_labels else None
    return RawImages(as_pixels(np.stack(arrays), str(path)), labels)


def read_image(path: Path, image_size: int | None = None) -> np.ndarray:
    """Reads one file as ``(height, width)`` or ``(height, width, 3)``, uint8, upright where a photo says how it was held.

    Raises:
        DataError: a file that cannot be read, is partly transparent, or is not 8-bit grey or RGB.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise DataError(f"{path}: reading image files needs Pillow: pip install pillow") from error
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(_eight_bit(opened, path))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read as an image ({error}); is the file complete?") from error
    if image_size is not None:
        side = min(image.size)
        left, top = ((extent - side) // 2 for extent in image.size)
        box = (left, top, left + side, top + side)
        image = image.resize((image_size, image_size), Image.Resampling.BOX, box=box)
    return np.asarray(image)


def _eight_bit(image: Any, path: Path) -> Any:
    """The image in grey or RGB: palettes are looked up, and an opaque alpha channel is dropped."""
    image.load()
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("RGBA", "LA"):
        if image.getchannel("A").getextrema()[0] < 255:
            raise DataError(f"{path}: is partly transparent; put it on a background first")
        image = image.convert(image.mode[:-1])
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "RGB"):
        raise DataError(f"{path}: expected 8-bit grey or RGB, got mode {image.mode}; convert it first")
    return image.copy()


class FoundImages(NamedTuple):
    """Images of a source.

    Attributes:
        name: short name of the data set.
        source: path from which the images can be loaded again, or "" for objects in memory.
        images: pixels and labels as read.
    """

    name: str
    source: str
    images: RawImages


def find_images(source: Any, image_size: int | None = None) -> FoundImages | None:
    """Reads the images of a source, or returns None for a source that is a table.

    Raises:
        DataError: a file or row with images of the wrong kind.
    """
    if image_size is not None and image_size < 1:
        raise DataError(f"image_size must be at least 1 pixel, got {image_size}")
    if not isinstance(source, str | os.PathLike):
        found = images_in_memory(source)
        return None if found is None else FoundImages("images", "", _unscaled(found, image_size))
    text, key = str(source), None
    path = Path(text)
    if not path.exists() and ".npz:" in text:
        stem, key = text.rsplit(":", 1)
        path = Path(stem)
    if path.is_dir() or (path.is_file() and is_idx(path)):
        return FoundImages(path.name, text, read_images(path, image_size=image_size))
    found = _in_archive(path, key) if path.suffix in (".npz", ".npy") and path.is_file() else None
    return None if found is None else FoundImages(path.stem, text, _unscaled(found, image_size))


def _unscaled(images: RawImages, image_size: int | None) -> RawImages:
    """Images of an array, which are not scaled."""
    if image_size is not None:
        raise DataError("image_size scales image files; this source is an array, whose images keep their size")
    return images


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
    if len(images) == 1:
        return RawImages(as_pixels(images[0], str(path)))
    return images_of_array(next(iter(arrays.values())), str(path)) if len(arrays) == 1 and not images else None
