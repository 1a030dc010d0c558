"""Cooperative diffusion recovery likelihood (CDRL): an initialiser proposes the state at each level, and a few Langevin
steps refine it.

    y_hat = h(x_{t+1}) + noise,   y^K = K Langevin steps from y_hat;   the energy learns data - y^K, h learns |y^K - y_hat|^2

Expected: draws of an energy and an initialiser after a minute's training, without and with Langevin steps after each
proposal, and the root mean square difference between the two. (Zhu et al. 2024)
"""

import torch

import drl_density as drl
from drl_density.samplers import ShortRunSettings, sample_short_run
from drl_density.training import LangevinChains

CDRL = drl.FitSettings(
    objective=drl.CooperativeObjective(
        num_chain_steps=15,
        kernel="ula",
        langevin_factor=4e-4,
        classification_weight=0.0,
        initializer_channels=16,
        initializer_blocks=1,
        initializer_rate=1.0,
    ),
    network=drl.ResidualNetwork((1, 8, 8), num_channels=16),
    schedule=drl.CosineSchedule(num_levels=6),
    transform="rescale",
    base="gaussian",
    selection="last",
    num_particles=16,
    num_pool_draws=64,
    training=drl.TrainingSettings(num_steps=2000, batch_size=32, evaluate_every=100, learning_rate=1e-3),
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
    for num_steps in (0, objective.num_chain_steps):
        chains = LangevinChains(num_steps=num_steps, factor=objective.langevin_factor)
        generator = torch.Generator().manual_seed(0)
        draws = sample_short_run(
            density.model, num_pictures, settings=ShortRunSettings(chains), generator=generator
        ).draws
        found[f"{num_steps} Langevin steps per level"] = density.transform.inv(draws.double())
    moved = found[f"{objective.num_chain_steps} Langevin steps per level"] - found["0 Langevin steps per level"]
    print(f"Langevin steps moved a pixel by {float(moved.square().mean().sqrt()):.2f} grey levels of 16")
    return found


if __name__ == "__main__":
    main()
