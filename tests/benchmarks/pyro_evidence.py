"""`drl.evidence` on Pyro models of known evidence: python tests/benchmarks/pyro_evidence.py [--seeds 3] [--models coin ...]

Truths are closed forms, or quadrature over the one or two coordinates that closed forms leave.
"""

import argparse
import math
import time
import warnings

import pyro
import pyro.distributions as dist
import torch

import drl_density as drl

Y = torch.tensor([0.3, -1.1, 2.0, 0.7, -0.2, 1.4], dtype=torch.float64)
X = torch.stack([torch.ones(6), torch.linspace(-1, 1, 6), torch.linspace(-1, 1, 6) ** 2], 1).double()
SEEN = torch.tensor([True, False, True, True, False, True])
COUNTS = torch.tensor([3.0, 5.0, 2.0])
SCHOOLS = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12]), torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18])


def normal():
    mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
    with pyro.plate("rows", 6):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=Y)


def masked():
    mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
    with pyro.plate("rows", 6):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=Y, obs_mask=SEEN)


def coin():
    pyro.sample("heads", dist.Binomial(10, pyro.sample("share", dist.Beta(1.0, 1.0))), obs=torch.tensor(7.0))


def counts():
    pyro.sample("k", dist.Multinomial(10, pyro.sample("p", dist.Dirichlet(torch.ones(3)))), obs=COUNTS)


def regression():
    weights = pyro.sample("weights", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(X @ weights, 0.7).to_event(1), obs=Y)


def single():
    """The same in float32, with a design that no caller gave."""
    weights = pyro.sample("weights", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(X.float() @ weights, 0.7).to_event(1), obs=Y.float())


def unknown_variance():
    variance = pyro.sample("variance", dist.InverseGamma(3.0, 2.0))
    mean = pyro.sample("mean", dist.Normal(0.0, (2 * variance).sqrt()))
    with pyro.plate("rows", 6):
        pyro.sample("y", dist.Normal(mean, variance.sqrt()), obs=Y)


def mixture():
    mean = pyro.sample("mean", dist.Normal(1.0, 2.0))
    with pyro.plate("rows", 6):
        kind = pyro.sample("kind", dist.Categorical(torch.tensor([0.3, 0.7])))
        pyro.sample("y", dist.Normal(torch.where(kind == 0, -1.0, mean), 0.5), obs=Y)


def small_shapes():
    pyro.sample("p", dist.Dirichlet(torch.full((10,), 0.1)))


def schools():
    mean = pyro.sample("mean", dist.Normal(0.0, 5.0))
    scale = pyro.sample("scale", dist.HalfCauchy(5.0))
    with pyro.plate("schools", 8):
        effect = pyro.sample("effect", dist.Normal(mean, scale))
        pyro.sample("y", dist.Normal(effect, SCHOOLS[1]), obs=SCHOOLS[0])


def gaussian(covariance, y=Y):
    return float(dist.MultivariateNormal(torch.zeros_like(y), covariance).log_prob(y))


def mixture_truth():
    mean = torch.linspace(-20, 20, 40001, dtype=torch.float64)[:, None]
    near, far = dist.Normal(-1.0, 0.5).log_prob(Y) + math.log(0.3), dist.Normal(mean, 0.5).log_prob(Y) + math.log(0.7)
    joint = torch.logaddexp(near, far).sum(1) + dist.Normal(1.0, 2.0).log_prob(mean[:, 0])
    return float(joint.logsumexp(0)) + math.log(1e-3)


def variance_truth():
    """y is Student-t with 6 degrees: covariance (I + 2) times b / a."""
    scale = (2 / 3 * (torch.eye(6, dtype=torch.float64) + 2))
    scale = torch.linalg.cholesky(scale)
    return float(dist.MultivariateStudentT(torch.tensor(6.0).double(), torch.zeros(6).double(), scale).log_prob(Y))


EYE = torch.eye(6, dtype=torch.float64)
TRUTHS = {
    normal: lambda: gaussian(EYE + 4),
    masked: lambda: gaussian(EYE[:4, :4] + 4, Y[SEEN]),
    coin: lambda: -math.log(11),
    counts: lambda: float(dist.DirichletMultinomial(torch.ones(3).double(), 10).log_prob(COUNTS.double())),
    regression: lambda: gaussian(0.49 * EYE + X @ X.T),
    single: lambda: gaussian(0.49 * EYE + X @ X.T),
    unknown_variance: variance_truth,
    mixture: mixture_truth,
    small_shapes: lambda: 0.0,
    schools: lambda: -31.311427124256973,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--models", nargs="*", default=[model.__name__ for model in TRUTHS])
    parser.add_argument("--num-particles", type=int, default=128)
    args = parser.parse_args()
    warnings.simplefilter("ignore", drl.DRLDensityWarning)
    settings = drl.SandwichSettings(num_particles=args.num_particles)
    print("model             seed  truth      log Z      interval                error    half widths  verdict     seconds")
    for model, truth in TRUTHS.items():
        for seed in range(args.seeds if model.__name__ in args.models else 0):
            began, exact = time.perf_counter(), truth()
            found = drl.evidence(model, seed=seed, settings=settings)
            error, half_width = found.log_z - exact, (found.upper - found.lower) / 2
            print(
                f"{model.__name__:17s} {seed:4d}  {exact:9.4f}  {found.log_z:9.4f}  "
                f"[{found.lower:9.4f}, {found.upper:9.4f}]  "
                f"{error:+.4f}  {abs(error) / half_width:11.2f}  {found.verdict:10s}  {time.perf_counter() - began:7.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
