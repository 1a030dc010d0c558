"""EM distillation: a fitted density teaches a generator that needs one network call per draw; chains lead it back.

    E: correct (x_t, z) of the student towards the teacher by Langevin steps;  M: regress alpha_t g(z) onto the corrected x_t

Expected: a student that has most of the eight modes right and bridges between them, which adjusted chains of the density
begun at its draws remove. Its draws are not the density's; theirs are, as far as R-hat says. (Xie et al. 2024)
"""

import torch

import drl_density as drl
from drl_density.samplers import RefinementSettings


def main(
    num_updates: int = 600, num_steps: int = 200, max_minutes: float = 2.0, settings: drl.FitSettings | None = None
) -> dict[str, torch.Tensor]:
    """Fit, distil, correct; returns the draws by name."""
    data = drl.load_dataset("eight_gaussians", seed=0)
    density = drl.fit(data, seed=0, max_minutes=max_minutes, settings=settings, progress=False)
    student = density.distill(settings=drl.DistillSettings(method="em", num_updates=num_updates), seed=0)
    count = len(data.test)
    chains = student.correct(count, settings=RefinementSettings(num_steps=num_steps), seed=0)
    found = {"held-out rows": data.test.double(), "student, 1 call": student.sample(count, seed=1)}
    found["chains from the student"] = chains.draws
    for name, draws in found.items():
        print(f"{name:24s} mean log density of the model {float(density.log_prob(draws).mean()):.3f} nats")
    print(f"largest R-hat of the chains {float(chains.stats['r_hat'].max()):.3f}; {student}")
    return found


if __name__ == "__main__":
    main()
