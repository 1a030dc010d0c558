"""Images on disk: folders of image files, idx files, and the errors that name the file at fault."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from drl_density.datasets.images import RawImages, as_pixels, check_sizes, join
from drl_density.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def is_idx(path: Path) -> bool:
    """Whether a file's name says that it is in the idx format of MNIST, gzipped or not."""
    return "idx" in path.name and "ubyte" in path.name


def read_idx(path: Path) -> np.ndarray:
    """An array in the idx format: two zero bytes, type, number of dimensions, sizes (big endian), values.

    Raises:
        DataError: a file of another format, or one that is cut short.
    """
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); is the file whole?") from error
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
    """Images of a folder or of one idx file.

    A folder holds image files, directly or in one folder per class (whose sorted names are the labels 0, 1, ...), or
    ``train`` and ``test`` folders of that kind, or the idx files of MNIST.

    Args:
        path: of the folder or idx file.
        image_size: when given, each file's largest centred square is scaled to this many pixels a side.

    Raises:
        DataError: naming the file that cannot be read, differs in size, or is not 8-bit grey or RGB.
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
    parts, labels, names = [], [], []
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
        raise DataError(f"{path}: holds no image files ({', '.join(SUFFIXES)}) and no idx files")
    arrays = [read_image(file, image_size) for file in files]
    check_sizes(arrays, [str(file) for file in files], "; scale them with image_size=32 (--image-size 32)")
    has_labels = bool(classes) and all(file.parent.parent == path for file in files)
    labels = np.array([classes.index(file.parent.name) for file in files]) if has_labels else None
    return RawImages(as_pixels(np.stack(arrays), str(path)), labels)


def read_image(path: Path, image_size: int | None = None) -> np.ndarray:
    """One file as ``(height, width)`` or ``(height, width, 3)`` in uint8.

    Raises:
        DataError: unreadable, transparent, or not 8-bit grey or RGB.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise DataError(f"{path}: reading image files needs Pillow: pip install pillow") from error
    try:
        with Image.open(path) as opened:
            image = _eight_bit(opened, path)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read as an image ({error}); is the file whole?") from error
    if image_size is not None:
        side = min(image.size)
        left, top = ((extent - side) // 2 for extent in image.size)
        box = (left, top, left + side, top + side)
        image = image.resize((image_size, image_size), Image.Resampling.BOX, box=box)
    return np.asarray(image)


def _eight_bit(image: Any, path: Path) -> Any:
    """Grey or RGB, fully loaded; palettes are looked up, an alpha channel must be opaque."""
    image.load()
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("RGBA", "LA"):
        if image.getchannel("A").getextrema()[0] < 255:
            raise DataError(f"{path}: is partly transparent; lay it on a background first")
        image = image.convert(image.mode[:-1])
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "RGB"):
        raise DataError(f"{path}: expected 8-bit grey or RGB, got mode {image.mode}; convert it first")
    return image.copy()
