"""Every public docstring names every parameter, says what is raised, and has an example or a reason to have none."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import textwrap
from pathlib import Path

import drl_density

ROOMS = [
    "drl_density",
    *(room.name for room in pkgutil.walk_packages(drl_density.__path__, "drl_density.") if room.ispkg),
]


def public_objects():
    """Classes and functions of every ``__all__``, each once, by the module and name of its definition."""
    found = {}
    for room in map(importlib.import_module, ROOMS):
        for name in getattr(room, "__all__", ()):
            member = getattr(room, name)
            if inspect.isclass(member) or inspect.isfunction(member):
                found[f"{member.__module__}.{member.__qualname__}"] = member
    return found


PUBLIC = public_objects()

# Names without an example, by the reason. Dataclasses need none: what takes or returns them shows their use.
WITHOUT_EXAMPLE = {
    "takes a fit, which takes seconds: the README, the pages and the examples show it, and tests run those": """
        Density FittedModel Generator MarginalDensity combine fit fit_classes load_generator
    """,
    "takes networks or runs of some size, which its tests have": """
        propose sample_quality run_tempering train_member member_stages search_networks choose_pixels
    """,
    "takes a report, which takes a fit": """
        plot_chains plot_log_likelihood plot_occupancy plot_overlap plot_sandwich plot_segments plot_walks plot_weights
    """,
    "takes torchrun, or weights that are not here": "inception_features joined_workers num_restarts",
}
EXCUSED = [name for names in WITHOUT_EXAMPLE.values() for name in names.split()]
NOTATION = (Path(__file__).parents[1] / "docs" / "notation.md").read_text()
EVERYWHERE = set(re.findall(r"^\| `(\w+)` \|", NOTATION.partition("## Arguments")[2], re.MULTILINE))
"""Arguments that mean the same everywhere, which docs/notation.md defines once."""
LEAST_WORDS = 4


def is_contract(member):
    """Protocols and exceptions hold no code that somebody calls with arguments."""
    return inspect.isclass(member) and (getattr(member, "_is_protocol", False) or issubclass(member, BaseException))


def parameters_of(member):
    """Names a caller may give; of a class those of its construction."""
    if is_contract(member):
        return []
    if dataclasses.is_dataclass(member):
        return [field.name for field in dataclasses.fields(member) if field.init and not field.name.startswith("_")]
    if hasattr(member, "_fields"):
        return list(member._fields)
    if inspect.isclass(member):
        if "__init__" not in vars(member):
            return []
        member = member.__init__
    return [name for name in inspect.signature(member).parameters if name != "self" and not name.startswith("_")]


def is_named(name, text):
    """At the head of an entry of a section, or in literal text such as ``name`` or ``(name, d)``."""
    if name in EVERYWHERE:
        return True
    spans = " ".join(re.findall(r"``([^`]+)``", text))
    return re.search(rf"^\s+{name}: ", text, re.MULTILINE) or re.search(rf"\b{name}\b", spans)


def definitions(text):
    """The sections of a docstring that define arguments and attributes."""
    text = inspect.cleandoc(text)
    sections = re.findall(r"^(?:Args|Attributes):\n((?:    .*\n?|\n)*)", text, re.MULTILINE)
    return "\n".join(sections)


def raised_by(function):
    """Names of the exceptions that the body itself raises, not those of functions that it defines or calls."""
    found = set()

    def look(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.Raise) and child.exc is not None:
                error = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
                found.add(ast.unparse(error).split(".")[-1])
            look(child)

    look(ast.parse(textwrap.dedent(inspect.getsource(function))).body[0])
    return found


def functions_of(name, member):
    """(name, docstring, function) of everything whose body may raise: construction counts to the class."""
    if not inspect.isclass(member):
        yield name, member.__doc__, member
        return
    if is_contract(member):
        return
    for own, part in vars(member).items():
        function = getattr(part, "__func__", part)
        if not inspect.isfunction(function) or function.__module__ != member.__module__:
            continue
        if own in ("__init__", "__post_init__"):
            # What dataclasses make has no source.
            if function.__code__.co_filename != "<string>":
                yield name, member.__doc__, function
        elif not own.startswith("_"):
            yield f"{name}.{own}", function.__doc__, function


def test_every_parameter_is_named():
    missing = {
        name: [part for part in parameters_of(member) if not is_named(part, member.__doc__)]
        for name, member in PUBLIC.items()
    }
    assert {name: parts for name, parts in missing.items() if parts} == {}


CONTRACTS = [part for part in PUBLIC.values() if getattr(part, "_is_protocol", False)]


def is_of_a_contract(name, function, member):
    """Whether a method is that of a protocol here, or overrides one of torch, Pyro or scikit-learn, which name its
    parameters.
    """
    contracts = [part for part in CONTRACTS if part is not member]
    own = list(inspect.signature(function).parameters)
    if any(name in vars(part) and list(inspect.signature(vars(part)[name]).parameters) == own for part in contracts):
        return True
    foreign = [
        base for base in member.__mro__ if base.__module__.startswith(("torch.distributions", "pyro", "sklearn"))
    ]
    return any(name in vars(base) for base in foreign)


def test_every_parameter_of_methods_is_named():
    missing = {}
    for name, member in PUBLIC.items():
        for own, part in vars(member).items() if inspect.isclass(member) else ():
            function = getattr(part, "__func__", part)
            if own.startswith("_") or not inspect.isfunction(function) or is_of_a_contract(own, function, member):
                continue
            names = [word for word in inspect.signature(function).parameters if word not in ("self", "cls")]
            missing[f"{name}.{own}"] = [
                word for word in names if not word.startswith("_") and not is_named(word, function.__doc__)
            ]
    assert len(missing) > 100
    assert {place: words for place, words in missing.items() if words} == {}


FUNCTIONS = [found for name, member in PUBLIC.items() for found in functions_of(name, member)]
"""(place, docstring, function) of everything whose body may raise."""


def test_what_is_raised_is_said():
    assert [place for place, text, _ in FUNCTIONS if not text] == []
    raised = {(place, text, error) for place, text, function in FUNCTIONS for error in raised_by(function)}
    assert len(raised) > 100
    unsaid = {
        (place, error)
        for place, text, error in raised
        if not re.search(rf"^\s+{error}: ", text.partition("Raises:")[2], re.MULTILINE)
    }
    assert unsaid == set()


def test_an_example_runs_or_a_reason_is_given():
    """An example or a reason, and not both. Examples themselves are run by tests/test_house.py."""
    called = {
        name: member
        for name, member in PUBLIC.items()
        if not (is_contract(member) or dataclasses.is_dataclass(member) or hasattr(member, "_fields"))
    }
    assert len(called) > 100
    wrong = [name for name, member in called.items() if (">>> " in member.__doc__) == (member.__name__ in EXCUSED)]
    assert wrong == []


def test_definitions_say_something():
    """A definition of fewer than four words repeats the name: such a line is left out, or says more."""
    texts = {member.__doc__: name for name, member in PUBLIC.items()}
    texts |= {text: place for place, text, _ in FUNCTIONS}
    short = [
        f"{place}, {argument}: {words}"
        for text, place in texts.items()
        for argument, words in re.findall(
            r"^\s+(\w+): (.+(?:\n(?!\s+\w+: |\s*$).+)*)$", definitions(text or ""), re.MULTILINE
        )
        if len(words.split()) < LEAST_WORDS
    ]
    assert short == []


def test_reasons_are_of_names_that_are_there():
    assert sorted(set(EXCUSED) - {member.__name__ for member in PUBLIC.values()}) == []


def test_the_rules_notice():
    def careless(x, count):
        """Nothing about ``x``, and y: too."""
        if count:
            raise ValueError(x)

    assert is_named("x", careless.__doc__)
    assert not is_named("count", careless.__doc__)
    assert not is_named("y", careless.__doc__)
    assert raised_by(careless) == {"ValueError"}
    assert parameters_of(careless) == ["x", "count"]
