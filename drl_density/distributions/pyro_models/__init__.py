"""Pyro models as unnormalised densities over their latent sites."""

from drl_density.distributions.pyro_models.joint import JointDensity, joint_density

__all__ = ["JointDensity", "joint_density"]
