"""Averages of large mixtures: their sizes, their number in a time, seeds, and what an average gains."""

import pytest
import torch

from drl_density.bases.fitting import averaged_mixture, fit_averaged_mixture, fit_mixtures
from drl_density.testing import seeded_generator


def curve(count, seed):
    """Rows near a sine curve, which one Gaussian is far from."""
    generator = seeded_generator(seed)
    x = 4 * torch.rand(count, generator=generator, dtype=torch.float64) - 2
    noise = 0.1 * torch.randn(count, generator=generator, dtype=torch.float64)
    return torch.stack([x, (3 * x).sin() + noise], 1)


def averaged(rows, *, seconds=20.0, is_timed=False, ridge=1e-3):
    return fit_averaged_mixture(rows[None], ridge=ridge, seconds=seconds, is_timed=is_timed, generator=seeded_generator(1))


def test_an_average_scores_better_than_one_fit_of_its_size(monkeypatch):
    monkeypatch.setattr(averaged_mixture, "ROWS_PER_COMPONENT", 10)
    rows, fresh = curve(200, 0), curve(2000, 2)
    one = fit_mixtures(rows, torch.ones(1, 200), 20, ridge=1e-5, generator=seeded_generator(1))
    base = averaged(rows, ridge=1e-5)
    assert base.num_components > 16 * 15  # 16 fits of 20 components, some of which hold no row
    assert float(base.log_prob(fresh.float()).mean()) > float(one.log_prob(fresh).mean()) + 0.1
    assert torch.equal(averaged(rows, ridge=1e-5).centers, base.centers)


@pytest.mark.parametrize(("num_rows", "num_columns", "size"), [(50, 2, 1), (900, 2, 9), (900, 60, 7), (7000, 1, 60)])
def test_rows_and_columns_bound_the_size_of_a_mixture(num_rows, num_columns, size, monkeypatch):
    sizes, plain = [], averaged_mixture.fit_mixtures

    def watched(x, counts, size, **given):
        sizes.append(size)
        return plain(x, counts, 1, **given)

    monkeypatch.setattr(averaged_mixture, "fit_mixtures", watched)
    monkeypatch.setattr(averaged_mixture, "MOST_FITS", 1)
    averaged(torch.randn(num_rows, num_columns, generator=seeded_generator(0)))
    assert sizes == [size]


@pytest.mark.parametrize("is_timed", [False, True])
def test_the_time_bounds_the_number_of_fits(is_timed, monkeypatch):
    rows = curve(300, 3)
    cost = 20 * 300 * 3 * 5 * averaged_mixture.SECONDS_PER_PRODUCT
    assert averaged(rows, seconds=0.9 * cost, is_timed=is_timed) is None
    if is_timed:
        clock = iter(range(100))
        monkeypatch.setattr(averaged_mixture.time, "monotonic", lambda: float(next(clock)))
        # Each look at the clock is a second later: after 3 fits, another one would end after the 4 seconds.
        assert averaged(rows, seconds=4.5, is_timed=True).num_components == 3 * 4 - 3
    else:
        assert averaged(rows, seconds=2.5 * cost).num_components == 2 * 3


def test_the_fits_take_the_copies_in_turn(monkeypatch):
    seen, plain = [], averaged_mixture.fit_mixtures

    def watched(x, counts, size, **given):
        seen.append(float(x[0, 0]))
        return plain(x, counts, size, **given)

    monkeypatch.setattr(averaged_mixture, "fit_mixtures", watched)
    monkeypatch.setattr(averaged_mixture, "MOST_FITS", 3)
    copies = torch.stack([curve(50, 4), curve(50, 5)])
    fit_averaged_mixture(copies, ridge=0.1, seconds=20.0, generator=seeded_generator(6))
    assert seen == [float(copies[0, 0, 0]), float(copies[1, 0, 0]), float(copies[0, 0, 0])]
