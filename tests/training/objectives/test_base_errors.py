"""The base's expected errors are its own, and are computed again exactly when something has changed."""

import gc
import weakref

import pytest
import torch

from drl_density import EnergySequence, NoiseSchedule
from drl_density.bases import FactorAnalysers, NoisedGaussianMixture
from drl_density.networks import MLP, MLPSettings
from drl_density.testing import seeded_generator
from drl_density.training.objectives.base_errors import _KEPT, base_errors, base_errors_at


class Counting(FactorAnalysers):
    """Factor analysers that count the evaluations of their errors."""

    calls = 0

    def expected_error(self, log_snr):
        self.calls += 1
        return super().expected_error(log_snr)


def analysers():
    generator = seeded_generator(0)
    means, noises = (torch.rand(2, 6, generator=generator) for _ in range(2))
    return Counting(torch.full((2,), 0.5), means, torch.randn(2, 6, 2, generator=generator), noises + 0.01)


def sequence(base, num_levels=4):
    return EnergySequence(NoiseSchedule.log_spaced(num_levels), MLP(MLPSettings(6)), (6,), base=base)


def truth(model):
    return model.base.expected_error(model.schedule.log_snr)


def test_errors_are_computed_once_and_again_when_the_base_or_the_levels_change():
    base = analysers()
    model = sequence(base)
    first = base_errors(model)
    assert base_errors(model) is first
    assert base.calls == 1
    assert torch.equal(first, truth(model))
    changes = {
        "written to": lambda: base.noises.mul_(3),
        "loaded": lambda: base.load_state_dict({key: 0.5 * value for key, value in base.state_dict().items()}),
        "replaced": lambda: setattr(base, "loadings", 2 * base.loadings),
        "of another type": lambda: base.double(),
    }
    for name, change in changes.items():
        change()
        base.calls = 0
        found = base_errors(model)
        assert base.calls == 1, name
        assert torch.equal(found, truth(model)), name
    other = sequence(base, num_levels=5)
    assert torch.equal(base_errors(other), truth(other))
    assert torch.equal(base_errors(model), truth(model))


def test_tensors_that_count_no_writes_are_never_relied_on():
    with torch.inference_mode():
        base = analysers()
    model = sequence(base)
    before = base_errors(model)
    with torch.inference_mode():
        base.noises.mul_(9)
    assert not torch.equal(base_errors(model), before)
    assert torch.equal(base_errors(model), truth(model))


def test_a_base_is_freed_with_its_errors():
    gc.collect()
    count = len(_KEPT)
    base = analysers()
    base_errors(sequence(base))
    assert len(_KEPT) == count + 1
    watched = weakref.ref(base)
    del base
    gc.collect()
    assert watched() is None
    assert len(_KEPT) == count


def test_between_levels_the_logarithm_is_interpolated():
    variances = torch.tensor([[[0.3, 0.0], [0.0, 2.0]]])
    base = NoisedGaussianMixture(torch.ones(1), torch.zeros(1, 2), variances)
    model = EnergySequence(NoiseSchedule.log_spaced(4), MLP(MLPSettings(2)), (2,), base=base)
    each = truth(model)
    at, usual = base_errors_at(model, torch.tensor([0.0, 1.5, 4.0]))
    assert float(usual) == pytest.approx(float(each[:4].mean()))
    assert at.tolist() == pytest.approx([float(each[0]), float((each[1] * each[2]).sqrt()), float(each[4])])


def test_a_sequence_without_a_base_is_refused():
    model = EnergySequence(NoiseSchedule.log_spaced(4), MLP(MLPSettings(2)), (2,), has_base=False)
    with pytest.raises(ValueError, match="this one has none"):
        base_errors(model)
