"""Brokers for the suite, and its last lines: which tests were skipped, and why."""

import os
from collections import Counter
from collections.abc import Iterator

import hypothesis
import pytest

from services.cli import brokers
from services.cli.brokers import Broker
from tests import postgres as servers
from tests.postgres import Postgres

# The machine is shared: how long an example takes says nothing.
hypothesis.settings.register_profile(
    "doorman", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], max_examples=100
)
hypothesis.settings.load_profile("doorman")


def pytest_sessionstart() -> None:
    """DOORMAN_REQUIRE_KAFKA=1 turns a missing Kafka from a skip into a failure."""
    wanted = os.environ.get("DOORMAN_REQUIRE_KAFKA", "0") not in ("", "0")
    if wanted and (reason := brokers.kafka_missing()):
        pytest.exit(f"DOORMAN_REQUIRE_KAFKA is set, but Apache Kafka cannot run here: {reason}", returncode=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("kafka")]
    if marked and (reason := brokers.kafka_missing()):
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"kafka: {reason}"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """After everything that pytest reports itself, one line for each reason to skip."""
    yield
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None:
        return
    skipped = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in terminal.stats.get("skipped", []))
    for reason, count in sorted(skipped.items()):
        terminal.write_line(f"SKIPPED {count} of kind {reason}", yellow=True)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """One Apache Kafka for all tests: use names of your own for topics and groups. Mark the test `kafka`."""
    with brokers.kafka() as broker:
        yield broker


@pytest.fixture(scope="session")
def tansu() -> Iterator[Broker]:
    """One Tansu for all tests."""
    with brokers.tansu() as broker:
        yield broker


@pytest.fixture(params=[pytest.param("kafka", marks=pytest.mark.kafka), "tansu"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Either broker: the test runs on both."""
    running: Broker = request.getfixturevalue(request.param)
    return running


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests; each makes a database of its own in it."""
    with servers.postgres() as server:
        yield server
