"""Which streams a gateway wants: counted, since sessions and sockets want the same ones, and given up late, since people come back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from gateways.push.settings import PushSettings

Change = Callable[[str, bool], None]
"""Takes the stream, and whether it is wanted from now on."""


class Wants:
    """`changed` is told of every stream that is wanted newly, and of those that nobody has wanted for a while."""

    def __init__(self, changed: Change, now_s: Callable[[], float], settings: PushSettings) -> None:
        self._changed = changed
        self._now_s = now_s
        self._settings = settings
        self._counts: dict[str, int] = {}
        self._idle: OrderedDict[str, float] = OrderedDict()
        """Those that are wanted by nobody, and since when; the oldest first."""

    def __contains__(self, stream: object) -> bool:
        return stream in self._counts

    def __len__(self) -> int:
        return len(self._counts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def want(self, stream: str) -> None:
        """One more wants it."""
        count = self._counts.get(stream)
        if count is None:
            self._counts[stream] = 1
            self._changed(stream, True)
            return
        if not count:
            del self._idle[stream]
        self._counts[stream] = count + 1

    def unwant(self, stream: str) -> None:
        """One wants it no more. Raises KeyError if nobody did."""
        count = self._counts[stream]
        if not count:
            raise KeyError(stream)
        self._counts[stream] = count - 1
        if count == 1:
            self._idle[stream] = self._now_s()
            if len(self._idle) > self._settings.idle_max:
                self._give_up(next(iter(self._idle)))

    def sweep(self) -> None:
        """Give up what has been idle for long enough."""
        before_s = self._now_s() - self._settings.linger_s
        while self._idle:
            stream, since_s = next(iter(self._idle.items()))
            if since_s > before_s:
                return
            self._give_up(stream)

    def _give_up(self, stream: str) -> None:
        del self._idle[stream]
        del self._counts[stream]
        self._changed(stream, False)
