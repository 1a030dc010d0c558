"""How a target without levels decays, whether it has a finite integral, and whether draws reach its tails."""
