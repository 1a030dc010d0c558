"""Other packages' estimators of log Z."""

from __future__ import annotations

from tests.benchmarks.log_z.contract import Rival

RIVALS: dict[str, Rival] = {}
"""Rivals by name."""
