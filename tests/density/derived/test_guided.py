"""Densities of one label: which labels there are, and the formula of guidance."""

import dataclasses

import pytest
import torch
from torch import nn

import drl_density as drl
from drl_density.density.derived.guided import guided_model
from drl_density.errors import DataError
from tests.density.closed_form import closed_form_density


class TwoLabels(nn.Module):
    """Energies that differ by label: 0 is unlabelled, 1 and 2 are shifted."""

    is_integrable, has_bounded_growth, num_classes = True, True, 2

    def forward(self, x, log_snr, labels=None):
        shift = torch.zeros(1, 1) if labels is None else torch.as_tensor(labels).to(x).reshape(-1, 1)
        return -0.5 * (x - 0.3 * shift).square().sum(1).sqrt()


@pytest.fixture
def labelled():
    density = closed_form_density()
    model = drl.EnergySequence(density.model.schedule, TwoLabels(), (3,))
    provenance = dataclasses.replace(density.provenance, labels=(3, 8))
    return dataclasses.replace(density, model=model, provenance=provenance)


def test_guidance_is_its_formula(labelled):
    """F = (1 + w) F(x, c) - w F(x, unlabelled), with the base counted once by its own weights."""
    x = torch.randn(5, 3)
    own, plain = guided_model(labelled, 8), labelled.model
    network, log_snr = labelled.model.network, plain.schedule.log_snr_at(0).expand(5)
    by_label = network(x, log_snr, torch.full((5,), 2))
    unlabelled = network(x, log_snr, torch.zeros(5))
    base = plain.log_density(x, 0) - unlabelled
    torch.testing.assert_close(own.log_density(x, 0), base + by_label)
    sharper = guided_model(labelled, 8, weight=1.5)
    torch.testing.assert_close(sharper.log_density(x, 0), base + 2.5 * by_label - 1.5 * unlabelled)


def test_unknown_labels_are_refused(labelled):
    with pytest.raises(DataError, match="no label 4 in this density: it was fitted with labels 3, 8"):
        labelled.guided(4)
    with pytest.raises(DataError, match="it was fitted without labels"):
        closed_form_density().guided(3)
