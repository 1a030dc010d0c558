"""The evidence of Pyro models, with posterior draws, and comparisons of it."""

from drl_density.model_evidence.comparison import ComparedModel, Decision, EvidenceComparison, EvidenceDifference
from drl_density.model_evidence.entry import compare_evidence, evidence
from drl_density.model_evidence.record import ModelEvidence

__all__ = [
    "ComparedModel",
    "Decision",
    "EvidenceComparison",
    "EvidenceDifference",
    "ModelEvidence",
    "compare_evidence",
    "evidence",
]
