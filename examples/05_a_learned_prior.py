"""A fitted density as the prior of the coefficients of a regression. The posterior is drawn twice: by annealing, and by NUTS
in a Pyro model.

    x ~ p_0,   y_i | x ~ N(a_i x, 0.3^2), i = 1..4;   evidence = E_p0[prod_i N(y_i; a_i x, 0.3^2)]

Expected: the two posterior means agree; the log evidence comes with its error.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import MCMC, NUTS

import drl_density as drl


def main(
    num_draws: int = 500, max_minutes: float = 2.0, settings: drl.FitSettings | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit, regress four observations, and return both sets of draws of the coefficients."""
    data = drl.load_dataset("banana", seed=0)
    density = drl.fit(data, seed=0, max_minutes=max_minutes, settings=settings, progress=False)
    a = torch.tensor([[1.0, 1.0], [0.2, 1.0], [-0.3, 0.8], [0.1, -0.5]], dtype=torch.float64)
    y = torch.tensor([0.7, 0.6, 0.4, -0.2], dtype=torch.float64)
    found = density.posterior(lambda x: dist.Normal(x @ a.T, 0.3).log_prob(y).sum(-1), num_samples=num_draws, seed=0)
    print(f"log evidence {found.log_z:.3f} +- {found.standard_error:.3f}")
    prior = density.distribution()

    def model() -> None:
        x = pyro.sample("x", prior)
        pyro.sample("y", dist.Normal(a.to(x) @ x, 0.3).to_event(1), obs=y.to(x))

    pyro.set_rng_seed(0)
    mcmc = MCMC(NUTS(model), num_samples=num_draws, warmup_steps=num_draws // 2, disable_progbar=True)
    mcmc.run()
    by_annealing, by_nuts = found.draws, mcmc.get_samples()["x"]
    print(f"posterior mean by annealing {by_annealing.mean(0).tolist()}, by NUTS {by_nuts.mean(0).tolist()}")
    return by_annealing, by_nuts


if __name__ == "__main__":
    main()
