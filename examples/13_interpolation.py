"""A path between two draws: their starting noise is joined along a great circle, and all other random numbers are held
fixed.

    x_T(u) = sin((1-u) w) / sin w  x_T(0) + sin(u w) / sin w  x_T(1),  then K Langevin steps per level with the same noise

Expected: a row of digits that starts at one draw and ends at another, in steps smaller than the distance between
them. Chains that mix within a level forget the noise they began from, and shared noise then leads them all to much
the same digit.
"""

import torch

import drl_density as drl
from drl_density.samplers import ShortRunSettings, sample_short_run
from drl_density.training import LangevinChains


def main(
    num_places: int = 9,
    num_steps: int = 30,
    max_minutes: float | None = 10.0,
    settings: drl.FitSettings | None = None,
) -> torch.Tensor:
    """Fit and interpolate; returns ``(place, 64)`` in data units."""
    data = drl.load_dataset("digits", seed=0)
    settings = settings or drl.FitSettings.preset("digits")
    density = drl.fit(data, seed=0, settings=settings, max_minutes=max_minutes, progress=False)
    model = density.model
    first, last = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    angle = torch.arccos((first @ last) / (first.norm() * last.norm()))
    chains = ShortRunSettings(LangevinChains(num_steps=num_steps, factor=0.1, is_top_marginal=False))
    found = []
    for place in torch.linspace(0, 1, num_places):
        state = (torch.sin((1 - place) * angle) * first + torch.sin(place * angle) * last) / torch.sin(angle)
        generator = torch.Generator().manual_seed(7)
        result = sample_short_run(model, 1, settings=chains, noise=state[None], generator=generator)
        found.append(density.transform.inv(result.draws[0].double()))
    row = torch.stack(found)
    print(
        f"mean step {float(row.diff(dim=0).norm(dim=1).mean()):.2f}, ends {float((row[0] - row[-1]).norm()):.2f} apart"
    )
    return row


if __name__ == "__main__":
    main()
