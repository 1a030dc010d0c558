"""Functions that compute gradients work inside ``torch.inference_mode``."""

import inspect

import pytest
import torch

from drl_density.autograd import methods_outside_inference_mode, outside_inference_mode


def slope(x, *, factor=1.0, more=()):
    x = x.clone().requires_grad_(True)
    return torch.autograd.grad((factor * x**2).sum() + sum((one * x).sum() for one in more), x)[0]


def test_tensors_of_the_mode_are_cloned_wherever_they_are_given():
    usable = outside_inference_mode(slope)
    with torch.inference_mode():
        x, two = torch.ones(3), torch.tensor(2.0)
        assert x.is_inference()
        found = usable(x, factor=two, more=[two, (two,)[0]])
        with pytest.raises(RuntimeError, match="does not require grad|Inference tensors"):
            slope(x)
    assert torch.equal(found, torch.full((3,), 8.0))
    assert not found.is_inference()


def test_outside_the_mode_nothing_changes():
    x = torch.ones(2)
    seen = outside_inference_mode(lambda value: (value, torch.is_grad_enabled()))(x)
    assert seen[0] is x
    with torch.no_grad():
        assert outside_inference_mode(lambda value: torch.is_grad_enabled())(x) is False
    assert inspect.signature(outside_inference_mode(slope)) == inspect.signature(slope)


def test_methods_of_every_kind_are_covered():
    @methods_outside_inference_mode
    class Holder:
        def __init__(self, x):
            self.x = x

        @classmethod
        def ones(cls):
            return cls(torch.ones(2))

        def slope(self):
            return slope(self.x)

    with torch.inference_mode():
        assert not Holder(torch.ones(2)).x.is_inference()
        assert not Holder.ones().x.is_inference()
        assert torch.equal(Holder(torch.ones(2)).slope(), torch.full((2,), 2.0))
