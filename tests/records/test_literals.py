"""Settings hold one of the values that their annotations list."""

import dataclasses
import importlib
import pkgutil
from dataclasses import dataclass
from typing import Literal

import pytest

import drl_density
from drl_density.records.literals import _choices, check_literals


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class Other:
    size: int = 1


@dataclass(frozen=True)
class Outer:
    mode: Literal["a", "b"] = "a"
    order: Literal[1, 2] | None = None
    part: Inner | Other = Inner()
    name: str = "anything"

    def __post_init__(self) -> None:
        check_literals(self)


def settings_classes():
    """Every frozen dataclass of the package whose name says that it holds choices and that has a ``Literal`` field."""
    found = {}
    for module in pkgutil.walk_packages(drl_density.__path__, "drl_density."):
        if module.name.endswith("__main__"):
            continue
        for kind in vars(importlib.import_module(module.name)).values():
            if not isinstance(kind, type) or not kind.__module__.startswith("drl_density."):  # imported from elsewhere
                continue
            if dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen:
                if any("Literal[" in str(field.type) for field in dataclasses.fields(kind)):
                    found[f"{kind.__module__}.{kind.__qualname__}"] = kind
    return found


def has_default(field):
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


SETTINGS = settings_classes()
FIELDS = [(name, field) for name, kind in SETTINGS.items() for field, (values, _) in _choices(kind).items() if values]


def test_the_table_is_not_empty():
    """The walk over the package finds settings of several rooms."""
    rooms = {name.split(".")[1] for name in SETTINGS}
    assert {"density", "training", "distillation"} <= rooms


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_a_misspelt_literal_is_refused_with_the_right_ones(name, field):
    values, _ = _choices(SETTINGS[name])[field]
    required = {part.name: 1 for part in dataclasses.fields(SETTINGS[name]) if not has_default(part)}
    with pytest.raises(ValueError, match=f"{field} must be one of .*got 'misspelt'") as caught:
        SETTINGS[name](**{**required, field: "misspelt"})
    assert all(repr(value) in str(caught.value) for value in values)


def test_the_listed_values_pass():
    assert Outer("b", 2, Other(3), "x").part.size == 3
    assert Outer(order=None).order is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "c"}, "mode must be one of 'a', 'b', got 'c'"),
        ({"mode": None}, "mode must be one of 'a', 'b', got None"),
        ({"order": True}, "order must be one of 1, 2, None, got True"),
        ({"order": 1.0}, "order must be one of 1, 2, None, got 1.0"),
        ({"part": "other"}, "part must be one of Inner, Other, got 'other'"),
    ],
)
def test_other_values_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Outer(**given)
