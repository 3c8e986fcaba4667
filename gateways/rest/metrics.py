"""Counters of the REST face."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class RestMetrics:
    """Requests by route, method and status, and their time by route."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "minutebook_rest_requests", "REST requests", ("route", "method", "status"), registry=registry
        )
        self._seconds = Histogram(
            "minutebook_rest_request_seconds",
            "Time of REST requests",
            ("route",),
            registry=registry,
            buckets=_SECONDS,
        )
        # As many as there are series; looking them up by their labels costs more than counting.
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request; `route` is its template, never its path, so that the number of series is bounded."""
        method = method if method in _METHODS else "other"
        series = self._series.get((route, method, status))
        if series is None:
            counter = self._requests.labels(route, method, str(status))
            series = self._series[route, method, status] = counter, self._seconds.labels(route)
        series[0].inc()
        series[1].observe(seconds)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
