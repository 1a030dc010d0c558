"""The names, files, links and headings on the README and the pages exist."""

import contextlib
import importlib
import inspect
import re

import pytest

import drl_density as drl
from tests.test_readme import PAGES, ROOT

HELD = {"density": drl.Density, "report": drl.LikelihoodReport, "data": drl.Dataset, "dist": drl.EnergyDistribution}
VARIABLES = {"density", "mcmc", "model", "training"}
"""Rooms whose names are those of variables on the pages; there only what follows ``drl`` is looked up."""
FILE_SUFFIXES = {"html", "nc", "csv", "md", "json", "py", "npz", "safetensors"}
ROOTS = [ROOT, ROOT / "drl_density", ROOT / "docs"]


def code_of(page):
    """Every code span and every fenced Python block of a page."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [*blocks, *re.findall(r"`([^`]+)`", rest)]


def has_attribute(kind, name):
    """Whether instances of a class have an attribute: a method, a property, a field, or one that is annotated."""
    return hasattr(kind, name) or any(name in vars(part).get("__annotations__", {}) for part in kind.__mro__)


def is_there(dotted):
    """Whether a name such as ``Density.load`` or ``samplers.sample_ddim`` is reached from the package."""
    held = drl
    for name in dotted.split("."):
        if inspect.isclass(held) and has_attribute(held, name) and not hasattr(held, name):
            return True
        if not hasattr(held, name):
            with contextlib.suppress(ImportError):
                importlib.import_module(f"{held.__name__}.{name}")
        if not hasattr(held, name):
            return False
        held = getattr(held, name)
    return True


def unknown_names(code):
    """Names of the package, of its rooms and of the objects in ``HELD`` that are not there."""
    rooms = "|".join(set(drl._ROOMS.split()) - VARIABLES)
    dotted = re.findall(r"(?<![\w./])(?:drl|drl_density)\.((?:[A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)*)", code)
    dotted += re.findall(rf"(?<![\w./])((?:{rooms})(?:\.[A-Za-z_]\w*)+)", code)
    for name in dotted:
        first, second = (name.split(".") + [""])[:2]
        if second in FILE_SUFFIXES:
            continue
        if not is_there(name) and not (first in HELD and has_attribute(HELD[first], second)):
            yield name
    for held, kind in HELD.items():
        for name in re.findall(rf"(?<![\w./]){held}\.([a-z_]\w*)", code):
            if not has_attribute(kind, name) and name not in FILE_SUFFIXES:
                yield f"{held}.{name}"


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_names_on_the_pages_exist(page):
    assert [name for code in code_of(page) for name in unknown_names(code)] == []


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_files_and_links_on_the_pages_exist(page):
    paths = [
        path
        for code in code_of(page)
        for path in re.findall(r"(?<![\w./-])((?:[\w-]+/)+[\w-]+\.(?:py|md)|drl_density(?:/\w+)*/)(?![\w/])", code)
    ]
    assert [path for path in paths if not any((root / path).exists() for root in ROOTS)] == []
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def headings_of(page):
    """The anchors of a page's headings, as the site and GitHub make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_links_lead_to_headings_that_exist():
    lost = []
    for page in PAGES:
        for name, anchor in re.findall(r"\]\(([^)#:]*)#([^)]*)\)", page.read_text(encoding="utf-8")):
            if anchor not in headings_of(page.parent / name if name else page):
                lost.append((page.name, name, anchor))
    assert lost == []
    assert headings_of(ROOT / "docs" / "faq.md") >= {"does-it-run-on-a-gpu", "the-verdict-is-not-reliable-what-now"}


def test_every_public_name_is_in_the_reference():
    listed = re.findall(r"^   (\w+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(drl.__all__)


def test_every_page_is_in_the_index():
    trees = "\n".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("index.md", "gallery.md"))
    listed = re.findall(r"^(?:examples/)?\w+$", trees, re.MULTILINE)
    inside = [page for page in PAGES if page.is_relative_to(ROOT / "docs")]
    names = [page.relative_to(ROOT / "docs").with_suffix("").as_posix() for page in inside]
    assert sorted(listed) == sorted(set(names) - {"index"})


def test_the_checks_of_names_notice():
    code = "drl.fitt(data); density.no_method(3); samplers.sample_dim; drl.Density.loads"
    assert list(unknown_names(code)) == ["fitt", "Density.loads", "samplers.sample_dim", "density.no_method"]
    assert (
        list(unknown_names("drl.Density.load(path).sample(3); density.baselines; drl.errors.Verdict; report.nc")) == []
    )
