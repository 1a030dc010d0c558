"""Cooperative diffusion recovery likelihood (CDRL): an initialiser proposes each level, a few Langevin steps refine it.

    y_hat = h(x_{t+1}) + noise,   y^K = K Langevin steps from y_hat;   the energy learns data - y^K, h learns |y^K - y_hat|^2

Expected: digits level by level from an energy and an initialiser of a minute's training; how many Langevin steps refined
each proposal, and how far they moved it. (Zhu et al. 2024)
"""

import torch

import drl_density as drl
from drl_density.samplers import ShortRunSettings, sample_short_run
from drl_density.training import LangevinChains

CDRL = drl.FitSettings(
    objective=drl.CooperativeObjective(
        num_chain_steps=6,
        kernel="ula",
        langevin_factor=0.03,
        weights="nats",
        classification_weight=0.0,
        initializer_channels=16,
        initializer_multipliers=(1, 1),
        initializer_blocks=1,
        initializer_rate=1.0,
    ),
    network=drl.UNetNetwork((1, 8, 8), num_channels=32, multipliers=(1,), num_middle_blocks=3, patch_size=2, dropout=0.0),
    schedule=drl.LogSpacedSchedule(num_levels=6, sigma_min=0.1),
    transform="rescale",
    base="gaussian",
    selection="last",
    num_particles=64,
    num_pool_draws=64,
    training=drl.TrainingSettings(
        num_steps=1500, batch_size=64, evaluate_every=500, learning_rate=2e-3, max_gradient_norm=10.0
    ),
)


def main(
    num_pictures: int = 12, max_minutes: float | None = 5.0, settings: drl.FitSettings | None = None
) -> dict[str, torch.Tensor]:
    """Fit and draw; returns pictures ``(n, 64)`` by name, grey levels."""
    data = drl.load_dataset("digits", seed=0)
    settings = settings or CDRL
    objective = settings.objective
    assert isinstance(objective, drl.CooperativeObjective)
    density = drl.fit(data, seed=0, settings=settings, max_minutes=max_minutes, progress=False)
    print(density.summary())
    found = {"data": data.test[:num_pictures].double()}
    for num_steps in (0, 2, objective.num_chain_steps):
        chains = LangevinChains(num_steps=num_steps, factor=objective.langevin_factor)
        generator = torch.Generator().manual_seed(0)
        draws = sample_short_run(
            density.model, num_pictures, settings=ShortRunSettings(chains, is_denoised=True), generator=generator
        ).draws
        found[f"{num_steps} Langevin steps per level"] = density.transform.inv(draws.double())
    moved = found[f"{objective.num_chain_steps} Langevin steps per level"] - found["0 Langevin steps per level"]
    print(f"Langevin steps moved a pixel by {float(moved.square().mean().sqrt()):.2f} grey levels of 16")
    return found


if __name__ == "__main__":
    main()
