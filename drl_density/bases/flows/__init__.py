"""Autoregressive flows, and the monotone maps of single columns that they are made of."""

from drl_density.bases.flows.autoregressive import AutoregressiveFlow, AutoregressiveFlowSettings, Elementwise

__all__ = ["AutoregressiveFlow", "AutoregressiveFlowSettings", "Elementwise"]
