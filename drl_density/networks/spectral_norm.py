r"""Layers whose weight is divided by its largest singular value, found by power iteration.

.. math:: W / \sigma(W), \qquad \sigma(W) \approx u^\top W v, \quad v \propto W^\top u, \quad u \leftarrow W v / |W v|

A training pass stores the iterated u. In evaluation mode, and inside :func:`frozen_power_iteration`, u stays: a
network whose weights moved between a proposal and its acceptance would have no fixed density to accept against.

Source: Miyato et al. 2018; the rules of use of Gao et al. 2021's release (``nn.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional


class SpectralWeight(nn.Module):
    """A weight that hands itself out normalised.

    Args:
        shape: (outputs, inputs, *kernel).
        is_zero: divide by the singular value only where it exceeds 1, so that the norm may stay below 1:
            W / sigma * min(sigma, 1).
        is_normalized: False hands out the plain weight.
        variance: of the initial values, times the mean of fan in and fan out.
        generator: source of the initial values, which are uniform.

    >>> weight = SpectralWeight((4, 3), generator=torch.Generator().manual_seed(0))
    >>> settle_power_iteration(weight, num_iterations=100)
    >>> round(float(torch.linalg.matrix_norm(weight().detach(), 2)), 3)
    1.0
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        is_zero: bool = False,
        is_normalized: bool = True,
        variance: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        fan_average = (shape[0] + shape[1]) * math.prod(shape[2:]) / 2
        bound = math.sqrt(3 * variance / fan_average)
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))
        self.is_zero, self.is_normalized, self.is_frozen = is_zero, is_normalized, False
        self.held: Tensor | None = None
        self.room: Tensor | None = None
        if is_normalized:
            self.register_buffer("u", functional.normalize(torch.randn(shape[0], generator=generator), dim=0))

    def hold(self) -> None:
        """Hand out this weight, without a gradient, until ``held`` is None again; it stands in one place every time."""
        with torch.no_grad():
            weight = self()
            if self.room is None or (self.room.device, self.room.dtype) != (weight.device, weight.dtype):
                self.room = torch.empty_like(weight)
            self.held = self.room.copy_(weight)

    def iterate(self) -> tuple[Tensor, Tensor]:
        """(u, v) after one power iteration from the stored u, which is left alone."""
        with torch.no_grad():
            matrix = self.weight.flatten(1)
            v = functional.normalize(matrix.T @ self.u, dim=0, eps=1e-30)
            return functional.normalize(matrix @ v, dim=0, eps=1e-30), v

    def forward(self) -> Tensor:
        """The weight as the layer uses it; differentiable, the gradient of sigma included."""
        if self.held is not None:
            return self.held
        if not self.is_normalized:
            return self.weight
        u, v = self.iterate()
        if self.training and not self.is_frozen:
            self.u.copy_(u)
        sigma = u @ self.weight.flatten(1) @ v
        return self.weight / (sigma.maximum(torch.ones_like(sigma)) if self.is_zero else sigma)


class SpectralConv2d(nn.Module):
    """3x3 convolution (or 1x1) that keeps height and width, with a normalised weight, a bias and perhaps a gain.

    Args:
        num_inputs: channels in.
        num_outputs: channels out.
        size: of the kernel, odd.
        is_zero: see :class:`SpectralWeight`; brings a learnt gain per channel, which multiplies the biased output.
        is_normalized: whether the weight is normalised.
        variance: see :class:`SpectralWeight`.
        generator: source of the initial values.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        *,
        size: int = 3,
        is_zero: bool = False,
        is_normalized: bool = True,
        variance: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        rules = {"is_zero": is_zero, "is_normalized": is_normalized, "variance": variance, "generator": generator}
        self.kernel = SpectralWeight((num_outputs, num_inputs, size, size), **rules)
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        self.gain = nn.Parameter(torch.ones(num_outputs)) if is_zero else None
        self.padding = size // 2

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """Convolve ``(batch, num_inputs, h, w)``; ``shift`` ``(batch, num_outputs)`` is added to the bias."""
        weight, bias = self.kernel(), self.bias
        if self.gain is not None:
            weight, bias = weight * self.gain[:, None, None, None], bias * self.gain
        if shift is None:
            return functional.conv2d(x, weight, bias, padding=self.padding)
        out = functional.conv2d(x, weight, padding=self.padding)
        return out + (bias + shift).to(out.dtype)[..., None, None]


class SpectralLinear(nn.Module):
    """A dense layer with a weight that is normalised unless told otherwise."""

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        *,
        is_normalized: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.kernel = SpectralWeight((num_outputs, num_inputs), is_normalized=is_normalized, generator=generator)
        self.bias = nn.Parameter(torch.zeros(num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., num_inputs)``."""
        return functional.linear(x, self.kernel(), self.bias)


@contextmanager
def frozen_power_iteration(network: nn.Module) -> Iterator[None]:
    """Inside, training-mode passes leave every stored u alone: the network is one function throughout.

    The weights it uses are those that the next training pass will use, so chains and the loss after them agree.

    Args:
        network: whose normalised weights, at any depth, are meant.

    >>> weight = SpectralWeight((4, 3))
    >>> before = weight.u.clone()
    >>> with frozen_power_iteration(weight):
    ...     _ = weight()
    >>> bool((weight.u == before).all())
    True
    """
    weights = [module for module in network.modules() if isinstance(module, SpectralWeight)]
    before = [weight.is_frozen for weight in weights]
    for weight in weights:
        weight.is_frozen = True
    try:
        yield
    finally:
        for weight, was_frozen in zip(weights, before, strict=True):
            weight.is_frozen = was_frozen


@contextmanager
def held_weights(network: nn.Module) -> Iterator[None]:
    """Inside, normalised weights are computed once, and power iterations stand still: for chains, which move x alone.

    Same bits as :func:`frozen_power_iteration`, and no gradient for the weights, which stand in the same place every time.

    Args:
        network: whose normalised weights, at any depth, are meant.

    >>> weight = SpectralWeight((4, 3))
    >>> with held_weights(weight):
    ...     weight().requires_grad
    False
    """
    weights = [module for module in network.modules() if isinstance(module, SpectralWeight) and module.is_normalized]
    before = [weight.held for weight in weights]
    with frozen_power_iteration(network):
        for weight in weights:
            weight.hold()
        try:
            yield
        finally:
            for weight, held in zip(weights, before, strict=True):
                weight.held = held


def settle_power_iteration(network: nn.Module, *, num_iterations: int = 100) -> None:
    """Iterate every u to its weight, in place: averaged weights come with the u of other weights.

    Args:
        network: whose normalised weights, at any depth, are meant.
        num_iterations: of the power method at most; a u that no longer moves is left as it is.

    >>> weight = SpectralWeight((4, 3))
    >>> settle_power_iteration(weight, num_iterations=200)
    >>> u, _ = weight.iterate()
    >>> bool(torch.allclose(u, weight.u, atol=1e-3))
    True
    """
    for module in network.modules():
        if isinstance(module, SpectralWeight) and module.is_normalized:
            for index in range(num_iterations):
                before = module.u.clone()
                module.u.copy_(module.iterate()[0])
                if index % 10 == 9 and float((module.u - before).abs().max()) < 1e-6:
                    break
