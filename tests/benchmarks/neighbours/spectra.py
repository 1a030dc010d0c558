"""Averages of denoised estimates on Gaussian data, in closed form: spread of the draws, matched weights, and errors.

    python -m tests.benchmarks.neighbours.spectra

Each line is a sampler with a number of network calls, and a variance of the data. "Averaged" has weight 0.7 at every level.
"Matched" is the weight whose spread is nearest to the true one. "Error" is the standard deviation of an independent error of
every estimate, in standard deviations of the data, at which plain steps have the true spread: an average is best above it.
"""

from __future__ import annotations

import torch
from torch import Tensor

import drl_density as drl
from drl_density.samplers import DDIMSettings, FlowSettings, final_spread, matched_average
from drl_density.testing import gaussian_sequence

VARIANCES = torch.tensor([3.0, 0.3, 0.03], dtype=torch.float64)
SAMPLERS = {
    "DDIM": lambda calls: DDIMSettings(calls),
    "ancestral": lambda calls: DDIMSettings(calls, eta=1.0),
    "Heun": lambda calls: FlowSettings(max(2, calls // 2)),
}


def balancing_error(model: drl.EnergySequence, settings: DDIMSettings | FlowSettings) -> Tensor:
    """Error at which plain steps have the true spread, over that of the data; NaN if they are too wide without."""
    one, low = torch.ones(1, dtype=torch.float64), torch.zeros_like(VARIANCES)
    high = torch.full_like(VARIANCES, 100.0)
    is_wide = final_spread(model, settings, VARIANCES, one) > 1
    for _ in range(50):
        middle = 0.5 * (low + high)
        narrow = final_spread(model, settings, VARIANCES, one, error=middle * VARIANCES.sqrt()) < 1
        low, high = torch.where(narrow, middle, low), torch.where(narrow, high, middle)
    return torch.where(is_wide, torch.nan, low)


def main() -> None:
    """Print the table."""
    schedule = drl.NoiseSchedule.log_spaced(10, sigma_min=0.05, sigma_max=0.999)
    model = gaussian_sequence(torch.zeros(3), VARIANCES.diag(), schedule).model
    print(
        "| sampler | calls | variance | plain | averaged | matched weight | its spread | error |\n" + "|---" * 8 + "|"
    )
    for name, made in SAMPLERS.items():
        for calls in (5, 10, 20):
            settings = made(calls)
            weights = matched_average(model, settings, torch.eye(3), VARIANCES).late
            plain, averaged, matched = (
                final_spread(model, settings, VARIANCES, weight)
                for weight in (torch.ones(1), torch.full((1,), 0.7), weights)
            )
            for index, error in enumerate(balancing_error(model, settings).tolist()):
                cells = (plain[index], averaged[index], weights[index], matched[index], torch.tensor(error))
                values = " | ".join(f"{float(cell):.2f}" for cell in cells)
                print(f"| {name} | {calls} | {float(VARIANCES[index])} | {values} |")


if __name__ == "__main__":
    main()
