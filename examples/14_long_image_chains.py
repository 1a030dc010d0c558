"""Do pictures stay pictures? Long adjusted chains at the reported level, started at data and at draws that began as noise.

Expected: a verdict (stable, slow or drifting) with R-hat, acceptance and the drift of the log density.
"""

import drl_density as drl


def main(
    num_steps: int = 2000,
    num_chains: int = 32,
    max_minutes: float | None = 10.0,
    settings: drl.FitSettings | None = None,
) -> object:
    """Fit and diagnose; returns the diagnosis."""
    data = drl.load_dataset("digits", seed=0)
    settings = settings or drl.FitSettings.preset("digits")
    density = drl.fit(data, seed=0, settings=settings, max_minutes=max_minutes, progress=False)
    found = density.diagnose(
        data.test, settings=drl.DiagnoseSettings(num_steps=num_steps, num_chains=num_chains), seed=0
    )
    print(found.summary())
    return found


if __name__ == "__main__":
    main()
