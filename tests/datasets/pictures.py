"""Small random images, and the sources that they come in."""

import struct

import numpy as np
import torch
from PIL import Image as PillowImage

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, size=(30, 6, 5), dtype=np.uint8)
COLOR = RNG.integers(0, 256, size=(30, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(30) % 2


def idx(array):
    kinds = {"uint8": 0x08, "float32": 0x0D}
    head = struct.pack(f">2xBB{array.ndim}I", kinds[str(array.dtype)], array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_folder(path, images, labels=None):
    for index, pixels in enumerate(images):
        folder = path if labels is None else path / f"class{labels[index]}"
        folder.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(pixels).save(folder / f"{index:03d}.png")
    return path


class Image:
    """Stands for the feature type of that name."""


class Rows:
    """What a Hugging Face data set looks like from outside."""

    def __init__(self, images, labels):
        self.column_names, self.features = ["picture", "label"], {"picture": Image(), "label": object()}
        self._rows = [
            {"picture": PillowImage.fromarray(i), "label": int(y)} for i, y in zip(images, labels, strict=True)
        ]

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, index):
        return self._rows[index]


def write(path, content):
    path.write_bytes(content)
    return path


def together(data):
    return torch.cat([data.train, data.validation, data.test]).reshape(-1, *data.event_shape)
