"""Settings of the site: ``make docs`` builds it into runs/docs."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path

import drl_density as drl

HERE = Path(__file__).parent

project = "drl_density"
author = "the drl_density authors"
copyright = "2026, the drl_density authors"
release = version = drl.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "dollarmath"]

templates_path = ["_templates"]
autosummary_generate = True
# Members that a class inherits are shown with it, except those of classes outside the package.
OUTSIDE = """
object str Enum tuple UserWarning Module Distribution TorchDistributionMixin BaseEstimator DensityMixin _MetadataRequester
"""
autosummary_context = {"outside": ", ".join(OUTSIDE.split())}
autosummary_imported_members = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Blocks without a language are commands and printed figures.
highlight_language = "text"

# Columns of the help texts, which fit the width of a page.
HELP_WIDTH = 88

html_theme = "furo"
html_title = "drl_density"
html_static_path = ["_static"]
html_css_files = ["site.css"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


# Names of other packages in signatures link to their own sites, where their lists of names can be had.
SITES = {
    "arviz": "https://python.arviz.org/en/stable/",
    "numpy": "https://numpy.org/doc/stable/",
    "pandas": "https://pandas.pydata.org/docs/",
    "pyro": "https://docs.pyro.ai/en/stable/",
    "python": "https://docs.python.org/3/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "xarray": "https://docs.xarray.dev/en/stable/",
}


def inventories(sites: dict[str, str], folder: Path) -> dict[str, tuple[str, str]]:
    """Sites whose list of names is in ``folder``, or was downloaded to it; the others are named on standard error."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = []
    for name, site in sites.items():
        stored = folder / f"{name}.inv"
        if stored.exists():
            continue
        try:
            with urllib.request.urlopen(f"{site}objects.inv", timeout=3) as answer:
                content = answer.read()
        except (OSError, http.client.HTTPException):
            content = b""
        if content.startswith(b"# Sphinx inventory version"):
            stored.write_bytes(content)
        else:
            missing.append(name)
    if missing:
        print(f"no network: no links to the sites of {', '.join(missing)}", file=sys.stderr)
    return {name: (site, str(folder / f"{name}.inv")) for name, site in sites.items() if name not in missing}


intersphinx_mapping = inventories(SITES, HERE / "_generated" / "inventories")


def _write_command_pages(app: object) -> None:
    """The command reference, from the program itself."""
    pages = HERE / "_generated"
    pages.mkdir(exist_ok=True)
    overview = _help()
    commands = re.findall(r"^  (\w+)  ", overview, re.MULTILINE)
    lines = ["# Command reference", "", "These are the help texts of the program.", "", "```text", overview, "```", ""]
    for command in commands:
        lines += [f"## drl-density {command}", "", "```text", _help(command), "```", ""]
    (pages / "commands.md").write_text("\n".join(lines))


def _remove_old_stubs() -> None:
    """Remove generated pages of names that the API reference no longer lists, which no table of contents would hold."""
    listed = set(re.findall(r"^   (\w+)$", (HERE / "api.md").read_text(encoding="utf-8"), re.MULTILINE))
    for stub in (HERE / "_generated" / "api").glob("*.rst"):
        if stub.stem.rpartition(".")[2] not in listed:
            stub.unlink()


def _help(*command: str) -> str:
    """Plain help text of a command, at a fixed width; the program leaves it to the terminal to wrap paragraphs."""
    words = [sys.executable, "-m", "drl_density.cli", *command, "--help"]
    plain = os.environ | {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": str(HELP_WIDTH)}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=plain, cwd=HERE.parent)
    lines = done.stdout.rstrip().splitlines()
    return "\n".join(textwrap.fill(line, HELP_WIDTH) if len(line) > HELP_WIDTH else line for line in lines)


def setup(app: object) -> None:
    """Connect what is made before the pages are read."""
    _remove_old_stubs()
    app.connect("builder-inited", _write_command_pages)  # type: ignore[attr-defined]
