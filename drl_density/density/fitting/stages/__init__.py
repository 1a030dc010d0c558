"""Training of the members of a fit, each through its stages."""

from drl_density.density.fitting.stages.member import TrainedMember, member_stages, train_member
from drl_density.density.fitting.stages.time import Budget, Clock, Pace, more_minutes
from drl_density.density.fitting.stages.trials import search_networks

__all__ = ["Budget", "Clock", "Pace", "TrainedMember", "member_stages", "more_minutes", "search_networks", "train_member"]
