"""What a process may do, by name."""

from __future__ import annotations

from enum import StrEnum

from ops.settings import Settings, SettingsError


class Role(StrEnum):
    """What a process may do."""

    GATEWAY = "gateway"
    OWNER = "owner"
    RELAY = "relay"
    PROJECTOR = "projector"
    PUSHER = "pusher"
    JOBS = "jobs"


def roles_of(settings: Settings) -> frozenset[Role]:
    """The roles that the settings name. Raises SettingsError."""
    try:
        return frozenset(Role(name) for name in settings.roles)
    except ValueError:
        known = ", ".join(Role)
        raise SettingsError(f"roles: {', '.join(settings.roles)}: there are only {known}") from None
