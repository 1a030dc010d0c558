"""Self-attention over the places of a feature map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel


class Attention(nn.Module):
    """Every place looks at every other; the result is added to the input and starts at zero.

    It grows at most linearly in its input: what it adds is a convex combination of linear values.

    Args:
        num_channels: of the feature map.
        num_heads: into which the channels are split.
        num_groups: of the group normalisation before it; 0 for none.
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
        nn.init.zeros_(self.project.bias)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, num_channels, h, w)`` to its own shape."""
        batch, channels, height, width = x.shape
        parts = self.project(self.norm(x)).reshape(batch, 3, self.num_heads, channels // self.num_heads, height * width)
        query, key, value = (part.transpose(-1, -2) for part in parts.unbind(1))
        with sdpa_kernel(SDPBackend.MATH):  # the fused ones cannot be differentiated twice, as score matching asks
            seen = functional.scaled_dot_product_attention(query, key, value)
        return x + self.out(seen.transpose(-1, -2).reshape(batch, channels, height, width))
