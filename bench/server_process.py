"""An embedded server in a process of its own for benchmarks: prints one JSON line with its address and an app key, then serves."""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import json
import os
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop

from ops.serving import serve
from ops.settings import load_settings
from ops.wiring import Server


async def _main(data: Path, profile: str | None) -> None:
    key: tuple[str, str] = ("", "")

    @contextlib.asynccontextmanager
    async def with_key(server: Server) -> AsyncIterator[None]:
        nonlocal key
        key = await server.faces.app_keys.create("default")
        task = asyncio.current_task()
        assert task is not None
        yield
        counters = server.node.counters
        figures = {
            "flushes": server.node.flush_counters.flushes,
            "commits": counters.commits,
            "encodings": server.faces.pusher.counters.encodings,
            "deliveries": server.faces.pusher.counters.deliveries,
            "threads": {str(thread.native_id): thread.name for thread in threading.enumerate()},
        }
        print(json.dumps(figures), flush=True)

    def started(url: str, _metrics_url: str | None) -> None:
        print(json.dumps({"url": url, "pid": os.getpid(), "key": key[0], "secret": key[1]}), flush=True)

    settings = load_settings(
        None, {"port": 0, "data": data, "rate_limit": "off", "log_level": "warning", "drain_s": 0}
    )
    if profile is None:
        await serve(settings, started, with_key)
        return
    profiler = cProfile.Profile()
    profiler.enable()
    try:
        await serve(settings, started, with_key)
    finally:
        profiler.disable()
        profiler.dump_stats(profile)


if __name__ == "__main__":
    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    uvloop.run(_main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
