"""The table of ``make bench-tables``: means, paired errors, ranks, and what failed or is missing."""

import json
import math

import numpy as np
import pytest

from tests.benchmarks.tables.table import ORDER, OURS, Comparison, Results, report

SIZES = {"train": 70, "validation": 10, "test": 4, "columns": 3}
COSTS = {"fit_seconds": 2.0, "processor_seconds": 3.0, "memory_mib": 4, "normalizer": "exact"}


def result(rival: str, values: list[float], *, split: int = 0, **more) -> dict:
    detail = {"verdict": "reliable", "log_z_error": 0.02}
    done = {"status": "done", "log_likelihood": float(np.mean(values)), "rows": values, "detail": detail}
    return {
        "rival": rival,
        "split": split,
        "minutes": 1.0,
        "seed": 0,
        "commit": "abc",
        **done,
        **SIZES,
        **COSTS,
        **more,
    }


def written(folder, **sets: list[dict]) -> str:
    for name, results in sets.items():
        (folder / f"{name}.json").write_text(json.dumps({"set": name, "family": "rbp", "results": results}))
    return report(Results.read(folder))


def test_a_loss_is_shown_as_plainly_as_a_win(tmp_path):
    ours, mixture = [-1.0, -2.0, -3.0, -4.0], [-0.9, -1.7, -2.9, -3.7]
    text = written(tmp_path, one=[result(OURS, ours), result("gmm", mixture), result("kde", [x - 1 for x in ours])])
    error = np.std(np.subtract(ours, mixture), ddof=1) / 2
    assert f"| one (70, 3; 1) | -2.50 | **-2.30** (-0.20 +- {error:.2f}) | -3.50 (+1.00 +- 0.00) |" in text
    assert "| **drl_density** | 2.00 | 0 | 0 | 2, 2 | 3, 3 | 4, 4 | exact |" in text
    assert "| Gaussian mixture | 1.00 | 1 | 1 |" in text
    assert "| kernels | 3.00 | 0 | 0 |" in text


def test_our_density_and_its_reference_are_no_rivals_of_each_other(tmp_path):
    both = [result(OURS, [0.0, 1.0]), result("reference", [0.0, 1.0 + 1e-9]), result("gmm", [-1.0, 0.0])]
    text = written(tmp_path, one=both)
    assert "| **drl_density** | 1.00 | 1 | 1 |" in text
    assert "| its reference alone | 1.00 | 1 | 1 |" in text
    assert "| Gaussian mixture | 3.00 | 0 | 0 |" in text


def test_errors_over_three_splits_are_those_of_their_means():
    ours = [np.array([0.0, 0.0]), np.array([1.0, 3.0]), np.array([4.0, 4.0])]
    zero = [np.zeros(2)] * 3
    found = Comparison("one", (0, 1, 2), {"a": ours, "b": zero}, {})
    assert found.gap("a", "b") == pytest.approx((2.0, 2.0 / math.sqrt(3)))
    rows = Comparison("one", (0, 1), {"a": ours[:2], "b": zero[:2]}, {})
    assert rows.gap("a", "b") == pytest.approx((1.0, math.sqrt(2.0) / 2))


def test_a_failure_ranks_last_and_is_named(tmp_path):
    failed = {**result("gmm", [0.0]), "status": "too slow", "reason": "ended after 9 s"}
    absent = {**result("vine", [0.0]), "status": "not installed", "reason": "no module"}
    both = [result(OURS, [-1.0, -1.5]), result("gmm", [-2.0, -2.0])]
    text = written(tmp_path, one=both, two=[result(OURS, [-5.0, -5.5]), failed, absent], three=[result(OURS, [0.0])])
    assert "| two (70, 3; 1) | **-5.25** | failed |" in text
    assert "Failed: Gaussian mixture on two, split 0: ended after 9 s." in text
    assert "Not installed, so not run: vine." in text
    assert "Left out, because a rival has not been run on them yet: three." in text
    assert "| Gaussian mixture | 2.00 | 0 | 0 |" in text


def test_models_of_different_commits_are_named(tmp_path):
    same = [result(OURS, [0.0, 1.0]), result("gmm", [0.0, 1.0])]
    text = written(tmp_path, one=same, two=[same[0], {**same[1], "commit": "xyz"}])
    assert "commit abc, xyz." in text
    assert "Models of different commits, and perhaps of different transforms: two." in text


def test_the_clock_of_a_minute_is_named(tmp_path):
    by_processor = [result(OURS, [0.0, 1.0], clock="processor"), result("gmm", [0.0, 1.0], clock="processor")]
    assert "1 minutes of processor time of one thread for a fit" in written(tmp_path, one=by_processor)
    by_wall = [result(OURS, [0.0, 1.0]), result("gmm", [0.0, 1.0])]
    text = written(tmp_path, two=by_wall)
    assert "1 minutes of processor time of one thread or wall time for a fit" in text


def test_every_rival_has_a_place_in_the_table():
    from tests.benchmarks.tables.job import RIVALS

    assert set(ORDER) == {OURS, "reference", *RIVALS}
