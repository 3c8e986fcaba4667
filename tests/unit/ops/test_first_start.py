"""Before a cluster's log is made nothing else may be another cluster's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eventlog.carrier import TopicMismatchError
from gateways.redis_driver import FastStoreUnfitError
from ops.cluster import check_first_start


class Place:
    """A database of which is said, look by look, whether it holds a log, and what is met beside it."""

    def __init__(self, *holds: bool, met: Exception | None = None) -> None:
        self._holds: Iterator[bool] = iter(holds)
        self._met = met
        self.checks = 0

    async def holds_log(self) -> bool:
        return next(self._holds)

    async def check(self) -> None:
        self.checks += 1
        if self._met is not None:
            raise self._met

    async def start(self) -> None:
        await check_first_start(self.holds_log, (self.check, self.check))


async def test_a_log_that_is_there_is_judged_by_its_own_id() -> None:
    place = Place(True, met=TopicMismatchError("of another log"))
    await place.start()
    assert place.checks == 0


async def test_a_new_log_is_made_where_nothing_is_of_another() -> None:
    place = Place(False)
    await place.start()
    assert place.checks == 2


@pytest.mark.parametrize("met", [TopicMismatchError("of another log"), FastStoreUnfitError("of another log")])
async def test_no_log_is_made_beside_what_is_of_another(met: Exception) -> None:
    with pytest.raises(type(met), match="of another log"):
        await Place(False, False, met=met).start()


async def test_what_a_process_made_that_starts_beside_is_no_hindrance() -> None:
    await Place(False, True, met=TopicMismatchError("of the new log")).start()
