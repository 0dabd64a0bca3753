"""`doorman topics` against a real Apache Kafka."""

import asyncio
from dataclasses import replace

import pytest

from services import settings
from services.cli import main
from services.cli.brokers import Broker
from services.kafka import Admin
from services.topics import TOPICS

pytestmark = pytest.mark.kafka


@pytest.fixture
def prefixed(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOORMAN_KAFKA", kafka.bootstrap)
    monkeypatch.setenv("DOORMAN_TOPIC_PREFIX", "topics-")


@pytest.mark.usefixtures("prefixed")
def test_topics_are_created_once_and_then_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "check"]) == 1
    assert "topics-dm.events: missing" in capsys.readouterr().out
    assert main(["topics", "create"]) == 0
    assert len(capsys.readouterr().out.split()) == len(TOPICS)
    assert main(["topics", "create"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["topics", "check"]) == 0


@pytest.mark.usefixtures("prefixed")
def test_a_topic_with_other_settings_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["topics", "create"]) == 0
    asked = {name: replace(topic, max_bytes=1000) if name == "dm.audit" else topic for name, topic in TOPICS.items()}

    async def differences() -> list[str]:
        async with Admin(settings.load()) as admin:
            return await admin.differences(asked.values())

    assert [line.split(":")[0] for line in asyncio.run(differences())] == ["topics-dm.audit"]


@pytest.mark.usefixtures("prefixed")
def test_topics_that_one_replica_may_acknowledge_are_named_where_there_are_three(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["topics", "create"]) == 0
    monkeypatch.setenv("DOORMAN_REPLICATION", "3")
    capsys.readouterr()
    assert main(["topics", "check"]) == 1
    assert "topics-dm.events: min.insync.replicas is 1, not 2" in capsys.readouterr().out


@pytest.mark.parametrize(("replication", "in_sync"), [(1, None), (2, None), (3, "2"), (5, "4")])
def test_all_replicas_but_one_must_have_what_is_acknowledged(replication: int, in_sync: str | None) -> None:
    assert {topic.config(1000, replication).get("min.insync.replicas") for topic in TOPICS.values()} == {in_sync}


def test_without_a_broker_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOORMAN_KAFKA", "127.0.0.1:1")
    assert main(["topics", "check"]) == 1
    assert "DOORMAN_KAFKA" in capsys.readouterr().err
