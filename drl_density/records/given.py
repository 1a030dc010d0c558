"""Settings that a call is given, or those it has by default."""

from __future__ import annotations

from typing import TypeVar

Settings = TypeVar("Settings")


def given_or_default(
    given: Settings | None, kind: type[Settings], *, default: Settings | None = None, name: str = "settings"
) -> Settings:
    """The settings given, or the default where none are.

    Args:
        given: settings of a call, or None.
        kind: class of its settings.
        default: settings where none are given; ``kind()`` where not given itself.
        name: name of the argument, for the message.

    Raises:
        TypeError: settings of another class, such as those of another sampler.

    >>> from drl_density.samplers import DDIMSettings, FlowSettings
    >>> given_or_default(None, DDIMSettings).num_steps
    50
    >>> given_or_default(FlowSettings(), DDIMSettings)
    Traceback (most recent call last):
    ...
    TypeError: settings must be of the class DDIMSettings, got FlowSettings: give DDIMSettings(...), or None for its defaults
    """
    if given is None:
        return kind() if default is None else default
    if not isinstance(given, kind):
        raise TypeError(
            f"{name} must be of the class {kind.__name__}, got {type(given).__name__}: give {kind.__name__}(...), or None "
            "for its defaults"
        )
    return given
