"""One service's process: settings, logs, collector, loop, exit status. Lanes and Faust apps share it."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from services.errors import BadSetup, DoormanError, Unavailable
from services.kafka import is_told
from services.observe import event, rest_collector, start_logging
from services.settings import Settings, load

# Waiting for a broker or for topics that are still being made at start; after that, refuse.
START_SECONDS = 60.0
# What is left when a service has cleaned up is aiokafka's and Faust's: while brokers are away it may never end.
END_SECONDS = 3.0

log = logging.getLogger(__name__)


class Service(Protocol):
    """What a process runs: until `stop_on_signals` says so."""

    async def run(self) -> int:
        """Work until told to stop; returns the exit status."""


def launch(
    service: str,
    build: Callable[[Settings], Service],
    loop: Callable[[Coroutine[Any, Any, int]], int] = asyncio.run,
) -> int:
    """Run a service, as a process's last act; returns the exit status, 2 when the setup is wrong."""
    start_logging(service)
    rest_collector()
    try:
        settings = load()
    except BadSetup as error:
        return _refused(error)
    return loop(_run(build, settings))


async def _run(build: Callable[[Settings], Service], settings: Settings) -> int:
    asyncio.get_running_loop().set_exception_handler(_unretrieved)
    status = 1
    try:
        status = await build(settings).run()
    except (BadSetup, Unavailable) as error:
        status = _refused(error)
    except Exception:
        log.exception("failed")
    _end_within(END_SECONDS, status)
    return status


def _refused(error: DoormanError) -> int:
    event(log, "refused", logging.ERROR, why=str(error))
    return 2 if isinstance(error, BadSetup) else 1


def _end_within(seconds: float, status: int) -> None:
    """End the process with its status by then, whatever tasks and threads remain."""

    def end() -> None:
        logging.shutdown()
        os._exit(status)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def stop_on_signals(over: asyncio.Event) -> None:
    """SIGTERM and SIGINT set `over`."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)


def _unretrieved(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not is_told(context.get("exception")):
        loop.default_exception_handler(context)
