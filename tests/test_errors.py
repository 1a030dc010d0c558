"""Verdicts, and the families of exceptions and warnings."""

import json

import pytest

from drl_density import errors
from drl_density.errors import UNUSABLE_VERDICTS, DRLDensityWarning, Verdict


def test_only_reliable_is_reliable():
    assert [verdict for verdict in Verdict if verdict.is_reliable] == [Verdict.RELIABLE]


def test_doubtful_numbers_are_usable_and_no_verdict_on_chains_forbids_use():
    usable = set(Verdict) - set(UNUSABLE_VERDICTS)
    assert usable == {Verdict.RELIABLE, Verdict.DOUBTFUL, Verdict.STABLE, Verdict.SLOW, Verdict.DRIFTING}


def test_verdicts_are_their_strings_in_files_and_messages():
    assert json.loads(json.dumps({"verdict": Verdict.DOUBTFUL})) == {"verdict": "doubtful"}
    assert f"log Z is {Verdict.UNKNOWN}" == "log Z is unknown"
    with pytest.raises(ValueError, match="certain"):
        Verdict("certain")


def test_every_warning_is_one_of_ours_and_every_error_a_standard_kind():
    for name in errors.__all__:
        member = getattr(errors, name)
        if name.endswith("Warning"):
            assert issubclass(member, DRLDensityWarning)
        elif name.endswith(("Error", "Failed", "Lost")):
            assert issubclass(member, ValueError | RuntimeError)
