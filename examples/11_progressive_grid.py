"""Digits drawn level by level with an energy network over images: one row of pictures per noise level, from noise to data.

    p(x_t | x_{t+1}) for t = T-1, ..., 0, by adjusted chains (Gao et al. 2021, figure of progressive sampling)

Expected: a picture file whose rows grow from noise into digits, and the mean acceptance of every level.
"""

import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import drl_density as drl
from drl_density.samplers import ProgressiveSettings, sample_progressive


def main(
    out: str | Path = "progressive.png",
    num_pictures: int = 12,
    max_minutes: float | None = 10.0,
    settings: drl.FitSettings | None = None,
) -> list[torch.Tensor]:
    """Fit, draw, write the grid; returns the states of every level in data units."""
    data = drl.load_dataset("digits", seed=0)
    settings = settings or drl.FitSettings.preset("digits")
    density = drl.fit(data, seed=0, settings=settings, max_minutes=max_minutes, progress=False)
    print(density.summary())
    rows = []

    def keep(record: object) -> None:
        print(f"level {record.level:g}: acceptance {record.acceptance_rate:.2f}")
        rows.append(record.x)

    sample_progressive(
        density.model,
        num_pictures,
        settings=ProgressiveSettings(steps_per_level=1),
        generator=torch.Generator().manual_seed(0),
        on_step=keep,
    )
    states = [density.transform.inv(row.double()) for row in rows]
    side = math.isqrt(states[0].shape[1])
    grid = torch.stack(states).reshape(len(states), -1, side, side)
    figure, axes = plt.subplots(len(states), num_pictures, figsize=(num_pictures, len(states)), squeeze=False)
    for axis, picture in zip(axes.flat, grid.flatten(0, 1), strict=True):
        axis.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=16)
        axis.axis("off")
    figure.savefig(out)
    plt.close(figure)
    return states


if __name__ == "__main__":
    main()
