"""Fitting on tables with holes: against a table of known law, beside dropping its rows; resumed to the same bits."""

import dataclasses
import re
import warnings

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.cli import main
from drl_density.datasets import load_dataset
from drl_density.density.fitting import run
from drl_density.density.fitting.completions import HeldOut, weigh_completions
from drl_density.errors import DataError, DataWarning
from drl_density.testing import seeded_generator
from drl_density.transforms import fit_marginal_gaussianization, standardize
from tests.conftest import TINY

pytestmark = pytest.mark.usefixtures("short_paths")
COVARIANCE = torch.tensor(
    [[1.0, 0.8, -0.5, 0.3], [0.8, 1.0, -0.4, 0.5], [-0.5, -0.4, 1.0, 0.2], [0.3, 0.5, 0.2, 1.0]], dtype=torch.float64
)
TRUTH = MultivariateNormal(torch.zeros(4, dtype=torch.float64), COVARIANCE)
SETTINGS = dataclasses.replace(
    TINY,
    base="gaussian",
    transform="standardize",
    schedule=dataclasses.replace(TINY.schedule, sigma_min=0.05),
    network=dataclasses.replace(TINY.network, num_fourier_features=0),
    training=drl.TrainingSettings(num_steps=8, batch_size=32, evaluate_every=4),
)


@pytest.fixture(scope="module")
def holed():
    """300 rows of the known law with 40 % of the cells removed: about one row in eight is complete, and none is empty."""
    torch.manual_seed(0)
    rows = TRUTH.sample((300,))
    is_removed = torch.rand(rows.shape, generator=seeded_generator(1)) < 0.4
    is_removed[is_removed.all(1), 0] = False
    return rows.masked_fill(is_removed, torch.nan)


def fit(rows, missing, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        data = load_dataset(rows, missing=missing, seed=0)
    return drl.fit(data, seed=0, settings=SETTINGS, progress=False, **options)


def error_of(density):
    """KL of the truth to a Gaussian with the moments of the density's draws, nats."""
    draws = density.sample(4000, seed=2).double()
    return float(kl_divergence(TRUTH, MultivariateNormal(draws.mean(0), draws.T.cov())))


@pytest.fixture(scope="module")
def drawn(holed):
    return fit(holed, "draw")


def test_drawing_comes_nearer_to_the_truth_than_dropping(holed, drawn):
    kept, dropped = error_of(drawn), error_of(fit(holed, "drop"))
    # 300 rows with 60 % of 14 moments' information: expected KL about 14 / (2 * 180) = 0.04; 30 training rows: 0.23.
    assert kept < 0.12
    assert kept < 0.6 * dropped
    assert "of observed values" in drawn.provenance.likelihood_label
    assert drawn.baselines.gaussian > drawn.baselines.independent
    assert drawn.baselines.model == pytest.approx(drawn.baselines.gaussian, abs=0.3)


def test_filling_with_medians_would_be_noticed(holed):
    """What the figures above are worth: rows completed by column medians miss the truth by more."""
    middle = holed.nanmedian(0).values
    filled = torch.where(holed.isnan(), middle, holed)
    assert float(kl_divergence(TRUTH, MultivariateNormal(filled.mean(0), filled.T.cov()))) > 0.24


def test_an_interrupted_fit_resumes_to_the_same_bits(holed, drawn, tmp_path, monkeypatch):
    saver = run.TrainingFolder.saver

    def save_then_stop(self, name):
        save = saver(self, name)

        def wrapped(tensors, scalars):
            save(tensors, scalars)
            raise KeyboardInterrupt

        return wrapped

    monkeypatch.setattr(run.TrainingFolder, "saver", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        fit(holed, "draw", out=tmp_path / "run")
    monkeypatch.undo()
    density = fit(holed, "draw", out=tmp_path / "run", resume=True)
    for name, value in drawn.model.state_dict().items():
        torch.testing.assert_close(value, density.model.state_dict()[name], rtol=1e-12, atol=1e-12, msg=name)
    assert density.estimate.log_z == drawn.estimate.log_z


def test_held_out_rows_are_scored_by_what_was_observed():
    """When the model is the proposal itself, the score is its observed density, whatever was drawn."""
    base = NoisedGaussianMixture(torch.ones(1), torch.zeros(1, 4), COVARIANCE[None].float())
    rows = TRUTH.sample((20,))
    hole = torch.rand(20, 4, generator=seeded_generator(4)) < 0.4
    held_out = weigh_completions(rows, hole, base, 0.1, seed=0)
    log_snr = drl.NoiseSchedule.log_spaced(1, sigma_min=0.1).log_snr[0]
    value = held_out.mean(base(held_out.rows, log_snr))
    truth = base.conditional(log_snr).observed_log_density(rows, hole).mean()
    # Both in float32 of values of order 10 with relative rounding 6e-8, times sums of four terms.
    assert abs(float(value - truth)) < 1e-4


def test_columns_are_fitted_to_the_cells_they_have(holed):
    transform = fit_marginal_gaussianization(holed[:, :2])
    first = fit_marginal_gaussianization(holed[~holed[:, 0].isnan(), :1])
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    torch.testing.assert_close(transform(x.expand(9, 2))[:, 0], first(x)[:, 0], rtol=0, atol=1e-12)
    scaled = standardize(holed)(holed)
    torch.testing.assert_close(scaled.nanmean(0), torch.zeros(4).double(), rtol=0, atol=1e-12)


def test_a_table_says_what_is_missing(holed):
    with pytest.warns(DataWarning, match="left out 1 rows without a single value"):
        data = load_dataset(torch.cat([holed, torch.full((1, 4), torch.nan)]), missing="draw", seed=0)
    assert data.has_missing_values
    assert re.search(r"missing values: (39|40)", data.describe())
    bad = holed.clone()
    bad[3, 1] = torch.inf
    with pytest.raises(DataError, match="row 4: inf is infinite"):
        load_dataset(bad, missing="draw")
    bad[:, 1] = torch.nan
    with pytest.raises(DataError, match="without a single value: x1"):
        load_dataset(bad, missing="draw")
    with pytest.raises(DataError, match='"refuse", "drop" or "draw"'):
        load_dataset(holed, missing="fill")


def test_holes_and_predictions_on_the_command_line(tmp_path, capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    lines = ["x,noise,kind"]
    for value, noise in zip(x, rng.normal(size=200), strict=True):
        kind = "high" if value + 0.3 * rng.normal() > 0 else "low"
        cells = [f"{value:.6f}", f"{noise:.6f}", kind]
        lines.append(",".join(cell if rng.random() > 0.2 else "" for cell in cells))
    table, run = tmp_path / "table.csv", tmp_path / "run"
    table.write_text("\n".join(line for line in lines if line != ",,") + "\n")
    small = [
        "--settings.schedule.num-levels",
        "4",
        "--settings.network.width",
        "16",
        "--settings.network.num-blocks",
        "1",
        "--settings.base",
        "gaussian",
    ]
    small += [
        "--settings.transform",
        "standardize",
        "--settings.num-pool-draws",
        "40",
        "--settings.objective.num-samples",
        "400",
    ]
    small += ["--settings.training.num-steps", "20", "--settings.training.evaluate-every", "10"]
    assert main(["fit", str(table), "--out", str(run)]) == 1
    assert "--missing drop" in capsys.readouterr().err
    assert main(["fit", str(table), "--missing", "draw", "--out", str(run), *small]) == 0
    assert "rows are complete" in capsys.readouterr().out
    new = tmp_path / "new.csv"
    new.write_text("x,noise\n1.5,0.1\n-1.5,\n")
    ours = ["--columns", "ours", "--out"]
    assert main(["predict", str(run), str(new), "--column", "kind", *ours, str(tmp_path / "kind.csv")]) == 0
    rows = [line.split(",") for line in (tmp_path / "kind.csv").read_text().splitlines()]
    assert rows[0][:3] == ["most_probable", "probability_high", "probability_low"]
    assert [row[0] for row in rows[1:]] == ["high", "low"]
    assert all(abs(float(row[1]) + float(row[2]) - 1) < 1e-9 for row in rows[1:])
    new.write_text("x,noise,kind\n1.5,0.1,high\n,0.3,low\n")
    capsys.readouterr()
    assert main(["predict", str(run), str(new), "--column", "x", *ours, str(tmp_path / "x.csv")]) == 0
    rows = [line.split(",") for line in (tmp_path / "x.csv").read_text().splitlines()]
    assert rows[0] == ["mean", *(f"quantile_{q}" for q in (0.05, 0.25, 0.5, 0.75, 0.95)), *rows[0][-3:]]
    assert float(rows[1][0]) > 0 > float(rows[2][0])
    assert float(rows[1][-2]) <= float(rows[1][-3]) <= float(rows[1][-1])
    assert rows[2][-3] == ""
    assert "2 rows of x, mean log density of the 1 values given" in capsys.readouterr().err
    assert main(["predict", str(run), str(new), "--column", "y"]) == 1
    assert "columns are x, noise, kind" in capsys.readouterr().err


def test_the_error_of_a_mean_counts_distinct_rows_of_the_table():
    """20 rows in 50 copies each, or drawn with replacement, are no more evidence than 20 rows are."""
    generator = seeded_generator(4)
    values, noise = torch.randn(20, generator=generator), 0.1 * torch.randn(1000, generator=generator)
    source = torch.arange(20).repeat(50)
    found = HeldOut(torch.zeros(1000, 1), source=source).summarize(values[source] + noise)
    means = (values[source] + noise).double().reshape(50, 20).mean(0)
    assert found == pytest.approx((float(means.mean()), float(means.std()) / 20**0.5))
    assert HeldOut(torch.zeros(20, 1)).summarize(values).standard_error == pytest.approx(float(values.std()) / 20**0.5)
    uneven = torch.cat([torch.arange(20), torch.zeros(20, dtype=torch.long)])
    assert HeldOut(torch.zeros(40, 1), source=uneven).summarize(values[uneven]).standard_error > found.standard_error
    assert HeldOut(torch.zeros(9, 1), source=torch.zeros(9)).summarize(torch.randn(9)).standard_error == torch.inf
