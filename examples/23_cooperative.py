"""Cooperative diffusion recovery likelihood (CDRL): an initialiser proposes the state at each level, and a few Langevin
steps refine it.

    x_hat = z + h(x_{t+1}),  z ~ b(x_t | x_{t+1});   x^K = K Langevin steps from x_hat
    the energy learns data - x^K,  h learns |x^K - x_hat|^2

Here b is the base, a mixture of factor analysers. Expected: held-out digits, draws of the base, and draws of an energy
and an initialiser after a few minutes' training, by proposals alone and with Langevin steps. (Zhu et al. 2024)
"""

import dataclasses

import torch

import drl_density as drl
from drl_density.samplers import ShortRunSettings, sample_short_run


def main(
    num_pictures: int = 12, max_minutes: float | None = 5.0, settings: drl.FitSettings | None = None
) -> dict[str, torch.Tensor]:
    """Fit and draw; returns pictures ``(n, 64)`` by name, grey levels."""
    data = drl.load_dataset("digits", seed=0)
    settings = settings or drl.FitSettings.preset("digits_cdrl")
    objective = settings.objective
    assert isinstance(objective, drl.CooperativeObjective)
    density = drl.fit(data, seed=0, settings=settings, max_minutes=max_minutes, progress=False)
    print(density.summary())
    found = {"data": data.test[:num_pictures].double()}
    base = density.model.base
    assert base is not None
    generator = torch.Generator().manual_seed(0)
    found["base"] = density.transform.inv(base.sample(num_pictures, generator=generator).double())
    for num_steps in (0, objective.num_chain_steps):
        chains = dataclasses.replace(objective.chains, num_steps=num_steps)
        short = ShortRunSettings(chains, is_denoised=True)
        draws = sample_short_run(density.model, num_pictures, settings=short, generator=generator).draws
        found[f"{num_steps} Langevin steps per level"] = density.transform.inv(draws.double())
    return found


if __name__ == "__main__":
    main()
