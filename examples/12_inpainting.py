"""The lower half of digits given the upper half: a conditional of the fitted density, without retraining.

    p(x_lower | x_upper), by setting the hidden pixels one by one under the autoregressive density of images

The hidden pixels come last in its order, so the completions are exact and independent draws. With the settings of an energy
network, such as FitSettings.preset("digits"), they are made by sequential Monte Carlo down the noise levels and adjusted
chains.

Expected: several completions of each half digit, whose spread is larger where the upper half determines less.
"""

import torch

import drl_density as drl
from drl_density.inverse_problems import ConditionalSettings


def main(
    num_digits: int = 4,
    num_completions: int = 8,
    max_minutes: float | None = 1.0,
    settings: drl.FitSettings | None = None,
    conditional: ConditionalSettings | None = None,
) -> torch.Tensor:
    """Fit, condition, complete; returns ``(digit, 1 + completion, 64)`` in data units, the digit itself first."""
    data = drl.load_dataset("digits", seed=0)
    settings = settings or drl.FitSettings.preset("pixels")
    density = drl.fit(data, seed=0, settings=settings, max_minutes=max_minutes, progress=False)
    torch.manual_seed(0)
    found = []
    for picture in data.test[:num_digits].double():
        masked = picture.clone()
        masked[32:] = torch.nan
        lower = density.condition(masked, settings=conditional).sample((num_completions,))
        whole = picture.repeat(1 + num_completions, 1)
        whole[1:, 32:] = lower
        found.append(whole)
        error = (lower - picture[32:]).square().mean().sqrt()
        print(f"root mean squared error {float(error):.2f} grey levels of 16, spread {float(lower.std(0).mean()):.2f}")
    return torch.stack(found)


if __name__ == "__main__":
    main()
