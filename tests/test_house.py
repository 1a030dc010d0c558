"""The house: every module imports alone, docstrings run, importing us changes nothing."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import drl_density

MODULES = sorted(module.name for module in pkgutil.walk_packages(drl_density.__path__, "drl_density."))


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_importing_changes_nothing():
    code = """
import torch, pyro
def state():
    return (torch.get_default_dtype(), torch.get_rng_state().tolist(), torch.is_grad_enabled(),
            torch.distributions.Distribution._validate_args, pyro.settings.get(), torch.get_num_threads())
before = state()
import drl_density
assert state() == before
import sys
assert "matplotlib" not in sys.modules and "arviz" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_exist_and_are_documented():
    for name in drl_density.__all__:
        assert getattr(drl_density, name).__doc__, name
