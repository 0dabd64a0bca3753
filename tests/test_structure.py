"""The house: which room may know which."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.settings import ROOT

SERVICES = ROOT / "services"
PURE = [
    "records",
    "errors",
    "topics",
    "spans",
    "deadletter",
    "packing",
    "ingest/event",
    "ingest/stage",
    "ingest/adapters/__init__",
]
PURE += [f"ingest/adapters/{name}" for name in ("bluesky", "cloudevents", "discord", "mastodon", "matrix", "slack")]
PURE += ["ingest/adapters/telegram", "ingest/adapters/x"]
PURE += ["classify/stage", "classify/behaviour", "classify/memory", "classify/text", "classify/fingerprint"]
PURE += ["classify/campaign_window", "action/stage", "action/policy", "action/standings", "action/reviews"]
PURE += ["action/budget", "action/faults", "action/flips", "action/lines"]
# library -> the modules, or rooms of modules, that may import it
ONLY = {
    "orjson": {"codec"},
    "aiokafka": {"kafka"},
    "faust": {"stateplane", "cli/bench/textbook"},
    "onnxruntime": {"classify/scorer"},
    "sqlalchemy": {"action/cases"},
    "alembic": {"action/cases"},
}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(SERVICES.rglob("*.py")):
        yield str(path.relative_to(SERVICES).with_suffix("")), path


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("library", ONLY)
def test_a_library_is_known_to_its_own_module_only(library: str) -> None:
    knows = {name for name, path in modules() if any(part.split(".")[0] == library for part in imported(path))}
    assert not [name for name in knows if not any(f"{name}/".startswith(f"{room}/") for room in ONLY[library])]
    assert knows, "the table names a library that nobody imports"


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_know_no_clock_no_io_and_no_metrics(name: str) -> None:
    path = SERVICES / f"{name}.py"
    forbidden = {"time", "asyncio", "logging", "os", "socket", "services.metrics", "services.observe", "services.kafka"}
    assert not imported(path) & forbidden


def test_stages_do_not_know_each_other() -> None:
    for name, path in modules():
        room = name.split("/")[0]
        others = {"ingest", "classify", "action"} - {room}
        if room in {"ingest", "classify", "action"}:
            assert not {part for part in imported(path) for other in others if f"services.{other}" in part}, name


def test_only_settings_reads_the_environment() -> None:
    readers = {name for name, path in modules() if "os.environ" in path.read_text()}
    assert readers == {"settings"}
