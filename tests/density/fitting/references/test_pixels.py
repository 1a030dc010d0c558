"""Choice between factor analysers and an autoregressive density of images."""

import numpy as np
import pytest
import torch

import drl_density as drl
from drl_density.bases.fitting import autoregressive_pixels
from drl_density.density.fitting.bases import ReferenceTime
from drl_density.density.fitting.references import pixels
from drl_density.density.fitting.table import prepare_table
from drl_density.errors import DataError, NumericalError


def few(num_images):
    """A table of even noise of 2 by 2 pixels."""
    images = np.random.default_rng(0).integers(0, 255, (num_images, 2, 2)).astype(np.uint8)
    return prepare_table(drl.load_dataset(images), "histogram")


def test_without_time_or_images_the_factor_analysers_stay(monkeypatch):
    none = few(260).with_bases("autoregressive").bases
    assert "autoregressive" not in none.scores
    assert none.remarks[-1].startswith("no autoregressive density: the smallest takes")
    short = few(120).with_bases("autoregressive", allowed=ReferenceTime()).bases
    assert short.remarks[-1] == "no autoregressive density: 96 images are fewer than 200"

    def fails(*_, **__):
        raise NumericalError("the autoregressive density has no score")

    monkeypatch.setattr(pixels, "fit_autoregressive_pixels", fails)
    failed = few(260).with_bases("autoregressive", allowed=ReferenceTime()).bases
    assert failed.remarks[-1] == "no autoregressive density: the autoregressive density has no score"
    assert failed.noisy is None


def test_a_density_that_validation_does_not_prefer_is_not_kept(monkeypatch):
    monkeypatch.setattr(autoregressive_pixels, "MOST_PASSES", 1)
    monkeypatch.setattr(autoregressive_pixels, "LEAST_STEPS_AT_ALL", 1)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (300, 2, 2)).astype(np.uint8)
    images[:, 1] = images[:, 0]  # factors see at once what a step of a network does not
    found = prepare_table(drl.load_dataset(images), "histogram")
    bases = found.with_bases("autoregressive", allowed=ReferenceTime()).bases
    assert bases.scores["autoregressive"] < max(bases.scores["factors"], bases.scores["gaussian"])
    assert list(bases.mixtures) in (["factors"], ["gaussian"])
    assert "autoregressive: a network" in bases.remarks[-1]


def test_of_few_images_a_gaussian_is_a_candidate(monkeypatch):
    """Eighty images whose pixels all depend on each other need one covariance, and not its shrunk factors."""
    rng = np.random.default_rng(0)
    images = (120 + 25 * rng.normal(size=(100, 16)) @ (np.eye(16) + 0.5)).clip(0, 255)
    table = prepare_table(drl.load_dataset(images.reshape(100, 4, 4).astype(np.uint8)), "histogram")
    chosen = table.with_bases("autoregressive").bases
    assert list(chosen.mixtures) == ["gaussian"]
    assert chosen.scores["gaussian"] == max(chosen.scores.values())
    monkeypatch.setattr(pixels, "MOST_GAUSSIAN_ROWS", 79)
    assert "gaussian" not in table.with_bases("autoregressive").bases.scores
    assert "gaussian" not in table.with_bases("factors").bases.scores


def test_the_time_that_factor_analysers_take_is_not_there_for_the_network(monkeypatch):
    """In a limit of time the network ends with it, and factor analysers beside it are fitted to some of the images."""
    monkeypatch.setattr(pixels, "MOST_FACTOR_IMAGES", 150)
    clock, asked = [0.0], {}
    monkeypatch.setattr(pixels.time, "monotonic", lambda: clock[0])
    made = pixels.choose_factors

    def choose(draw, num_rows, *given, **options):
        asked["factors"] = num_rows
        assert draw(torch.arange(num_rows)).shape == (num_rows, 4)
        clock[0] += 7.0
        return made(draw, num_rows, *given, **options)

    def ends(levels, *, max_seconds, **_):
        asked["network"] = max_seconds
        raise NumericalError("no network")

    monkeypatch.setattr(pixels, "choose_factors", choose)
    monkeypatch.setattr(pixels, "fit_autoregressive_pixels", ends)
    few(260).with_bases("autoregressive", allowed=ReferenceTime.within(1.0, spent=3.0))
    assert asked == {"factors": 150, "network": pytest.approx(0.85 * 60 - 3 - 7)}
    few(260).with_bases("autoregressive", allowed=ReferenceTime())
    assert asked["network"] == float("inf")
    few(260).with_bases("autoregressive", allowed=ReferenceTime.within(1.0, spent=50.5))  # half a second: too little
    assert asked["factors"] == 208


def test_tables_without_grey_levels_are_refused():
    table = prepare_table(drl.load_dataset("banana", seed=0, num_rows=100))
    with pytest.raises(
        DataError, match='base "autoregressive" is for whole numbers on one grid.*set transform="histogram"'
    ):
        table.with_bases("autoregressive")
