"""Scores of the fit's test rows are kept with it, and no rows."""

import dataclasses

import torch

from drl_density.density import Density
from drl_density.density.evaluation.outlier_scores import held_out_scores
from drl_density.density.reference import ReferenceScores


def test_a_fit_keeps_the_scores_of_its_test_rows(tiny_density, tiny_data, tmp_path):
    kept = tiny_density.reference
    assert len(kept) == len(tiny_data.test) == 40
    assert kept.words == "the fit's 40 test rows"
    assert torch.equal(kept.log_density.sort().values, tiny_density.log_prob(tiny_data.test).sort().values)
    assert kept.profile.shape == (40, tiny_density.model.num_levels)
    again = Density.load(tiny_density.save(tmp_path / "run")).reference
    assert torch.equal(again.log_density, kept.log_density)
    assert torch.equal(again.profile, kept.profile)
    assert again.words == kept.words


def test_every_row_gets_the_same_noise_whatever_the_seed(tiny_density, tiny_data):
    """The seed chooses rows and dequantises; here all rows are kept and none is rounded."""
    first, other = (held_out_scores(tiny_density, tiny_data.test, seed=seed) for seed in (0, 1))
    assert torch.equal(first.profile, other.profile)
    turned = held_out_scores(tiny_density, tiny_data.test.flip(0), seed=0)
    torch.testing.assert_close(turned.profile.flip(0), first.profile)


def test_small_passes_give_the_same_scores(tiny_density, tiny_data, monkeypatch):
    whole = held_out_scores(tiny_density, tiny_data.test, seed=0)
    monkeypatch.setattr("drl_density.density.data_units.CACHED_ROWS", 7)
    torch.testing.assert_close(held_out_scores(tiny_density, tiny_data.test, seed=0).profile, whole.profile)


def test_a_large_test_set_keeps_a_part_and_a_small_one_none(tiny_density, tiny_data, monkeypatch):
    monkeypatch.setattr("drl_density.density.evaluation.outlier_scores.MOST_REFERENCE", 25)
    assert held_out_scores(tiny_density, tiny_data.test, seed=0).words == "the fit's 25 of 40 test rows"
    assert held_out_scores(tiny_density, tiny_data.test[:19], seed=0) is None
    found = dataclasses.replace(tiny_density, reference=None).outlier_scores(tiny_data.test)
    assert found.reference == f"{len(tiny_density.pool)} draws of the model"


def test_a_record_prints_in_one_line():
    printed = repr(ReferenceScores(torch.zeros(3), torch.zeros(3, 2), "three rows"))
    assert printed == "ReferenceScores(log_density=Tensor(3), profile=Tensor(3, 2), words='three rows')"
