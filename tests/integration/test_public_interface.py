"""One way for each thing, over every public name: randomness, counts, intervals, verdicts, log Z, settings, reprs."""

import ast
import dataclasses
import functools
import importlib
import inspect
import pkgutil
import types
import typing

import pytest
import torch

import drl_density
from drl_density.errors import Verdict

PACKAGES = [
    "drl_density",
    *(room.name for room in pkgutil.walk_packages(drl_density.__path__, "drl_density.") if room.ispkg),
]
MODULES = [room.name for room in pkgutil.walk_packages(drl_density.__path__, "drl_density.") if not room.ispkg]


def public_members():
    """Classes and functions of every ``__all__``, each once, by the module and name of its definition."""
    found = {}
    for package in map(importlib.import_module, PACKAGES):
        for name in getattr(package, "__all__", ()):
            member = getattr(package, name)
            if inspect.isclass(member) or inspect.isfunction(member):
                found[f"{member.__module__}.{member.__qualname__}"] = member
    return found


PUBLIC = public_members()
CLASSES = {name: member for name, member in PUBLIC.items() if inspect.isclass(member)}
RECORDS = {name: member for name, member in CLASSES.items() if dataclasses.is_dataclass(member)}
SETTINGS = {name: member for name, member in RECORDS.items() if name.endswith("Settings")}


def callables():
    """Every public function and method by its full name, constructors under the name of their class.

    Methods that override one of torch, Pyro or scikit-learn keep the signature of those.
    """
    for name, member in PUBLIC.items():
        if inspect.isfunction(member):
            yield name, member
            continue
        foreign = [base for base in member.__mro__ if not base.__module__.startswith("drl_density")]
        for own, part in vars(member).items():
            function = getattr(part, "__func__", part)
            if not inspect.isfunction(function) or (own.startswith("_") and own not in ("__init__", "__call__")):
                continue
            if own == "__init__" or not any(own in vars(base) for base in foreign):
                yield (name if own == "__init__" else f"{name}.{own}"), function


CALLABLES = dict(callables())
# The contract of kernels: ``step(state, log_density, step_size, generator)`` is called once per step of every chain.
KERNEL_STEPS = {name for name, member in CALLABLES.items() if name.endswith(".step") and ".mcmc." in name}
# Contracts of objects that a loop calls with the generator of the run.
CALLED_WITH_A_GENERATOR = {
    "drl_density.distributions.sampling.ChainSampler.__call__",
    "drl_density.distributions.sampling.SamplerPolicy.__call__",
    "drl_density.samplers.importance.LevelZeroSampler.__call__",
    "drl_density.training.objectives.objective.Batches.__call__",
}
# An integer that must be the same in every process, evaluation or call, so that there is no fresh one to draw.
WITH_A_FIXED_SEED = {
    "drl_density.density.fitting.references.pixels.choose_pixels",  # the fit hands its own on
    "drl_density.datasets.splits.folds",  # which rows belong to which fold
    "drl_density.partition_function.annealing.replicated.replicated_annealing",  # in every process
    "drl_density.testing.systems.GaussianMixtureSequence.example",  # one system for all tests
    "drl_density.training.state.new_state",  # in every process, and kept in the run folder
    "drl_density.training.validation.validation_loss",  # the same noise at every evaluation
}
# Scikit-learn names its own.
FOREIGN_NAMES = dict.fromkeys(
    ["drl_density.estimator.DRLDensity", "drl_density.estimator.DRLDensity.sample"], {"random_state"}
)
OTHER_COUNTS = {"num_draws", "n", "m", "num_imputations", "random_state"}


def parameters(name):
    """Parameters by name, without ``self``."""
    return {
        key: value for key, value in inspect.signature(CALLABLES[name]).parameters.items() if key not in ("self", "cls")
    }


@pytest.mark.parametrize("argument", ["generator", "seed"])
def test_randomness_is_keyword_only_and_none_by_default(argument):
    """Records that keep a seed or a generator which a function was given are made by that function."""
    wrong = {
        name: str(parameter)
        for name in set(CALLABLES) - set(RECORDS) - KERNEL_STEPS - CALLED_WITH_A_GENERATOR - WITH_A_FIXED_SEED
        for key, parameter in parameters(name).items()
        if key == argument and (parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is not None)
    }
    assert wrong == {}


def test_exceptions_are_of_names_that_are_there():
    assert sorted((CALLED_WITH_A_GENERATOR | WITH_A_FIXED_SEED | set(FOREIGN_NAMES)) - set(CALLABLES)) == []
    assert sorted((BY_VALUE | NOT_A_NORMALISER) - set(CLASSES)) == []


def test_nothing_takes_both_a_seed_and_a_generator():
    assert [name for name in CALLABLES if {"seed", "generator"} <= set(parameters(name))] == []


def test_methods_of_a_density_take_seeds():
    density = drl_density.Density
    for name in dir(density):
        if not name.startswith("_") and inspect.isfunction(getattr(density, name)):
            assert "generator" not in inspect.signature(getattr(density, name)).parameters, name


def test_counts_of_draws_are_num_samples():
    names = {name: set(parameters(name)) for name in CALLABLES}
    for name, record in RECORDS.items():
        names[name] = names.get(name, set()) | {field.name for field in dataclasses.fields(record)}
    wrong = {name: (found & OTHER_COUNTS) - FOREIGN_NAMES.get(name, set()) for name, found in names.items()}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_records_have_typed_fields():
    wrong = {
        f"{name}.{field.name}"
        for name, record in RECORDS.items()
        for field in dataclasses.fields(record)
        if field.name == "details" or str(field.type).startswith("dict[str, Any]")
    }
    # The arguments of another call of ``load_dataset``, as JSON holds them.
    assert wrong == {"drl_density.datasets.dataset.Dataset.loading"}


def test_every_interval_is_a_method_with_a_probability():
    for name, member in CLASSES.items():
        if hasattr(member, "interval"):
            assert inspect.isfunction(member.interval), name
            probability = inspect.signature(member.interval).parameters["probability"]
            assert probability.default == 0.95, name
    assert any(hasattr(member, "interval") for member in CLASSES.values())


def attribute_types(member, attribute):
    """Types that a class declares for an attribute: of a field, an annotation or a property."""
    for part in member.__mro__:
        if attribute in vars(part).get("__annotations__", {}):
            yield typing.get_type_hints(part, names_of(part))[attribute]
        own = vars(part).get(attribute)
        if isinstance(own, property):
            yield typing.get_type_hints(own.fget, names_of(part)).get("return")


@functools.cache
def names_of(member):
    """Names of a module, and of those of its base classes, with what they import for type checkers only."""
    bases = member.__mro__ if inspect.isclass(member) else (member,)
    found = {}
    for name in {part.__module__ for part in bases if part.__module__.startswith("drl_density")}:
        found |= vars(importlib.import_module(name))
        for lines in for_type_checkers(name):
            exec(lines, found)
    return found


@functools.cache
def for_type_checkers(name):
    """What a module imports for type checkers only, compiled."""
    tree = ast.parse(inspect.getsource(importlib.import_module(name)))
    return [
        compile(ast.Module(node.body, []), name, "exec")
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]


def test_every_verdict_is_a_member_of_the_enumeration():
    found = {name: list(attribute_types(member, "verdict")) for name, member in CLASSES.items()}
    found = {name: kinds for name, kinds in found.items() if kinds}
    assert len(found) > 3
    assert {name: kinds for name, kinds in found.items() if set(kinds) != {Verdict}} == {}


# The score may be a validation loss.
NOT_A_NORMALISER = {"drl_density.training.evaluation.SelectionScore"}


def test_log_z_is_called_log_z():
    """No estimate of a normalising constant calls it ``value`` or ``log_evidence``."""
    wrong = [
        name
        for name, member in CLASSES.items()
        if any(
            hasattr(member, other) or other in getattr(member, "__dataclass_fields__", ())
            for other in ("value", "log_evidence")
        )
        and not issubclass(member, str)
    ]
    assert set(wrong) - NOT_A_NORMALISER == set()


def test_settings_are_frozen_records():
    assert {name for name, member in CLASSES.items() if name.endswith("Settings")} == set(SETTINGS)
    assert [name for name, record in SETTINGS.items() if not record.__dataclass_params__.frozen] == []


# Least arguments of settings that have no default for all of their fields.
REQUIRED = {
    "shape": (1, 8, 8),
    "num_classes": 3,
    "num_features": 4,
    "event_shape": (1, 8, 8),
    "num_channels": 4,
    "image_shape": (1, 8, 8),
}


def made(record):
    """A record from its defaults and the least that it requires."""
    required = {
        field.name: REQUIRED[field.name]
        for field in dataclasses.fields(record)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return record(**required)


def literals(kind):
    """Strings that a type names literally, in unions as well."""
    if typing.get_origin(kind) is typing.Literal:
        return [value for value in typing.get_args(kind) if isinstance(value, str)]
    return [value for part in typing.get_args(kind) for value in literals(part)] if is_union(kind) else []


def is_union(kind):
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def choices():
    """Every field of settings that is one of several strings."""
    for name, record in SETTINGS.items():
        for field, kind in typing.get_type_hints(record, names_of(record)).items():
            if literals(kind):
                yield pytest.param(record, field, literals(kind), id=f"{name.rpartition('.')[2]}.{field}")


@pytest.mark.parametrize(("record", "field", "right"), list(choices()))
def test_a_misspelt_choice_is_an_error_that_lists_the_right_ones(record, field, right):
    with pytest.raises(ValueError, match="misspelt") as caught:
        dataclasses.replace(made(record), **{field: "misspelt"})
    assert [word for word in right if word not in str(caught.value)] == []


def test_settings_that_a_public_function_takes_are_at_the_top():
    taken = set()
    for name, function in CALLABLES.items():
        hints = typing.get_type_hints(function, names_of(CLASSES.get(name, function)))
        for kind in hints.values():
            for part in typing.get_args(kind) if is_union(kind) else [kind]:
                if inspect.isclass(part) and part.__name__.endswith("Settings"):
                    taken.add(part)
    missing = {part.__name__ for part in taken if getattr(drl_density, part.__name__, None) is not part}
    assert len(taken) > 10
    assert missing == set()


@pytest.mark.parametrize("name", PACKAGES)
def test_no_function_hides_a_module(name):
    package = importlib.import_module(name)
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert set(getattr(package, "__all__", ())) & modules == set()
    for module in modules - {"__main__"}:
        importlib.import_module(f"{name}.{module}")
        assert inspect.ismodule(getattr(package, module)), module


HEAVY = ("Tensor", "Module", "ndarray", "DataTree", "xr.Dataset", "EnergySequence", "TransformModule")


def is_heavy(record):
    """Whether a record holds tensors, networks or tables, of which the plain repr prints every number."""
    return any(word in str(field.type) for field in dataclasses.fields(record) for word in HEAVY)


def test_records_of_tensors_have_a_repr_of_their_own():
    """The one that dataclasses write prints every number of every tensor."""
    made_by_dataclasses = {
        name
        for name, record in RECORDS.items()
        if is_heavy(record)
        and getattr(record.__repr__, "__wrapped__", record.__repr__).__code__.co_filename == "<string>"
    }
    assert made_by_dataclasses == set()


# Settings, which compare by value; a kernel with one scale for each coordinate is the rare one that cannot.
BY_VALUE = {f"drl_density.mcmc.{name}" for name in ("hmc.HMC", "langevin.MALA", "langevin.ULA")} | set(SETTINGS)
# Two boxes are the same box where their ends and cells are; they have no hash.
BY_VALUE |= {"drl_density.transforms.data_transform.Bounds"}


def test_records_of_tensors_compare_by_identity():
    """Comparing the fields would compare tensors, whose equality is no truth value, and leave the record unhashable."""
    heavy = {name for name, record in RECORDS.items() if is_heavy(record) and record.__eq__ is not object.__eq__}
    assert heavy - BY_VALUE == set()


@pytest.mark.parametrize(
    "record", [pytest.param(record, id=name.rpartition(".")[2]) for name, record in SETTINGS.items()]
)
def test_settings_compare_by_value(record):
    assert made(record) == made(record)
    assert hash(made(record)) == hash(made(record))


def test_reprs_are_short(tiny_density, tiny_data):
    dist = tiny_density.distribution()
    schedule = drl_density.NoiseSchedule.log_spaced(4)
    x = torch.zeros(3, 2)
    made_here = [
        tiny_density,
        tiny_data,
        dist,
        schedule,
        tiny_density.model,
        tiny_density.model.level(1),
        tiny_density.model.recovery(1).condition(x),
        tiny_density.transform,
        tiny_density.baselines,
        drl_density.tempered(dist, 0.5),
        drl_density.product([dist, dist]),
        drl_density.Mixture([dist, dist], [0.5, 0.5]),
        drl_density.HMC(),
        drl_density.MALA(scale=torch.ones(100)),
        drl_density.MALA(),
        drl_density.testing.GaussianMixtureSequence.example(),
    ]
    long = {type(each).__name__: len(repr(each)) for each in made_here if len(repr(each)) >= 300}
    assert long == {}
