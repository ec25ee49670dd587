"""A server in a thread, for tests that ask it from outside."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from vidcap.inspector.entries import Borders
from vidcap.inspector.index import ShardIndex
from vidcap.inspector.server import serve


@contextlib.contextmanager
def local_page(folder: Path, *, borders: Borders | None = None) -> Iterator[str]:
    """Serve the shards of `folder` on a free port; gives the address."""
    ready = threading.Event()
    told: list[str] = []
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    failed: list[BaseException] = []

    def tell(address: str) -> None:
        told.append(address)
        ready.set()

    async def main() -> None:
        end = asyncio.Event()
        loops.append((asyncio.get_running_loop(), end))
        await serve(ShardIndex([folder]), title="page", borders=borders, ready=tell, until=end.wait())

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # the test must hear of it
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(120)
    try:
        if failed:
            raise failed[0]
        yield told[0]
    finally:
        loop, end = loops[0]
        if not loop.is_closed():
            loop.call_soon_threadsafe(end.set)
        thread.join(120)
        assert not failed and not thread.is_alive()
