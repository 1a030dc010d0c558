"""A fitted density as the prior of a noisy measurement, twice: by annealing, and by NUTS inside a Pyro model.

    x ~ p_0,   y | x ~ N(x_0 + x_1, 0.3^2);   evidence = E_p0[N(y; x_0 + x_1, 0.3^2)]

Expected: two posterior means that agree, and the log evidence with its error.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import MCMC, NUTS

import drl_density as drl


def main(
    num_draws: int = 500, max_minutes: float = 2.0, settings: drl.FitSettings | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit, condition on y = 0.5, and return both posterior means."""
    data = drl.load_dataset("banana", seed=0)
    density = drl.fit(data, seed=0, max_minutes=max_minutes, settings=settings, progress=False)
    y = torch.tensor(0.5, dtype=torch.float64)
    found = density.posterior(lambda x: dist.Normal(x.sum(-1), 0.3).log_prob(y), num_draws=num_draws)
    print(f"log evidence {found.log_evidence:.3f} +- {found.standard_error:.3f}")
    prior = density.distribution()

    def model() -> None:
        x = pyro.sample("x", prior)
        pyro.sample("y", dist.Normal(x.sum(-1), 0.3), obs=y)

    pyro.set_rng_seed(0)
    mcmc = MCMC(NUTS(model), num_samples=num_draws, warmup_steps=num_draws // 2, disable_progbar=True)
    mcmc.run()
    by_annealing, by_nuts = found.draws.mean(0), mcmc.get_samples()["x"].mean(0)
    print(f"posterior mean by annealing {by_annealing.tolist()}, by NUTS {by_nuts.tolist()}")
    return by_annealing, by_nuts


if __name__ == "__main__":
    main()
