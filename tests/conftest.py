"""Shared fixtures: a tiny fitted density and small images, made once."""

import contextlib
import dataclasses
import functools
import gc
import hashlib
import importlib
import inspect
import pickle
import sys

import numpy as np
import pytest
import torch

import drl_density as drl
from drl_density.density import normalizing
from drl_density.density.evaluation.evaluate import evaluate
from drl_density.density.evaluation.sections import other_densities, report_chains
from drl_density.density.fitting import selection
from drl_density.density.settings import normalizing_sizes
from drl_density.density.storage.training_folder import TrainingFolder
from drl_density.inverse_problems import annealed_posterior
from drl_density.partition_function import importance
from drl_density.run_folder import RunFolder, netcdf
from drl_density.samplers import ProgressiveSettings, TemperingSettings, progressive
from drl_density.testing import gaussian_sequence
from drl_density.transforms import fit_marginals

# Objects of imported modules and collected tests live to the end. Searching them for garbage while they are made, and ever
# after, finds nothing and takes an eighth of a second each time.
gc.disable()


# Files that take the longest go first, so that none of them is left to one of two processes at the end.
LONG = (
    "tests/integration/test_devices.py",
    "tests/test_house.py",
    "tests/test_examples.py",
    "tests/integration/test_image_fit.py",
    "tests/test_readme.py",
    "tests/diffusion_sampler/test_training.py",
    "tests/integration/test_disk_faults.py",
    "tests/partition_function/two_sided/test_sandwich.py",
    "tests/training/test_sharded_weights.py",
    "tests/density/test_density.py",
    "tests/density/derived/test_combine.py",
    "tests/density/fitting/test_run.py",
    "tests/test_estimator.py",
    "tests/bases/test_contract.py",
    "tests/integration/test_discrete_columns.py",
    "tests/density/fitting/test_completions.py",
    "tests/partition_function/two_sided/test_sequence.py",
    "tests/cli/test_learn.py",
    "tests/integration/test_processes.py",
    "tests/density/derived/test_posterior.py",
    "tests/integration/test_calibration.py",
    "tests/training/test_trainer.py",
    "tests/transforms/test_fit_marginals.py",
)


def pytest_collection_modifyitems(items):
    rank = {file: index for index, file in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(LONG)))


def pytest_collection_finish():
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()


TINY = drl.FitSettings(
    objective=drl.AdjustedObjective(num_chain_steps=2),
    network=drl.MLPNetwork(width=24, num_blocks=1, num_fourier_features=8),
    schedule=drl.LogSpacedSchedule(num_levels=5),
    num_pool_draws=40,
    training=drl.TrainingSettings(num_steps=40, batch_size=32, evaluate_every=20),
)


def recorded_fit(data, settings, out):
    """All that a fit saves while it trains, as (name, tensors, scalars), and its density."""
    saved, saver = [], TrainingFolder.saver

    def watched(self, name):
        save = saver(self, name)

        def both(tensors, scalars):
            saved.append((name, {key: value.clone() for key, value in tensors.items()}, scalars))
            save(tensors, scalars)

        return both

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingFolder, "saver", watched)
        return saved, drl.fit(data, seed=0, settings=settings, out=out, progress=False)


@pytest.fixture(scope="session")
def tiny_settings():
    return TINY


@pytest.fixture(scope="session")
def tiny_data():
    return drl.load_dataset("banana", seed=0, num_rows=400)


@pytest.fixture(scope="session")
def tiny_fit(tiny_data, tmp_path_factory):
    """All that a fit saves while it trains, as (name, tensors, scalars), and its density."""
    with long_annealing():  # as outside of tests, whatever the module has that asks for the fit first
        return recorded_fit(tiny_data, TINY, tmp_path_factory.mktemp("tiny") / "run")


@pytest.fixture(scope="session")
def tiny_density(tiny_fit):
    return tiny_fit[1]


@pytest.fixture(scope="session")
def bounded_density():
    """A fit of squares of uniform numbers, the first column of which is declared to lie between 0 and 1."""
    x = torch.rand(300, 2, generator=torch.Generator().manual_seed(0)).double() ** 2
    data = drl.load_dataset(x, columns={"x0": {"lower": 0.0, "upper": 1.0}}, seed=0)
    quick = dataclasses.replace(TINY, base="gaussian", selection="last", num_particles=64)
    with long_annealing():
        return drl.fit(data, seed=0, settings=quick, progress=False)


@pytest.fixture(scope="session")
def pictures():
    """96 grey 4x4 pictures of 8 bits: a bright half, left or right, with noise."""
    generator = torch.Generator().manual_seed(0)
    side = torch.randint(2, (96,), generator=generator)
    bright = torch.zeros(96, 4, 4, dtype=torch.long)
    bright[side == 0, :, :2] = 200
    bright[side == 1, :, 2:] = 200
    noise = torch.randint(50, (96, 4, 4), generator=generator)
    return drl.load_dataset((bright + noise).to(torch.uint8).numpy(), seed=0)


@pytest.fixture(scope="session")
def labelled_pictures(tmp_path_factory):
    """The pictures with their labels, 3 for a bright left half and 8 for a bright right half."""
    generator = torch.Generator().manual_seed(0)
    right = torch.randint(2, (400,), generator=generator).bool()
    bright = torch.zeros(400, 4, 4, dtype=torch.long)
    bright[~right, :, :2] = 200
    bright[right, :, 2:] = 200
    pixels = (bright + torch.randint(50, (400, 4, 4), generator=generator)).to(torch.uint8).numpy()
    path = tmp_path_factory.mktemp("labelled") / "halves.npz"
    np.savez(path, x_train=pixels, y_train=torch.where(right, 8, 3).numpy())
    return path


HAS_CUDA = torch.cuda.is_available()


@pytest.fixture(autouse=True)
def _seeded():
    """Without a GPU ``torch.manual_seed`` keeps a traceback of every call."""
    if HAS_CUDA:
        torch.manual_seed(0)
    else:
        torch.default_generator.manual_seed(0)


@pytest.fixture(autouse=True)
def validation_comes_back():
    """torch.compile switches the validation of distributions off for good; the next test finds it as it was."""
    before = torch.distributions.Distribution._validate_args
    yield
    torch.distributions.Distribution.set_default_validate_args(before)


fit_mixture, mixtures = fit_marginals.fit_mixture, {}
most_mixture_steps = 10**9


def remembered_mixture(y, num_components, least_scale, *, weights=None, num_steps=150):
    """``fit_mixture``, once for equal arguments: it draws nothing, and hundreds of small fits share a few tables.

    It computes on the CPU; a tensor of another device cannot be digested.
    """
    num_steps = min(num_steps, most_mixture_steps)
    parts = (y, least_scale, torch.empty(0) if weights is None else weights)
    digests = (hashlib.sha256(part.numpy().tobytes()).digest() for part in parts)
    key = (num_components, num_steps, *digests, *((part.shape, part.dtype) for part in parts))
    if key not in mixtures:
        mixtures[key] = fit_mixture(y, num_components, least_scale, weights=weights, num_steps=num_steps)
    return mixtures[key]


@pytest.fixture(scope="session", autouse=True)
def _remembered_mixtures():
    """Everywhere but in the tests of the fit of marginals itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_marginals, "fit_mixture", remembered_mixture)
        yield


write_content, read_labelled = netcdf.netcdf_bytes, RunFolder.read_dataset
contents, datasets = {}, {}


@functools.wraps(write_content)
def remembered_content(data):
    """``netcdf_bytes``, once for data with equal pickles: a history takes up to a tenth of a second, and is written
    hundreds of times where a disk fails."""
    key = hashlib.sha256(pickle.dumps(data)).digest()
    if key not in contents:
        contents[key] = write_content(data)
    return contents[key]


@functools.wraps(read_labelled)
def remembered_dataset(folder, file):
    """``RunFolder.read_dataset``, once for equal content; what cannot be read is left to it."""
    try:
        key = hashlib.sha256(folder._inside(file).read_bytes()).digest()
    except OSError:
        return read_labelled(folder, file)
    if key not in datasets:
        datasets[key] = read_labelled(folder, file)
    return datasets[key].copy(deep=True)


@pytest.fixture(scope="session", autouse=True)
def _remembered_files():
    """Everywhere but in the tests of run folders themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(netcdf, "netcdf_bytes", remembered_content)
        patch.setattr(RunFolder, "read_dataset", remembered_dataset)
        yield


@pytest.fixture(scope="session", autouse=True)
def _short_reports():
    """Reports run chains of 100 steps after 40, not 1,000 after 200, a flow of 10 steps, not 100, and anneal over one
    density a level, not four. Tests of chains, flows and paths themselves call them with sizes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(evaluate.__kwdefaults__, "num_chain_steps", 100)
        patch.setattr(report_chains, "NUM_WARMUP", 40)
        patch.setattr(other_densities, "STEPS_PER_LEVEL", 1)
        flow = functools.partial(other_densities.flow_log_likelihood, num_steps=10)
        patch.setattr(other_densities, "flow_log_likelihood", flow)
        yield


LONG_SCORE = selection.AnnealedLikelihood


@dataclasses.dataclass(frozen=True)
class ShortlyAnnealedLikelihood(LONG_SCORE):
    """The score by which fits select, annealed over two densities a level instead of four."""

    steps_per_level: int = 2


@contextlib.contextmanager
def posteriors_of(num_final_steps):
    """Within this context the chains at the end of an annealed posterior take so many steps."""
    with pytest.MonkeyPatch.context() as patch:
        for sample in (annealed_posterior.sample_path, annealed_posterior.sample_posterior):
            patch.setitem(inspect.unwrap(sample).__kwdefaults__, "num_final_steps", num_final_steps)
        yield


@pytest.fixture
def short_ends():
    """Chains at the end of annealed posteriors take 60 steps: particles have the moments already, and steps keep them."""
    with posteriors_of(60):
        yield


@contextlib.contextmanager
def annealing_over(most_per_level, score, most_steps, chains, num_final_steps, checks):
    """Within this context fits anneal over so many densities a level, select by a score, fit marginals in so many steps,
    and draw by such chains; annealed posteriors end with so many steps; checks of log Z take so many steps and bridges."""
    for_annealing, for_importance, num_bridges = checks
    with pytest.MonkeyPatch.context() as patch, posteriors_of(num_final_steps):
        patch.setattr(sys.modules[__name__], "most_mixture_steps", most_steps)
        patch.setattr(progressive, "given_or_default", lambda given, kind: chains if given is None else given)
        patch.setattr(normalizing_sizes, "MOST_PER_LEVEL", most_per_level)
        patch.setattr(selection, "AnnealedLikelihood", score)
        patch.setattr(normalizing, "NUM_MIXING_STEPS", for_annealing)
        patch.setattr(importance, "NUM_MIXING_STEPS", for_importance)
        patch.setitem(importance.checked_importance_sampling.__kwdefaults__, "num_bridges", num_bridges)
        yield


def long_annealing():
    """Within this context fits anneal, fit marginals and draw as they do outside of tests."""
    return annealing_over(8, LONG_SCORE, 10**9, ProgressiveSettings(), 200, (100, 60, 20))


def short_annealing(most_mixture_steps=30):
    """Within this context fits anneal over two densities a level, fit marginals in few steps, draw by chains of a quarter of
    the usual steps, and check log Z with few."""
    chains = ProgressiveSettings(num_steps=3, num_final_steps=10)
    return annealing_over(2, ShortlyAnnealedLikelihood, most_mixture_steps, chains, 20, (10, 10, 5))


@pytest.fixture(scope="module")
def short_paths():
    """Fits of a module are short beside their training: its tests do not ask how exact log Z, marginals or draws are."""
    with short_annealing():
        yield


@pytest.fixture
def short_ladders(monkeypatch):
    """Diagnoses temper over a few rungs for a few sweeps."""
    sizes = TemperingSettings(num_sweeps=20, num_pilot_sweeps=8, num_pilot_levels=4)
    diagnose = importlib.import_module("drl_density.density.evaluation.diagnose")
    monkeypatch.setattr(diagnose, "TemperingSettings", lambda **_: sizes)


@pytest.fixture(scope="session")
def correlated():
    """A correlated Gaussian prior, for which every posterior under a linear measurement is known."""
    covariance = torch.tensor([[1.0, 0.6, 0.2], [0.6, 0.8, 0.1], [0.2, 0.1, 0.5]], dtype=torch.float64)
    means = torch.tensor([0.3, -0.2, 0.1])
    return gaussian_sequence(means, covariance, drl.NoiseSchedule.log_spaced(8, sigma_min=0.05))
