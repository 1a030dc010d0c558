"""The record of one model's evidence."""

import pytest
import torch

from drl_density.errors import Verdict
from tests.model_evidence.made_up import evidence_of, flat


def test_it_says_what_the_sandwich_says():
    found = evidence_of(-3.0, half_width=0.2)
    assert (found.log_z, found.lower, found.upper, found.standard_error) == (-3.0, -3.2, -2.8, 0.05)
    assert found.interval(0.475) == pytest.approx((-3.1, -2.9))
    assert found.is_reliable
    assert not evidence_of(-3.0, verdict=Verdict.DOUBTFUL).is_reliable
    assert str(found) == "log evidence = -3.0000 in [-3.2000, -2.8000], reliable: all checks hold"
    assert "-3.2000 to -2.8000" in found._repr_html_()
    assert len(repr(found)) < 300


def test_improper_priors_are_named_in_the_advice():
    found = evidence_of(-3.0, flat)
    assert found.improper_sites == ("mean",)
    assert "priors of mean are improper" in found.advice
    assert evidence_of(-3.0).advice == "all checks hold"


def test_its_tree_holds_the_draws_and_the_estimate():
    draws = torch.arange(6.0, dtype=torch.float64).reshape(2, 3, 1)
    found = evidence_of(-3.0, draws=draws)
    assert found.tree["posterior"]["mean"].values.tolist() == draws[..., 0].tolist()
    assert found.tree.attrs["log_z"] == -3.0
    assert found.tree.attrs["verdict"] == "reliable"
    assert found.tree is found.tree
    assert found.to_arviz()["posterior"]["mean"].shape == (2, 3)
