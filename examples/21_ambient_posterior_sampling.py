"""A prior learned from incomplete pictures alone, and pictures completed with it: ambient training and ambient posterior
sampling.

    loss = |A (h(A~ x_t, A~, t) - x_0)|^2 with a further mask A~ = A B;   draws guided by |y - A h(x_t)|^2

Each training digit has one random mask, and training sees no pixel outside it. Expected: held-out digits are completed with
a smaller error than by the mean of each pixel's measured values. (Daras et al. 2023; Aali et al. 2025)
"""

import torch

import drl_density as drl
from drl_density.inverse_problems import (
    AmbientDenoiser,
    AmbientPrior,
    AmbientSettings,
    DPSSettings,
    sample_dps,
    train_ambient,
)
from drl_density.operators import Mask
from drl_density.samplers import DDIMSettings


def main(
    num_digits: int = 4, num_draws: int = 40, num_updates: int = 3000, num_steps: int = 100, share: float = 0.7
) -> dict[str, torch.Tensor]:
    """Train on masked digits, complete others; returns pictures ``(digit, 64)`` by name, grey levels."""
    data, generator = drl.load_dataset("digits", seed=0), torch.Generator().manual_seed(0)
    rows = data.train.float() / 8 - 1
    is_measured = torch.rand(rows.shape, generator=generator) < share
    rows = rows.masked_fill(~is_measured, torch.nan)  # what is not measured is not there
    schedule = drl.NoiseSchedule.log_spaced(8, sigma_min=0.05)
    denoiser = AmbientDenoiser(64)
    losses = train_ambient(
        denoiser, rows, is_measured, schedule, settings=AmbientSettings(num_steps=num_updates), generator=generator
    )
    print(f"loss {sum(losses[:20]) / 20:.2f} at first, {sum(losses[-20:]) / 20:.2f} at the end")
    truth = data.test[:num_digits].float() / 8 - 1
    guidance = DPSSettings(walk=DDIMSettings(num_steps=num_steps, eta=1.0), strength=0.2)
    found = {name: [] for name in ("measured", "mean of the draws", "standard deviation")}
    for picture in truth:
        is_seen = torch.rand(64, generator=generator) < share  # the mask of the measurement, and that of the prior
        operator = Mask(is_seen)
        y = operator.forward(picture[None])[0]
        prior = AmbientPrior(denoiser, schedule, is_seen & (torch.rand(64, generator=generator) < 0.9))
        draws = sample_dps(prior, operator, y, num_draws, settings=guidance, generator=generator).draws
        found["measured"].append(picture.masked_fill(~is_seen, torch.nan))
        found["mean of the draws"].append(draws.mean(0))
        found["standard deviation"].append(draws.std(0))
    pictures = {"truth": truth} | {name: torch.stack(rows) for name, rows in found.items()}
    hidden = pictures["measured"].isnan()
    pictures["mean of the pixel"] = torch.where(hidden, torch.nanmean(rows, 0).expand_as(truth), truth)
    for name in ("mean of the draws", "mean of the pixel"):
        error = 8 * float((pictures[name] - truth)[hidden].square().mean().sqrt())
        print(f"{name}: root mean squared error of hidden pixels {error:.2f} grey levels of 16")
    order = ("truth", "measured", "mean of the pixel", "mean of the draws")
    found = {name: 8 * (pictures[name] + 1) for name in order}
    found["error"] = (found["mean of the draws"] - found["truth"]).abs()
    return found | {"standard deviation": 8 * pictures["standard deviation"]}


if __name__ == "__main__":
    main()
