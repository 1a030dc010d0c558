"""The house: every module imports alone, docstrings run, importing us changes nothing."""

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import drl_density

PACKAGE = Path(drl_density.__file__).parent
MODULES = sorted(module.name for module in pkgutil.walk_packages(drl_density.__path__, "drl_density."))
# Slow to import, or needed for a page or a picture only; a session that needs none of them loads none of them.
SLOW = ("arviz", "matplotlib", "pandas", "scipy", "sklearn", "xarray")


@pytest.mark.parametrize("name", ["drl_density", *MODULES])
def test_docstring_examples_run(name):
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def run_python(code):
    """Standard output of a new interpreter."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_package_alone_loads_nothing():
    assert run_python("import sys, drl_density; print('torch' in sys.modules)").strip() == "False"


@pytest.fixture(scope="module")
def imported():
    """What a new interpreter found: the modules of all public names but one, those after steps of our optimisers, and
    whether global state was as before, then and after the one that loads scikit-learn by inheritance.
    """
    return run_python("""
import sys, torch, pyro
def state():
    return (torch.get_default_dtype(), torch.get_rng_state().tolist(), torch.is_grad_enabled(),
            torch.distributions.Distribution._validate_args, pyro.settings.get(), torch.get_num_threads())
before = state()
import drl_density
for name in drl_density.__all__:
    if name != "DRLDensity":
        getattr(drl_density, name)
print(*sys.modules)
print(state() == before)
drl_density.DRLDensity
print(state() == before)
from drl_density.descent import Adam, AdamW
for kind in (Adam, AdamW):
    x = torch.ones(1, requires_grad=True)
    optimizer = kind([x])
    x.square().sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.zero_grad()
print(*sys.modules)
""").splitlines()


def test_importing_changes_nothing(imported):
    assert imported[1:3] == ["True", "True"]


def test_public_names_load_no_slow_library(imported):
    """Loads the modules of all public names but not the libraries that only some calls need.

    Nor do the steps of our optimisers load torch's compiler.
    """
    loaded, trained = imported[0], imported[3]
    assert "drl_density.density.density" in loaded.split()
    assert [name for name in SLOW if name in loaded.split()] == []
    assert "sklearn" in trained.split()
    assert "torch.optim.adamw" in trained.split()
    assert "torch._dynamo" not in trained.split()


def test_public_names_exist_and_are_documented():
    for name in drl_density.__all__:
        assert getattr(drl_density, name).__doc__, name


def facade():
    """Names by room as type checkers read them: the imports of ``drl_density/__init__.py`` under ``TYPE_CHECKING``."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {node.module: [alias.name for alias in node.names] for node in block.body}


def test_the_lists_of_public_names_agree():
    typed = facade()
    rooms = typed.pop("drl_density")
    assert rooms == drl_density._ROOMS.split()
    listed = {f"drl_density.{room}": sorted(names.split()) for room, names in drl_density._NAMES.items()}
    assert {room: sorted(names) for room, names in typed.items()} == listed
    assert sorted(drl_density.__all__) == sorted(name for names in typed.values() for name in names)
    assert len(set(drl_density.__all__)) == len(drl_density.__all__)
    assert {*drl_density.__all__, *rooms, "__version__"} <= set(dir(drl_density))


def test_every_room_is_reached_from_the_package():
    """All packages that export names but the command line, which nobody calls from Python."""
    packages = {module.name for module in pkgutil.iter_modules(drl_density.__path__) if module.ispkg}
    rooms = drl_density._ROOMS.split()
    exporting = {name for name in packages if getattr(importlib.import_module(f"drl_density.{name}"), "__all__", ())}
    assert exporting - {"cli"} <= set(rooms)
    assert set(drl_density._NAMES) <= set(rooms)
    for room in rooms:
        assert getattr(drl_density, room) is importlib.import_module(f"drl_density.{room}")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        drl_density.fitt  # noqa: B018


def test_rooms_import_nothing_from_the_package_itself():
    """The floors are checked without the imports of the package itself, so no room may reach another through it."""
    taken = {}
    for path in PACKAGE.rglob("*.py"):
        if path != PACKAGE / "__init__.py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module == "drl_density" and not node.level:
                    taken[str(path.relative_to(PACKAGE))] = [alias.name for alias in node.names]
                if isinstance(node, ast.Import) and any(alias.name == "drl_density" for alias in node.names):
                    taken[str(path.relative_to(PACKAGE))] = ["drl_density"]
    assert {path: names for path, names in taken.items() if names != ["__version__"]} == {}


TESTS = Path(__file__).parent
MOST_LINES, MOST_MODULES = 400, 12
# Entry points without code of their own.
WITHOUT_A_TEST = {"cli/__main__.py"}


def lines_of(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def test_every_module_has_its_test():
    """The test of ``drl_density/a/b.py`` is ``tests/a/test_b.py``."""
    modules = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    missing = [str(path) for path in modules if not (TESTS / path.parent / f"test_{path.name}").is_file()]
    assert sorted(set(missing) - WITHOUT_A_TEST) == []


def test_every_test_belongs_to_a_module_or_to_several():
    """Folders mirror the package; what crosses rooms is in ``integration`` or at the top."""
    mirrored = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    stray = [
        str(path.relative_to(TESTS))
        for path in TESTS.rglob("test_*.py")
        if path.parent not in (TESTS, TESTS / "integration")
        and path.relative_to(TESTS).parent / path.name.removeprefix("test_") not in mirrored
    ]
    assert sorted(stray) == []


def test_no_module_and_no_test_is_too_long():
    files = [*PACKAGE.rglob("*.py"), *(path for path in TESTS.rglob("*.py") if "benchmarks" not in path.parts)]
    assert {str(path): lines_of(path) for path in files if lines_of(path) > MOST_LINES} == {}


def test_no_folder_holds_too_many_modules():
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    counts = {str(folder): len(list(folder.glob("*.py"))) for folder in folders}
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def headings(page):
    """The title of a page, and its other headings."""
    title, *others = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE) or [page.stem]
    return title, others


def test_pages_that_messages_name_are_there():
    """Messages name pages by ``see(title, question)``, because an installed package has no ``docs`` folder."""
    pages = dict(map(headings, (PACKAGE.parent / "docs").glob("*.md")))
    texts = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    assert [text for text in texts if re.search(r"docs/\w+\.md", text)] == []
    calls = [node for text in texts if "see" in text for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    named = [[part.value for part in node.args] for node in calls if getattr(node.func, "id", "") == "see"]
    assert len(named) >= 8
    assert [name for name in named if name[0] not in pages or name[1:] and name[1] not in pages[name[0]]] == []
