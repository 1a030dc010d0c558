"""Fill the missing cells of real rows: a fifth of the wine table's cells is hidden, and drawn given the rest of each row.

    x_missing ~ p_0(x_missing | x_observed), by sequential Monte Carlo down the noise levels

Expected: the means of the imputations are closer to the hidden values than the column means are.
"""

import torch

import drl_density as drl


def main(
    num_imputations: int = 20, max_minutes: float = 2.0, settings: drl.FitSettings | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit, hide, impute; returns the hidden cells and their imputations ``(m, cells)``, centred, in column spreads."""
    data = drl.load_dataset("wine", seed=0)
    density = drl.fit(data, seed=0, max_minutes=max_minutes, settings=settings, progress=False)
    hidden = torch.rand(data.test.shape, generator=torch.Generator().manual_seed(0)) < 0.2
    rows = data.test.masked_fill(hidden, torch.nan)
    found = density.impute(rows, num_samples=num_imputations, seed=0)
    spread, mean = data.train.std(0), data.train.mean(0)
    truth, draws = ((data.test - mean) / spread)[hidden], ((found.rows - mean) / spread)[:, hidden]
    imputed, by_mean = float((draws.mean(0) - truth).square().mean().sqrt()), float(truth.square().mean().sqrt())
    print(f"{int(hidden.sum())} hidden cells: error of imputed means {imputed:.3f}, of column means {by_mean:.3f}")
    print(f"largest R-hat {float(found.r_hat[found.is_missing.any(1)].max()):.2f}")
    return truth, draws


if __name__ == "__main__":
    main()
