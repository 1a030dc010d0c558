"""Training batches: rescaled, mirrored, labelled, and completed rows."""

import pytest
import torch

import drl_density as drl
from drl_density.errors import DataError
from tests.density.small_images import plan_for, right_over_left, settings_for


def test_pixels_are_rescaled_and_mirrored(pictures):
    plan = plan_for("cifar10", pictures)
    table = plan.table
    ends = torch.tensor([0.0, 255.0], dtype=torch.float64)[:, None].expand(2, 16)
    assert torch.equal(table.transform(ends)[:, 0], torch.tensor([-1.0, 1.0], dtype=torch.float64))
    plain = table.batches(64, torch.Generator().manual_seed(0)).reshape(64, 1, 4, 4)
    batches = plan.source(plan.new_state(plan.members[0].base, seed=0))
    rows = batches(64, torch.Generator().manual_seed(0)).reshape(64, 1, 4, 4)
    same = (rows == plain).flatten(1).all(1)
    flipped = (rows == plain.flip(-1)).flatten(1).all(1)
    assert bool((same | flipped).all())
    assert 10 < int(flipped.sum()) < 54


def test_batches_carry_the_places_of_their_labels(labelled_pictures):
    data = drl.load_dataset(labelled_pictures)
    plan = plan_for("cifar10_cdrl", data, network={"num_classes": 2, "flips": False})
    state = plan.new_state(plan.table.bases.best, seed=0)
    rows, places = plan.source(state)(64, torch.Generator().manual_seed(0))
    assert torch.equal(places, torch.where(right_over_left(rows) > 0, 2, 1))
    mirroring = plan_for("cifar10_cdrl", data, network={"num_classes": 2, "flips": True})
    mirrored, _ = mirroring.source(state)(400, torch.Generator().manual_seed(0))
    assert 100 < int((right_over_left(mirrored) > 0).sum()) < 300
    model = plan.new_model(plan.table.bases.best, seed=0)
    generator = torch.Generator().manual_seed(0)
    plan.objective(model, (rows, places), torch.full((2,), 0.1), generator=generator).loss.backward()
    gradient = model.network.network.embed_label.weight.grad
    assert bool((gradient.abs().sum(1) > 0).all())  # both labels, and "not told"


def test_labels_that_do_not_fit(labelled_pictures, pictures):
    five = settings_for("cifar10_cdrl", network={"num_classes": 5})
    with pytest.raises(DataError, match=r"5, and the data have 2 labels \(3, 8\)"):
        drl.fit(labelled_pictures, seed=0, settings=five, progress=False)
    with pytest.raises(DataError, match="give y_train beside"):
        drl.fit(pictures, seed=0, settings=five, progress=False)
    with pytest.raises(ValueError, match='cooperative and the denoising objective learn labels, got "langevin"'):
        settings_for("cifar10", network={"num_classes": 5})
