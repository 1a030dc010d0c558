"""Settings hold numbers of the types, and in the ranges, that their annotations state."""

import dataclasses
import importlib
import math
import pkgutil
import types
from dataclasses import dataclass, field
from typing import Annotated, Union, get_args, get_origin

import numpy as np
import pytest
import torch

import drl_density
from drl_density.bases import PixelSettings
from drl_density.bases.flows.autoregressive import AutoregressiveFlowSettings
from drl_density.records.fields import (
    Chance,
    Interval,
    PositiveFloat,
    PositiveInt,
    PositiveOrInfinite,
    Share,
    _hints,
    check_fields,
)
from drl_density.records.literals import _choices


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class Outer:
    count: PositiveInt = 3
    rate: PositiveFloat | None = None
    share: Share = 0.5
    dropout: Chance = 0.0
    norm: PositiveOrInfinite = 1.0
    levels: tuple[Annotated[float, Interval(0)], ...] | None = None
    shape: tuple[int, int] = (1, 2)
    is_on: bool = False
    name: str = "x"
    part: Inner = field(default_factory=Inner)
    call: object = None

    def __post_init__(self) -> None:
        check_fields(self)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0}, "^count must be at least 1, got 0$"),
        ({"count": True}, "^count must be an integer, got True$"),
        ({"count": 2.0}, "^count must be an integer, got 2.0$"),
        ({"count": "2"}, "^count must be an integer, got '2'$"),
        ({"count": None}, "^count must be an integer, got None$"),
        ({"rate": 0}, "^rate must be positive or None, got 0$"),
        ({"rate": math.nan}, "^rate must be a finite number or None, got nan$"),
        ({"rate": math.inf}, "^rate must be a finite number or None, got inf$"),
        ({"rate": torch.tensor(1.0)}, "^rate must be a finite number"),
        ({"share": 1.5}, r"^share must lie in \[0, 1\], got 1.5$"),
        ({"share": False}, "^share must be a finite number, got False$"),
        ({"dropout": 1}, r"^dropout must lie in \[0, 1\), got 1$"),
        ({"norm": -math.inf}, "^norm must be a finite number, got -inf$"),
        ({"levels": (1.0, -1.0)}, "^levels must be a tuple in which every value must be at least 0 or None"),
        ({"levels": "12"}, "^levels must be a tuple or None, got '12'$"),
        ({"shape": (1, 2, 3)}, "^shape must be a tuple of 2 values"),
        ({"shape": (1, 2.5)}, "^shape must be a tuple in which every value must be an integer"),
        ({"is_on": 1}, "^is_on must be True or False, got 1$"),
        ({"is_on": "no"}, "^is_on must be True or False, got 'no'$"),
        ({"name": 1}, "^name must be a string, got 1$"),
        ({"part": 1}, "^part must be one of Inner, got 1$"),
    ],
)
def test_other_values_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Outer(**given)


def test_numbers_of_numpy_and_lists_become_those_of_python():
    made = Outer(count=np.int64(4), rate=np.float32(0.5), levels=[2, np.float64(1.0)], shape=[3, 4], is_on=np.True_)
    assert made == Outer(count=4, rate=0.5, levels=(2.0, 1.0), shape=(3, 4), is_on=True)
    plain = [made.count, made.rate, made.levels[1], made.is_on]
    assert [type(value) for value in plain] == [int, float, float, bool]
    assert Outer(norm=math.inf).norm == math.inf
    assert hash(made) == hash(dataclasses.replace(made))


def checked_classes():
    """Every dataclass of the package that checks its fields, and every public one named ``Settings``."""
    found = {}
    for module in pkgutil.walk_packages(drl_density.__path__, "drl_density."):
        if module.name.endswith("__main__"):
            continue
        for kind in vars(importlib.import_module(module.name)).values():
            if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__.startswith("drl_density"):
                if checks(kind) or kind.__name__.endswith("Settings"):
                    found[kind.__name__] = kind
    return found


def checks(kind):
    """Whether making an instance checks its fields."""
    made = getattr(kind, "__post_init__", None)
    return made is not None and "check_fields" in made.__code__.co_names


CLASSES = checked_classes()
REQUIRED = {
    "image_shape": (1, 8, 8),
    "event_shape": (1, 8, 8),
    "shape": (1, 8, 8),
    "num_features": 4,
    "num_inputs": 4,
    "num_outputs": 4,
    "target": 0.5,
    "rule": "last",
    "num_training_particles": 2,
    "num_particles": 2,
    "has_learned_constants": False,
    "propose": lambda count, generator: torch.randn(count, 4, generator=generator),
}


OBJECTS = {
    AutoregressiveFlowSettings: AutoregressiveFlowSettings(num_features=4),
    PixelSettings: PixelSettings((1, 8, 8)),
}


def made(kind, **given):
    known = REQUIRED | {"settings": OBJECTS.get(_hints(kind).get("settings"))}
    required = {
        part.name: known[part.name]
        for part in dataclasses.fields(kind)
        if part.default is dataclasses.MISSING and part.default_factory is dataclasses.MISSING
    }
    return kind(**required | given)


def is_union(hint):
    return get_origin(hint) in (Union, types.UnionType)


def parts_of(hint):
    """The types that an annotation allows, without their ranges."""
    if get_origin(hint) is Annotated:
        return parts_of(get_args(hint)[0])
    if is_union(hint):
        return [part for one in get_args(hint) for part in parts_of(one)]
    return [get_origin(hint) or hint]


def number_fields():
    for name, kind in CLASSES.items():
        for one, hint in _hints(kind).items():
            if {int, float, bool, tuple} & set(parts_of(hint)):
                yield name, kind, one, parts_of(hint)


def refuses(kind, name, value):
    """Whether a value is an error that names its field."""
    try:
        made(kind, **{name: value})
    except ValueError as error:
        return name in str(error)
    return False


def test_every_public_class_of_settings_checks_its_fields():
    assert [name for name, kind in CLASSES.items() if not checks(kind)] == []
    assert {"FitSettings", "TrainingSettings", "MLPNetwork", "AISSettings", "MMDSettings", "ChainSampler"} <= set(
        CLASSES
    )
    assert len(CLASSES) > 30


def test_every_number_of_settings_states_its_range():
    """A bare ``int`` or ``float`` takes any finite number; few fields do."""
    bare = {
        f"{name}.{one}"
        for name, kind in CLASSES.items()
        for one, hint in _hints(kind).items()
        if any(part in (int, float) for part in (get_args(hint) if is_union(hint) else (hint,)))
    }
    # Each is checked by its class together with another field.
    assert bare == {
        "AmbientSettings.hidden_share",
        "LogSpacedSchedule.sigma_max",
        "LogSpacedSchedule.sigma_min",
        "SandwichSettings.most_rounds",
    }


def numbers_of_no_such_kind(allowed):
    """Values that no number of the allowed types is."""
    yield from (math.nan, -math.inf, "nope", torch.ones(2), [[]], 1 if bool in allowed else True)
    if float not in allowed:
        yield 2.5
    if not {tuple, bool} & set(allowed):
        yield -1


def test_every_setting_refuses_what_is_no_number_of_its_kind():
    given = [
        (f"{name}.{one}", value, refuses(kind, one, value))
        for name, kind, one, allowed in number_fields()
        for value in numbers_of_no_such_kind(allowed)
    ]
    assert len(given) > 1000
    assert [(place, value) for place, value, is_refused in given if not is_refused] == []


def test_a_setting_that_is_an_object_refuses_another():
    given = [
        (f"{name}.{one}", refuses(kind, one, "nope"))
        for name, kind in CLASSES.items()
        for one, hint in _hints(kind).items()
        if "Kernel" in str(hint) or one in _choices(kind)
    ]
    assert len(given) > 20
    assert [place for place, is_refused in given if not is_refused] == []
