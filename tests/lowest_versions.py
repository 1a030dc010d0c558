"""Constraints that pin each dependency to the lowest version that pyproject.toml allows.

``python tests/lowest_versions.py > constraints.txt`` prints them for the Python that runs it. torch is left out, since its
builds for CPUs are not on every index.
"""

import re
import sys
import tomllib
from pathlib import Path


def lowest_versions(project, python):
    """Lines such as ``numpy==1.26`` for the dependencies of a project and of its extras for users.

    Args:
        project: table ``project`` of a pyproject.toml.
        python: version of Python, such as ``(3, 11)``.
    """
    extras = project["optional-dependencies"]
    for requirement in [*project["dependencies"], *extras["tables"], *extras["images"]]:
        name, lowest, sign, version = re.fullmatch(
            r"([\w.-]+)(?:\[\w+\])?>=([\w.]+)[^;]*(?:; python_version (<|>=) '([\d.]+)')?", requirement
        ).groups()
        applies = sign is None or (python >= tuple(map(int, version.split(".")))) == (sign == ">=")
        if name != "torch" and applies:
            yield f"{name}=={lowest}"


if __name__ == "__main__":
    pyproject = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    print("\n".join(lowest_versions(pyproject["project"], sys.version_info[:2])))
