"""Kinds of bases in saved states; the round trip of every member is in the battery over the contract."""

import json

from drl_density.bases.state import KINDS
from tests.bases.members import all_members


def test_every_kind_is_saved_under_its_own_name():
    assert {base.to_state()["kind"] for base in all_members(2).values()} == set(KINDS)
    assert all(made.kind == kind for kind, made in KINDS.items())


def test_states_survive_json():
    for base in all_members(2).values():
        assert json.loads(json.dumps(base.to_state())) == base.to_state()
