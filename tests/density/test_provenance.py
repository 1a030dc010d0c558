"""Records of how a fit came about."""

import json

from drl_density.density import Baselines, Provenance, Stage


def test_a_record_survives_json():
    record = Provenance(
        name="a table",
        source="wine",
        loading={"seed": 3, "missing": "refuse"},
        seed=3,
        labels=(3, 8),
        base_scores={"gaussian": -1.5},
        best_step={"gaussian-0": 20},
        num_rollbacks={"gaussian-0": 1},
        training_seconds=1.5,
        stages=(Stage("reference", -1.5), Stage("tilt", -1.2, 0.3, 0.1, kept=False)),
    )
    assert Provenance.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_a_fit_is_untrained_when_the_reported_member_kept_its_base():
    steps = {"a": 0, "b": 20}
    assert Provenance(best_step=steps, selected_member="a").is_untrained
    assert not Provenance(best_step=steps, selected_member="b").is_untrained
    assert not Provenance(best_step=steps, selected_member="average").is_untrained
    assert Provenance(best_step={"a": 0, "b": 0}, selected_member="average").is_untrained
    assert not Provenance().is_untrained  # nothing is known
    tilts = [Stage("tilt", -1.2, 0.3, 0.1, kept=kept) for kept in (True, False)]
    found = [Provenance(stages=(Stage("reference", -1.5), tilt), best_step=steps).is_untrained for tilt in tilts]
    assert found == [False, True]


def test_a_fit_left_at_its_reference_says_so():
    tilts = [Stage("tilt", -1.2, 0.3, 0.1, kept=kept) for kept in (True, False)]
    kept, left = (Provenance(stages=(Stage("reference", -1.5), tilt)) for tilt in tilts)
    assert (kept.is_left_at_reference, kept.untrained_remark) == (False, "")
    assert left.is_left_at_reference
    assert left.untrained_remark.startswith("the density is its reference")
    bare = Provenance(best_step={"a": 0}, selected_member="a")
    assert not bare.is_left_at_reference
    assert "untrained" in bare.untrained_remark


def test_the_floor_is_the_better_of_both_references():
    assert Baselines(model=-1.0, gaussian=-2.0, independent=-1.0).is_above_floor
    assert not Baselines(model=-1.0, gaussian=-2.0, independent=-0.9).is_above_floor
    assert Baselines(model=-0.691, gaussian=-0.689, independent=-0.69).is_above_floor  # one yes or no, known exactly
