"""Targets as functions of jax, and their chains by blackjax's NUTS."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from drl_density.testing import KnownTarget

NUM_CHAINS, BLOCK = 4, 100
"""Chains side by side, and draws after which the time is looked at."""


def jax_log_density(target: KnownTarget) -> Any:
    """The target's log density for jax, with its gradient; all points of a batch are one call of torch."""
    import jax  # pyright: ignore[reportMissingImports]
    import jax.numpy as jnp  # pyright: ignore[reportMissingImports]

    log_density = target.target.log_density

    def values(x: Any) -> np.ndarray:
        with torch.no_grad():
            return log_density(torch.tensor(np.asarray(x), dtype=torch.float64)).numpy()

    def with_gradient(x: Any) -> tuple[np.ndarray, np.ndarray]:
        rows = torch.tensor(np.asarray(x), dtype=torch.float64, requires_grad=True)
        found = log_density(rows)
        (gradient,) = torch.autograd.grad(found.sum(), rows)
        return found.detach().numpy(), gradient.numpy()

    def shape(x: Any) -> Any:
        return jax.ShapeDtypeStruct(x.shape[:-1], jnp.float64)

    @jax.custom_vjp
    def density(x: Any) -> Any:
        return jax.pure_callback(values, shape(x), x, vmap_method="broadcast_all")

    def forward(x: Any) -> Any:
        point = jax.ShapeDtypeStruct(x.shape, jnp.float64)
        value, gradient = jax.pure_callback(with_gradient, (shape(x), point), x, vmap_method="broadcast_all")
        return value, gradient

    density.defvjp(forward, lambda gradient, cotangent: (cotangent[..., None] * gradient,))
    return density


def nuts_chains(target: KnownTarget, seed: int, seconds: float, scale: float) -> np.ndarray:
    """Draws ``(chain, draw, d)`` of four NUTS chains from N(0, scale^2 I), as many as the processor time allows.

    A third of the time at most goes into 300 steps of window adaptation, which is not cut short.
    """
    import blackjax  # pyright: ignore[reportMissingImports]
    import jax  # pyright: ignore[reportMissingImports]

    end = time.process_time() + seconds
    density = jax_log_density(target)
    key = jax.random.PRNGKey(seed)
    key, start, warm = jax.random.split(key, 3)
    adaptation = blackjax.window_adaptation(blackjax.nuts, density)
    starts = scale * jax.random.normal(start, (NUM_CHAINS, target.dim))

    def warmed(key, x):
        (state, parameters), _ = adaptation.run(key, x, num_steps=300)
        return state, parameters

    states, parameters = jax.jit(jax.vmap(warmed))(jax.random.split(warm, NUM_CHAINS), starts)

    def block(key, state, parameters):
        kernel = blackjax.nuts(density, **parameters)

        def step(state, key):
            state, _ = kernel.step(key, state)
            return state, state.position

        return jax.lax.scan(step, state, jax.random.split(key, BLOCK))

    advance = jax.jit(jax.vmap(block))
    found = []
    while time.process_time() < end or len(found) < 2:
        key, own = jax.random.split(key)
        states, positions = advance(jax.random.split(own, NUM_CHAINS), states, parameters)
        found.append(np.asarray(positions))
    return np.concatenate(found, 1)
