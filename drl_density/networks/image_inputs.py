"""What networks over images are given: pixels in one of two shapes, and labels or none."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def as_images(x: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Images ``(batch, c, h, w)`` from such images or from flat rows of them.

    Raises:
        ValueError: rows of another size.
    """
    if x[0].numel() != torch.Size(image_shape).numel():
        raise ValueError(f"expected images of shape {tuple(image_shape)}, got rows of {tuple(x.shape[1:])}")
    return x.reshape(len(x), *image_shape)


def with_label(level: Tensor, embed_label: nn.Embedding | None, log_snr: Tensor, label: Tensor | None) -> Tensor:
    """Features of the level ``(..., width)`` and, for a network with labels, those of the label; label 0 is "not told".

    Raises:
        ValueError: labels given to a network without them.
    """
    if embed_label is None:
        if label is not None:
            raise ValueError("this network has no labels: set num_classes to train it with them")
        return level
    return level + embed_label(torch.zeros_like(log_snr, dtype=torch.long) if label is None else label)
