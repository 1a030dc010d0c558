r"""Layers whose weight is divided by its largest singular value, found by power iteration.

.. math:: W / \sigma(W), \qquad \sigma(W) \approx u^\top W v, \quad v \propto W^\top u, \quad u \leftarrow W v / |W v|

A training pass stores the iterated u. In evaluation mode, and inside :func:`frozen_power_iteration`, u is fixed: if weights
moved between a proposal and its acceptance, the density would not be the same at both.

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
    """A weight whose call returns it divided by its largest singular value.

    Attributes:
        held: the normalised weight that every call returns while it is set; see :func:`held_weights`.
        is_frozen: whether training passes leave u unchanged; see :func:`frozen_power_iteration`.

    Args:
        shape: shape of the weight (outputs, inputs, *kernel).
        is_zero: whether to divide only by a singular value above 1, so that the norm may be below 1:
            W / sigma * min(sigma, 1).
        is_normalized: whether to normalise; False returns the plain weight.
        variance: variance of the initial values, times the mean of fan-in and fan-out.
        generator: source of the uniform initial values.

    >>> weight = SpectralWeight((4, 3), generator=torch.Generator().manual_seed(0))
    >>> settle_power_iteration(weight, num_iterations=100)
    >>> round(float(torch.linalg.matrix_norm(weight().detach(), 2)), 3)
    1.0
    """

    u: Tensor

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
        self._storage: Tensor | None = None
        if is_normalized:
            self.register_buffer("u", functional.normalize(torch.randn(shape[0], generator=generator), dim=0))

    def hold(self) -> None:
        """Return the present normalised weight, without a gradient, from every call until ``held`` is None again.

        Its memory is reused from one time to the next, so that recorded CUDA graphs read the present values.
        """
        with torch.no_grad():
            weight = self()
            storage = self._storage
            if storage is None or (storage.device, storage.dtype) != (weight.device, weight.dtype):
                storage = self._storage = torch.empty_like(weight)
            self.held = storage.copy_(weight)

    def iterate(self) -> tuple[Tensor, Tensor]:
        """Compute (u, v) by one power iteration from the stored u, which stays unchanged."""
        with torch.no_grad():
            matrix = self.weight.flatten(1)
            v = functional.normalize(matrix.T @ self.u, dim=0, eps=1e-30)
            return functional.normalize(matrix @ v, dim=0, eps=1e-30), v

    def forward(self) -> Tensor:
        """Compute the weight that the layer uses; differentiable, including sigma."""
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
    """Convolution that keeps height and width, with a normalised weight, a bias and, if ``is_zero``, a gain.

    Args:
        num_inputs: number of input channels.
        num_outputs: number of output channels.
        size: side of the kernel, an odd number.
        is_zero: see :class:`SpectralWeight`; adds a learned gain per channel, which multiplies the biased output.
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
        self.kernel = SpectralWeight(
            (num_outputs, num_inputs, size, size),
            is_zero=is_zero,
            is_normalized=is_normalized,
            variance=variance,
            generator=generator,
        )
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        self.gain = nn.Parameter(torch.ones(num_outputs)) if is_zero else None
        self.padding = size // 2

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """Convolve ``(batch, num_inputs, h, w)``; ``shift`` ``(batch, num_outputs)`` adds to the bias."""
        weight, bias = self.kernel(), self.bias
        if self.gain is not None:
            weight, bias = weight * self.gain[:, None, None, None], bias * self.gain
        if shift is None:
            return functional.conv2d(x, weight, bias, padding=self.padding)
        out = functional.conv2d(x, weight, padding=self.padding)
        return out + (bias + shift).to(out.dtype)[..., None, None]


class SpectralLinear(nn.Module):
    """Dense layer whose weight is spectrally normalised unless ``is_normalized`` is False."""

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
        """Map ``(..., num_inputs)`` to ``(..., num_outputs)``."""
        return functional.linear(x, self.kernel(), self.bias)


@contextmanager
def frozen_power_iteration(network: nn.Module) -> Iterator[None]:
    """Context in which training passes leave every stored u unchanged, so that the network is one function throughout.

    Its weights are those that the next training pass will use, so chains and the loss after them agree.

    Args:
        network: module that contains the normalised weights, at any depth.

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
    """Context in which normalised weights are computed once and power iterations pause, for chains, which move x alone.

    Results are bit for bit those of :func:`frozen_power_iteration`, but weights get no gradient.

    Args:
        network: module that contains the normalised weights, at any depth.

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
    """Iterate every u until it fits its weight, in place.

    Averaged weights need this, because they come with the u of other weights.

    Args:
        network: module that contains the normalised weights, at any depth.
        num_iterations: largest number of power iterations; a u that has converged stops earlier.

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
                # Entries of u are at most 1 and have float32 rounding of 1e-7; reading the host costs time on a GPU.
                if index % 10 == 9 and float((module.u - before).abs().max()) < 1e-6:
                    break
