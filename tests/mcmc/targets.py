"""Kernels and log densities on which the tests of chains run."""

import math

import torch

from drl_density.mcmc import HMC, MALA, ULA

KERNELS = {"ULA": ULA, "MALA": MALA, "HMC1": lambda **k: HMC(1, **k), "HMC4": lambda **k: HMC(4, **k)}
ADJUSTED = [name for name in KERNELS if name != "ULA"]
PRECISION = torch.tensor([[2.0, 0.9], [0.9, 1.0]], dtype=torch.float64)


def correlated(x):
    return -0.5 * torch.einsum("bi,ij,bj->b", x, PRECISION, x)


def two_modes(x):
    return torch.logaddexp(-0.5 * (x[:, 0] - 1) ** 2, math.log(0.5) - 0.5 * ((x[:, 0] + 1) / 0.5) ** 2)


def normal(x):
    return -0.5 * x.square().reshape(len(x), -1).sum(1)
