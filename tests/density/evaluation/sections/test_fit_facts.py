"""What a report says about the fit itself."""

import dataclasses

from drl_density.density import Baselines, Provenance
from drl_density.density.evaluation.sections.fit_facts import FitFacts
from tests.density.closed_form import closed_form_density


def test_faults_of_the_fit_are_remarks():
    density = closed_form_density()
    sound = FitFacts(density).attributes()
    assert sound["remarks"] == ""
    assert sound["level_noise"] == float(density.model.schedule.sigma_at(0))
    faulty = dataclasses.replace(
        density, baselines=Baselines(-2.0, -1.0, -3.0), provenance=Provenance("a table", best_step={"gaussian-0": 0})
    )
    found = FitFacts(faulty).attributes()
    assert (found["name"], found["validation_model"], found["validation_gaussian"]) == ("a table", -2.0, -1.0)
    assert "untrained model" in str(found["remarks"])
    assert "below its floor" in str(found["remarks"])
    assert FitFacts(faulty).groups() == {}
