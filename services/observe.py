"""A process seen from outside: /metrics, /healthz, /readyz, and logs as JSON lines without message text."""

import asyncio
import errno
import gc
import logging
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from services import codec
from services.errors import BadSetup, DoormanError
from services.metrics import READY
from services.settings import Settings, address

PORTS = {"ingest": 9101, "classify": 9102, "action": 9103, "campaigns": 9104, "casebook": 9105}
STALL_SECONDS = 30.0
# While a broker is down, every client of a process says so twenty times a second.
REPEAT_SECONDS = 10.0
MAX_SAYINGS = 1000
OURS = ("services", "__main__")  # a module that is run is not called by its name
# The longest text that a command may give, each letter escaped, is 3 MiB.
MAX_BODY_BYTES = 4 * 1024 * 1024

log = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """One JSON object a line. Of a foreign exception only type and place are told: its words may quote a message."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": codec.rfc3339(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = _told(record.exc_info[1])
        return codec.dumps(line).decode()


class Repeats(logging.Filter):
    """Lets through what a library says again and again once in REPEAT_SECONDS; `left_out` counts what was not told."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.split(".")[0] in OURS:
            return True
        saying = record.name, str(record.msg)
        told_at, left_out = self._told.pop(saying, (-REPEAT_SECONDS, 0))
        if record.created - told_at < REPEAT_SECONDS:
            self._told[saying] = told_at, left_out + 1
            return False
        self._told[saying] = record.created, 0
        if len(self._told) > MAX_SAYINGS:
            del self._told[next(iter(self._told))]
        if left_out:
            record.__dict__["fields"] = {"left_out": left_out}
        return True


def _told(error: BaseException) -> dict[str, object]:
    frames = traceback.extract_tb(error.__traceback__)
    told: dict[str, object] = {
        "type": type(error).__name__,
        "at": [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-5:]],
    }
    if isinstance(error, DoormanError):
        told["message"] = str(error)
    return told


def start_logging(service: str) -> None:
    """JSON lines on stderr; libraries from WARNING on, and no louder than `Repeats` lets them be."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    handler.addFilter(Repeats())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for ours in OURS:
        logging.getLogger(ours).setLevel(logging.INFO)


def rest_collector() -> None:
    """Let the cycle collector look rarely: batches of records are no garbage, windows are no cycles.

    Measured on 20,000 simulated messages: classify 106 to 78 µs a message, action 52 to 38.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def event(logger: logging.Logger, name: str, level: int = logging.INFO, **fields: object) -> None:
    """Log one event by its name, with fields. Never pass message text."""
    logger.log(level, name, extra={"fields": fields})


@dataclass(slots=True)
class Health:
    """What a process says of itself. A loop that works calls `tick`; `ready` is asked when /readyz is."""

    ready: Callable[[], list[str]] = field(default=lambda: ["starting"])
    _ticks: dict[str, float] = field(default_factory=dict)

    def tick(self, loop: str) -> None:
        self._ticks[loop] = time.monotonic()

    def forget(self, loop: str) -> None:
        self._ticks.pop(loop, None)

    def stalled(self) -> list[str]:
        """Loops without progress for 30 s. An absent broker does not count: a loop that tries again does tick."""
        now = time.monotonic()
        return [loop for loop, tick in self._ticks.items() if now - tick > STALL_SECONDS]


def application(health: Health) -> web.Application:
    """The three open routes; casebook adds its own."""

    async def metrics(request: web.Request) -> web.Response:
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(REGISTRY), headers={"Content-Type": kind})

    async def healthz(_: web.Request) -> web.Response:
        return _answer(health.stalled())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(health.ready())

    READY.set_function(lambda: not health.ready())
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return app


def _answer(faults: list[str]) -> web.Response:
    return web.json_response({"ok": not faults, "waiting_for": faults}, status=503 if faults else 200)


async def serve(service: str, settings: Settings, app: web.Application) -> tuple[web.AppRunner, str]:
    """Serve `app`; returns its runner, to be cleaned up, and "host:port". A taken port falls to a free one.

    Raises BadSetup.
    """
    host, given = address(settings.http)
    port = PORTS.get(service, 0) if given is None else given
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            await web.TCPSite(runner, host, 0).start()
            event(log, "port_taken", logging.WARNING, port=port)
    except OSError as error:
        await runner.cleanup()
        raise BadSetup(f"DOORMAN_HTTP: cannot serve on {host}:{port} ({error.strerror})") from None
    host, port = runner.addresses[0][:2]
    return runner, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def announce(service: str, address: str, health: Health) -> None:
    """Wait until the process is ready, then say so in the log."""
    while health.ready():
        await asyncio.sleep(0.05)
    event(log, "ready", service=service, http=address)
