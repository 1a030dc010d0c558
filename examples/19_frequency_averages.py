"""Frequency-averaged sampling (MASF): DDIM whose denoised estimates are averaged over the steps, each frequency band with
its own weight.

    m <- (1 - w_f) m + w_f c_f   for every cosine coefficient c_f of the denoised estimate

Low frequencies settle early and are averaged less at first, high ones less at the end; these weights up to 1 are ours.
Expected: they take spread away at every frequency. Calibrated weights, which may exceed 1, bring the spread of pilot draws
to that of the data.
"""

import torch

import drl_density as drl
from drl_density.density.fitted import dequantized_rows
from drl_density.samplers import (
    DDIMSettings,
    FrequencyAverage,
    calibrated_average,
    cosine_axes,
    sample_averaged,
    sample_ddim,
)


def main(
    num_draws: int = 200,
    num_steps: int = 10,
    max_minutes: float | None = 10.0,
    settings: drl.FitSettings | None = None,
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Fit, draw plainly and in two averages; returns (pictures ``(n, 64)`` in data units, spread by frequency) by name."""
    data = drl.load_dataset("digits", seed=0)
    density = drl.fit(data, seed=0, settings=settings, max_minutes=max_minutes, progress=False)
    axes, frequency = cosine_axes((8, 8))
    average = FrequencyAverage(axes, early=0.95 - 0.25 * frequency, late=0.7 + 0.25 * frequency)
    walk = DDIMSettings(num_steps=num_steps)
    rows = density.to_model(dequantized_rows(density, data.train, generator=torch.Generator().manual_seed(1))[0])
    bands = (frequency * 8).long()
    calibrated = calibrated_average(
        density.model,
        walk,
        axes,
        (rows @ axes.double()).var(0),
        bands=bands,
        num_pilot_draws=num_draws,
        generator=torch.Generator().manual_seed(2),
    )
    noise = torch.Generator().manual_seed(0)
    in_model = {
        "data": rows,
        f"DDIM, {num_steps} steps": sample_ddim(density.model, num_draws, settings=walk, generator=noise).draws.double(),
    }
    for name, weights in {"fixed weights": average, "calibrated weights": calibrated}.items():
        noise = torch.Generator().manual_seed(0)
        found = sample_averaged(density.model, num_draws, average=weights, settings=walk, generator=noise).draws
        in_model[f"{name}, {num_steps} steps"] = found.double()
    pictures, spreads = {}, {}
    for name, u in in_model.items():
        by_coefficient = (u @ axes.double()).var(0)
        spreads[name] = torch.stack([by_coefficient[bands == band].mean().sqrt() for band in bands.unique()])
        pictures[name] = density.transform.inv(u)
        print(f"{name:28s} spread at low frequencies {spreads[name][0]:.3f}, at high ones {spreads[name][-1]:.3f}")
    return pictures, spreads


if __name__ == "__main__":
    main()
