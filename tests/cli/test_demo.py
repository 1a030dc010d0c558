"""The demonstration: its files, and its figures against closed forms."""

import dataclasses
import functools

import pytest

from drl_density.cli import demo
from drl_density.errors import Verdict
from tests.conftest import TINY

TOY = dataclasses.replace(TINY, base="gaussian", transform="standardize", num_particles=16)


@pytest.fixture(scope="module")
def few_rows():
    """Data sets of 400 rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "load_dataset", functools.partial(demo.load_dataset, num_rows=400))
        yield


@pytest.mark.filterwarnings("ignore::drl_density.errors.UnreliableEstimateWarning")
@pytest.mark.usefixtures("few_rows", "quick_evaluation")
def test_demo_writes_a_page(tmp_path):
    done = demo.run_demo("eight_gaussians", tmp_path / "demo", settings=TOY, progress=False)
    assert "kernel density" in done.text
    assert done.verdict in Verdict
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "data:image/png" in page
    assert "log Z" in page
    assert (tmp_path / "demo" / "training.png").stat().st_size > 10_000
