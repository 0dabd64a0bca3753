"""Settings: from the environment, refused with every fault at once."""

from pathlib import Path

import pytest

from services.errors import BadSetup
from services.settings import Delivery, load


def test_every_default_works() -> None:
    settings = load({})
    assert (settings.kafka, settings.delivery, settings.partitions) == ("127.0.0.1:9092", Delivery.EXACTLY_ONCE, 4)
    assert settings.model.name == "shipped"


def test_variables_are_taken_over() -> None:
    settings = load({"DOORMAN_KAFKA": "a:1,b:2", "DOORMAN_STATE": "there", "DOORMAN_MODE": "shadow", "OTHER": "x"})
    assert (settings.kafka, settings.state, settings.mode) == ("a:1,b:2", Path("there"), "shadow")


def test_all_faults_are_named_at_once() -> None:
    wrong = {
        "DOORMAN_KAFKA": "nowhere",
        "DOORMAN_DELIVERY": "twice",
        "DOORMAN_PARTITIONS": "0",
        "DOORMAN_HTTP": "127.0.0.1:99999",
        "DOORMAN_MODE": "off",
        "DOORMAN_TOPIC_PREFIX": "a b",
    }
    with pytest.raises(BadSetup) as refused:
        load(wrong)
    assert all(name in str(refused.value) for name in wrong)


def test_a_misspelt_variable_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    load({"DOORMAN_KAFKAS": "a:1", "DOORMAN_REQUIRE_KAFKA": "1"})
    assert "did you mean DOORMAN_KAFKA?" in caplog.text
    assert "REQUIRE" not in caplog.text


def test_a_password_is_never_shown() -> None:
    assert "hunter2" not in repr(load({"DOORMAN_KAFKA_PASSWORD": "hunter2"}))
