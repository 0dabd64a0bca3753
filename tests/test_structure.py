"""The house: which room may know which."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.settings import ROOT

SERVICES = ROOT / "services"
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


def says_pure(path: Path) -> bool:
    return re.search(r"\bPure\b", ast.get_docstring(ast.parse(path.read_text())) or "") is not None


# What says of itself that it is pure, and what is too plain to say it.
PURE = {name for name, path in modules() if says_pure(path) or name.startswith("ingest/adapters/")}
PURE |= {"records", "errors", "topics", "spans", "deadletter", "ingest/event", "action/policy"}
PURE |= {"classify/memory", "classify/text", "classify/fingerprint"}


@pytest.mark.parametrize("library", ONLY)
def test_a_library_is_known_to_its_own_module_only(library: str) -> None:
    knows = {name for name, path in modules() if any(part.split(".")[0] == library for part in imported(path))}
    assert not [name for name in knows if not any(f"{name}/".startswith(f"{room}/") for room in ONLY[library])]
    assert knows, "the table names a library that nobody imports"


@pytest.mark.parametrize("room", ["ingest", "classify", "action"])
def test_a_stage_says_that_it_is_pure(room: str) -> None:
    assert says_pure(SERVICES / room / "stage.py")


@pytest.mark.parametrize("name", sorted(PURE))
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
    readers = {name for name, path in modules() if re.search(r"\b(environb?|getenvb?)\b", path.read_text())}
    assert readers == {"settings"}
