"""Inputs of networks over images: pixels in one of two shapes, and labels or none."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def as_images(x: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Reshape images or flat rows of pixels to ``(batch, channels, height, width)``.

    Args:
        x: images ``(batch, channels, height, width)`` or flat rows ``(batch, channels * height * width)``.
        image_shape: channels, height and width of one image.

    Raises:
        ValueError: rows of another size.
    """
    if x[0].numel() != torch.Size(image_shape).numel():
        raise ValueError(f"expected images of shape {tuple(image_shape)}, got rows of {tuple(x.shape[1:])}")
    return x.reshape(len(x), *image_shape)


def with_label(level: Tensor, embed_label: nn.Embedding | None, log_snr: Tensor, label: Tensor | None) -> Tensor:
    """Add the features of the label, if the network has labels, to those of the level.

    Args:
        level: features of the level ``(..., width)``.
        embed_label: embedding of labels, or None for a network without labels.
        log_snr: ``()`` or ``(batch,)``; gives the shape of missing labels.
        label: integers per row; None means 0, unlabelled.

    Raises:
        ValueError: labels given to a network without them.
    """
    if embed_label is None:
        if label is not None:
            raise ValueError("this network has no labels: set num_classes to train it with them")
        return level
    return level + embed_label(torch.zeros_like(log_snr, dtype=torch.long) if label is None else label)
