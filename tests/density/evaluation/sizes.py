"""Sizes of small and of the smallest evaluations."""

import drl_density as drl

SMALL = drl.SandwichSettings(num_particles=64, num_replicates=4, num_mixing_steps=10, path_steps_per_level=12)


LEAST = drl.SandwichSettings(num_particles=16, num_replicates=2, num_mixing_steps=2, path_steps_per_level=4)
