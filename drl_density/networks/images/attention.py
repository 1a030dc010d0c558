"""Self-attention over the pixels of a feature map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel


class Attention(nn.Module):
    """Self-attention with a residual connection, whose added part starts at zero.

    Its output grows at most linearly in its input, because the added part is a convex combination of linear values.

    Args:
        num_channels: number of channels of the feature map.
        num_heads: number of heads, among which the channels are divided.
        num_groups: groups of the normalisation in front of it; 0 for no normalisation.
        generator: source of the weights.

    >>> Attention(8)(torch.zeros(2, 8, 4, 4)).shape
    torch.Size([2, 8, 4, 4])
    """

    def __init__(
        self, num_channels: int, *, num_heads: int = 1, num_groups: int = 0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.GroupNorm(num_groups, num_channels, eps=1e-6) if num_groups else nn.Identity()
        self.project = nn.Conv2d(num_channels, 3 * num_channels, 1)
        self.out = nn.Conv2d(num_channels, num_channels, 1)
        nn.init.kaiming_uniform_(self.project.weight, a=5**0.5, generator=generator)
        for tensor in (self.project.bias, self.out.weight, self.out.bias):
            if tensor is not None:
                nn.init.zeros_(tensor)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within feature maps ``(batch, num_channels, h, w)``; the shape is kept."""
        batch, channels, height, width = x.shape
        parts = self.project(self.norm(x)).reshape(batch, 3, self.num_heads, channels // self.num_heads, height * width)
        query, key, value = (part.transpose(-1, -2) for part in parts.unbind(1))
        # Score matching differentiates twice, which the fused kernels do not support.
        with sdpa_kernel(SDPBackend.MATH):
            seen = functional.scaled_dot_product_attention(query, key, value)
        return x + self.out(seen.transpose(-1, -2).reshape(batch, channels, height, width))
