"""Small tables in folds: which rows meet which reference, and which tables are not divided."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

import drl_density as drl
from drl_density.bases import LayeredBase, StackSettings, base_from_state, fit_stacked_mixture
from drl_density.bases.fitting.atoms import AtomSizes, fit_atom_stack, refit_atoms
from drl_density.datasets import Column, Dataset, Split
from drl_density.density.fitting.bases import FINE_SIGMAS, NOISE_LOSS
from drl_density.density.fitting.folds import table as table_module
from drl_density.density.fitting.folds.table import count_folds, fold_table
from drl_density.density.fitting.plan import plan_on_table
from drl_density.density.fitting.selection import reference_alone
from drl_density.density.fitting.table import prepare_table
from drl_density.errors import DataError
from drl_density.inverse_problems.weighted_conditional import base_conditional
from drl_density.testing import seeded_generator

SMALL = StackSettings((1, 3), (1e-2, 1e-1), num_bags=8, num_final_bags=20)
FEW = AtomSizes((4,), (0.3,), num_bags=8, least_bags=8, most_components=32)
USUAL = drl.FitSettings()


@pytest.fixture(scope="module")
def data():
    """Rows of three columns, one of them rounded, in which every tenth row of training is repeated."""
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((100, 3)) @ np.array([[1.0, 0.8, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 1.0]])
    rows[:, 2] = rows[:, 2].round(1)
    found = drl.load_dataset(rows, split=Split(validation=0.2, test=0.1, seed=0))
    return dataclasses.replace(found, train=torch.cat([found.train, found.train[::10]]))


@pytest.fixture(scope="module")
def folded(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_module, "fit_stacked_mixture", partial(fit_stacked_mixture, settings=SMALL))
        patch.setattr(table_module, "fit_atom_stack", partial(fit_atom_stack, settings=FEW))
        patch.setattr(table_module, "refit_atoms", partial(refit_atoms, most_components=16))
        return fold_table(prepare_table(data), 4)


def test_every_row_is_left_out_of_one_fold_and_equal_rows_of_the_same(folded, data):
    rows = torch.cat([data.train, data.validation])
    assert sum(len(part.dataset.validation) for part in folded.parts) == len(rows)
    for part in folded.parts:
        held, others = part.dataset.validation, part.dataset.train
        assert len(held) + len(others) == len(rows)
        assert not bool((held[:, None] == others[None]).all(-1).any())
    assert sum(int(folded.is_validation(fold).sum()) for fold in range(4)) == len(data.validation)
    assert folded.dataset is data


def test_a_fold_draws_no_batch_of_its_own_rows(folded):
    part = folded.parts[0]
    drawn = part.transform.inv(part.batches(500, torch.Generator().manual_seed(0)).double())
    # The first two columns are not dequantised, so a drawn row lies on its origin up to float32.
    near = (drawn[:, None, :2] - part.dataset.validation[None, :, :2]).abs().amax(-1)
    assert float(near.min()) > 1e-4
    assert float((drawn[:, None, :2] - part.dataset.train[None, :, :2]).abs().amax(-1).amin(1).max()) < 1e-4


def test_references_are_scored_on_the_rows_that_they_were_not_fitted_to(folded):
    """Each fold's reference scores its own rows worse than the reference of all rows, which has seen them."""
    assert set(folded.bases.scores) == {"independent", "gaussian", "stack", "atoms"}
    (name,) = folded.bases.mixtures
    assert name == max(folded.bases.scores, key=folded.bases.scores.get)
    seen, unseen = [], []
    for part in folded.parts:
        rows = part.validation(seed=0).rows
        seen.append(folded.bases.best.log_prob(rows).mean())
        unseen.append(part.bases.best.log_prob(rows).mean())
    assert float(torch.stack(unseen).mean()) == pytest.approx(folded.bases.scores[name], abs=0.1)
    assert float(torch.stack(seen).mean()) > float(torch.stack(unseen).mean()) + 0.1
    assert "left-out rows of 4 folds" in folded.describe()
    assert f"all {len(folded.side)} rows" in folded.describe()


def test_the_noise_of_level_zero_is_the_widest_that_costs_left_out_rows_next_to_nothing(monkeypatch):
    """Rows near a line, whose narrow references a wide noise would blur; every fold's rows count."""
    narrow = StackSettings((1,), (1e-3,), num_bags=4, num_final_bags=4)
    monkeypatch.setattr(table_module, "fit_stacked_mixture", partial(fit_stacked_mixture, settings=narrow))
    x = torch.randn(90, 1, generator=seeded_generator(0), dtype=torch.float64)
    rows = torch.cat([x, x + 0.02 * torch.randn(90, 1, generator=seeded_generator(1), dtype=torch.float64)], 1)
    folded = fold_table(prepare_table(drl.load_dataset(rows, seed=0), "standardize"), 4)

    def score(sigma):
        held = [part.transform(part.dataset.validation) for part in folded.parts]
        noise = drl.NoiseSchedule.log_spaced(1, sigma_min=sigma).log_snr_at(0)
        values = [part.bases.best(own.float(), noise) for part, own in zip(folded.parts, held, strict=True)]
        return float(torch.cat(values).mean())

    chosen, best = folded.bases.sigma_min, max(map(score, FINE_SIGMAS))
    assert max(folded.bases.scores.values()) == pytest.approx(best, abs=1e-4)
    assert chosen < max(FINE_SIGMAS)
    for sigma in FINE_SIGMAS[: FINE_SIGMAS.index(chosen) + 1]:
        assert (score(sigma) >= best - NOISE_LOSS) == (sigma == chosen)


def with_part(data, **changes):
    return dataclasses.replace(data, **changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (lambda data: {"train": data.train.masked_fill(data.train > 2, torch.nan)}, "missing values"),
        (lambda data: {"weights": torch.ones(len(data.train))}, "row weights"),
        (lambda data: {"loading": {"split": {"group": "site", "time": None}}}, "a split by group or by time"),
        (lambda data: {"validation": data.validation[:0]}, "no validation rows"),
        (lambda data: {"train": data.train[:1].repeat(20, 1), "validation": data.train[:1]}, "too few distinct rows"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rows_that_depend_on_each_other_are_not_divided(data, changes, reason):
    assert count_folds(data, USUAL) == 5
    changed = dataclasses.replace(data, **changes(data))
    assert count_folds(changed, USUAL) == 1
    with pytest.raises(DataError, match=f"num_folds=3 cannot be combined with {reason}"):
        count_folds(changed, drl.FitSettings(num_folds=3))


def test_more_folds_than_half_the_distinct_rows_are_refused(data):
    changed = dataclasses.replace(data, train=data.train[:5].repeat(4, 1), validation=data.train[5:10])
    assert count_folds(changed, drl.FitSettings(num_folds=5)) == 5
    with pytest.raises(DataError, match="num_folds must be at most 5, half the number of distinct .* got 6: give fewer"):
        count_folds(changed, drl.FitSettings(num_folds=6))


def test_equal_rows_of_discrete_columns_are_divided_and_wide_tables_are_not():
    yes = tuple(Column(name, "binary", 1.0, values=(0.0, 1.0)) for name in "ab")
    rows = (torch.randn(100, 2, generator=seeded_generator(0)) > 0).double()
    few = Dataset("few", train=rows[20:], validation=rows[:20], test=rows[:0], columns=yes, event_shape=(2,))
    assert count_folds(few, USUAL) == 5  # four distinct rows, each of which is evidence as often as it occurs
    for width, number in ((40, 5), (41, 1)):
        x = torch.randn(100, width, dtype=torch.float64)
        columns = tuple(Column(f"x{index}") for index in range(width))
        parts = {"train": x[20:], "validation": x[:20], "test": x[:0], "columns": columns, "event_shape": (width,)}
        assert count_folds(Dataset("wide", **parts), USUAL) == number


def test_tables_of_many_rows_and_other_settings_keep_one_part_for_validation(data):
    columns = tuple(Column(name) for name in "ab")
    rows = torch.randn(3000, 2, dtype=torch.float64)
    parts = {"validation": rows[-200:], "test": rows[:0], "columns": columns, "event_shape": (2,)}
    assert count_folds(Dataset("large", train=rows[:-200], **parts), USUAL) == 1
    assert count_folds(Dataset("small", train=rows[:-201], **parts), USUAL) == 5
    assert count_folds(Dataset("large", train=rows[:-200], **parts), drl.FitSettings(num_folds=3)) == 3
    for settings in (
        drl.FitSettings(num_folds=1),
        drl.FitSettings(base="gaussian"),
        drl.FitSettings(num_networks=2),
        drl.FitSettings(selection="last"),
        drl.FitSettings(objective=drl.AdjustedObjective()),
    ):
        assert count_folds(data, settings) == 1


@pytest.fixture(scope="module")
def shared_atoms():
    """Half of the rows have 0 in most of the first three columns, and the others are normal; the last column is distinct."""
    generator = np.random.default_rng(3)
    rows = generator.standard_normal((120, 4))
    rows[:60, :3] = np.where(generator.random((60, 3)) < 0.95, 0.0, rows[:60, :3])
    columns = {f"x{index}": {"width": 0.01} for index in range(3)}
    return drl.load_dataset(rows, columns=columns, split=Split(validation=0.2, test=0.1, seed=0))


@pytest.fixture(scope="module")
def folded_atoms(shared_atoms):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_module, "fit_stacked_mixture", partial(fit_stacked_mixture, settings=SMALL))
        patch.setattr(table_module, "fit_atom_stack", partial(fit_atom_stack, settings=FEW))
        patch.setattr(table_module, "refit_atoms", partial(refit_atoms, most_components=32))
        return fold_table(prepare_table(shared_atoms), 3)


def test_values_that_many_rows_share_bring_spike_and_slab_mixtures(folded_atoms, shared_atoms):
    bases, scores = folded_atoms.bases, folded_atoms.bases.scores
    assert scores["atoms"] > scores["stack"] + 1
    (name,) = bases.mixtures
    assert name in ("atoms", "blend")
    assert name == max(scores, key=scores.__getitem__)
    # Noisy levels use what has noised forms, and every fold its own.
    assert bases.noisy is not None
    assert bases.noisy.has_noised_form
    schedule = drl.NoiseSchedule.log_spaced(3, sigma_min=bases.sigma_min)
    for table in (folded_atoms, *folded_atoms.parts):
        (layered,) = table.bases.over_levels(schedule).values()
        assert isinstance(layered, LayeredBase)
        assert layered.clean is table.bases.best
    # Rows of a fold have the stated score under its own reference, and a better one under that of all rows.
    values, seen = [], []
    for part in folded_atoms.parts:
        u = part.to_model(part.dataset.validation.repeat(20, 1), generator=seeded_generator(0))
        values.append(part.bases.best.log_prob(u))
        seen.append(bases.best.log_prob(u))
    assert float(torch.cat(values).mean()) == pytest.approx(scores[name], abs=0.3)
    assert float(torch.cat(seen).mean()) > float(torch.cat(values).mean())
    plan = plan_on_table(folded_atoms, drl.FitSettings())
    assert [type(member.base) for member in plan.members] == [LayeredBase] * 3


def test_a_reference_with_atoms_has_conditionals_and_comes_back_from_its_state(folded_atoms, shared_atoms):
    plan = plan_on_table(folded_atoms, drl.FitSettings())
    (base,) = folded_atoms.bases.over_levels(plan.schedule).values()
    model = reference_alone(plan, base)
    law = base_conditional(model)
    assert law is not None
    u = folded_atoms.to_model(shared_atoms.train[:1] * 0, generator=seeded_generator(1))
    is_missing = torch.tensor([[True, True, False, False]])
    drawn = law.sample(u, is_missing, 400, generator=seeded_generator(2))[0]
    x = folded_atoms.transform.inv(drawn)
    # Given one value at an atom, the two others are most probably there too.
    assert float(((x[:, :2].abs() < 0.006).all(1)).double().mean()) > 0.6
    again = base_from_state(base.to_state())
    again.load_state_dict(base.state_dict())
    assert torch.equal(again(u, plan.schedule.log_snr_at(0)), base(u, plan.schedule.log_snr_at(0)))
