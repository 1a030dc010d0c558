"""Do long chains of a fitted density stay where the data are? Adjusted chains start at data and at noise, and are passed
to ArviZ.

    dx = e^2/2 grad F_0(x) dt + e dW, with Metropolis acceptance

Expected: a verdict ("stable", "slow" or "drifting"), R-hat and effective sample sizes of every column.
"""

import drl_density as drl
from drl_density.density import Diagnosis
from drl_density.diagnostics import chain_table


def main(
    num_steps: int = 5_000, num_chains: int = 32, max_minutes: float = 2.0, settings: drl.FitSettings | None = None
) -> Diagnosis:
    """Fit, run the chains, print."""
    data = drl.load_dataset("banana", seed=0)
    density = drl.fit(data, seed=0, max_minutes=max_minutes, settings=settings, progress=False)
    found = density.diagnose(
        data.test, settings=drl.DiagnoseSettings(num_steps=num_steps, num_chains=num_chains), seed=0
    )
    print(found.summary())
    for name, row in chain_table(found.tree).items():
        print(f"{name}: mean {row['mean']:.3f}, R-hat {row['r_hat']:.3f}, bulk ESS {row['ess_bulk']:.0f}")
    trace = found.to_arviz()  # for az.plot_trace, az.plot_rank, az.plot_energy
    print(sorted(trace.groups() if callable(trace.groups) else trace.groups))
    return found


if __name__ == "__main__":
    main()
