"""Which rows do not belong? In some rows of the wine table, four cells are swapped with other rows; all rows are then
ranked.

    p-value of a row: share of reference rows with a lower log density

Expected: an area under the ROC curve well above 0.5, although no single column shows the changes.
"""

import torch
from sklearn.metrics import roc_auc_score

import drl_density as drl


def main(max_minutes: float = 2.0, settings: drl.FitSettings | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit, spoil rows, score them; returns the log densities of (untouched, spoiled) rows."""
    data = drl.load_dataset("wine", seed=0)
    density = drl.fit(data, seed=0, max_minutes=max_minutes, settings=settings, progress=False)
    good = torch.cat([data.validation, data.test])
    generator = torch.Generator().manual_seed(0)
    spoiled = good.clone()
    for column in (0, 6, 9, 12):
        spoiled[:, column] = good[torch.randperm(len(good), generator=generator), column]
    scores = density.outlier_scores(torch.cat([good, spoiled]))
    labels = [0] * len(good) + [1] * len(spoiled)
    area = float(roc_auc_score(labels, -scores.log_density.numpy()))
    print(f"area under the ROC curve {area:.3f}; p-values of the first five rows {scores.p_value[:5].numpy().round(3)}")
    return scores.log_density[: len(good)], scores.log_density[len(good) :]


if __name__ == "__main__":
    main()
