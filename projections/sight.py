"""Who may know of whom: members of a common group and oneself, unless a block stands between the two."""

from __future__ import annotations

from collections.abc import Sequence

from projections.access import access_from
from projections.directory import blocked_between
from projections.reading import Reader, Reads, Source
from projections.store import Snapshot
from projections.timeline import memberships


class Sight(Reader):
    """Reads memberships and blocks."""

    def __init__(self, reads: Reads, timeline: Source, directory: Source) -> None:
        super().__init__(reads, timeline)
        self._directory = directory

    async def visible(self, tenant: str, user_id: str, others: Sequence[str]) -> list[str]:
        """Those of `others` whose presence the user may see, and who may see his, in the order given.

        One read, however many are named.
        """

        def answer(snapshot: Snapshot) -> list[str]:
            groups = _groups_of(snapshot, tenant, user_id)
            met = [other for other in others if other == user_id or _is_in(snapshot, groups, tenant, other)]
            with self._directory().snapshot() as directory:
                return [other for other in met if not blocked_between(directory, tenant, user_id, other)]

        return await self._read(answer)


def _groups_of(snapshot: Snapshot, tenant: str, user_id: str) -> frozenset[str]:
    """The streams of the groups that the user is in now."""
    found = (access_from(snapshot, member) for member in memberships(snapshot, tenant, user_id))
    return frozenset(
        access.stream for access in found if access is not None and access.current and access.kind == "group"
    )


def _is_in(snapshot: Snapshot, groups: frozenset[str], tenant: str, user_id: str) -> bool:
    """Whether the user is in one of these groups now."""
    return any(row[7] is None and row[0] in groups for row in memberships(snapshot, tenant, user_id))
