"""Settings that a call is given, or those it has by default."""

import pytest
import torch

import drl_density as drl
from drl_density.inverse_problems import sample_posterior
from drl_density.records.given import given_or_default
from drl_density.samplers import (
    AncestralSettings,
    DDIMSettings,
    FlowSettings,
    run_tempering,
    sample_ancestral,
    sample_ddim,
    sample_flow,
    sample_predictor_corrector,
    sample_progressive,
)
from drl_density.testing import GaussianMixtureSequence


def test_settings_are_those_given_or_the_defaults():
    assert given_or_default(None, DDIMSettings) == DDIMSettings()
    assert given_or_default(DDIMSettings(num_steps=3), DDIMSettings).num_steps == 3
    few = DDIMSettings(num_steps=4)
    assert given_or_default(None, DDIMSettings, default=few) is few
    with pytest.raises(TypeError, match="annealing must be of the class DDIMSettings, got dict: give DDIMSettings"):
        given_or_default({}, DDIMSettings, name="annealing")


@pytest.mark.parametrize(
    ("sample", "settings"),
    [
        (sample_ddim, FlowSettings()),
        (sample_flow, DDIMSettings()),
        (sample_ancestral, DDIMSettings()),
        (sample_predictor_corrector, FlowSettings()),
        (sample_progressive, AncestralSettings()),
        (run_tempering, FlowSettings()),
        (lambda model, count, settings: drl.sandwich(model, settings=settings), drl.AISSettings()),
        (lambda model, count, settings: drl.annealed_importance_sampling(model, settings=settings), drl.SandwichSettings()),
        (
            lambda model, count, settings: sample_posterior(model, lambda level: None, count, settings=settings),
            drl.SandwichSettings(),
        ),
    ],
    ids=[
        *("ddim", "flow", "ancestral", "predictor-corrector", "progressive", "tempering", "sandwich", "annealing"),
        "annealed posterior",
    ],
)
def test_settings_of_another_method_are_refused(sample, settings):
    with pytest.raises(TypeError, match=rf"settings must be of the class \w+, got {type(settings).__name__}: give "):
        sample(GaussianMixtureSequence.example().model, 4, settings=settings)


def test_questions_to_a_density_refuse_settings_of_another_method(tiny_density):
    rows = tiny_density.pool[:2].clone()
    rows[:, 0] = torch.nan
    for ask in (
        lambda settings: tiny_density.impute(rows, settings=settings),
        lambda settings: tiny_density.marginal([0], settings=settings),
        lambda settings: tiny_density.condition({0: 0.0}, settings=settings),
        lambda settings: drl.combine([tiny_density, tiny_density], settings=settings),
    ):
        with pytest.raises(TypeError, match=r"settings must be of the class \w+, got FlowSettings: give "):
            ask(FlowSettings())
