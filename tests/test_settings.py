"""Settings: from the environment, refused with every fault at once."""

from pathlib import Path

import pytest

from services.errors import BadSetup
from services.kafka import connection
from services.settings import Delivery, address, load


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


def test_what_tls_and_sasl_lack_is_named_at_once(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.pem")
    wrong = {"DOORMAN_KAFKA_CA": absent, "DOORMAN_KAFKA_CERT": absent, "DOORMAN_KAFKA_KEY": absent}
    with pytest.raises(BadSetup) as refused:
        load({"DOORMAN_KAFKA_SECURITY": "SASL_SSL", **wrong})
    assert [line.split(":")[0].strip() for line in str(refused.value).splitlines()[1:]] == [
        *wrong,
        "DOORMAN_KAFKA_USERNAME",
        "DOORMAN_KAFKA_PASSWORD",
    ]


@pytest.mark.parametrize("alone", ["DOORMAN_KAFKA_CERT", "DOORMAN_KAFKA_KEY"])
def test_certificate_and_key_go_together(alone: str, tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.touch()
    with pytest.raises(BadSetup, match=r"DOORMAN_KAFKA_KEY: .* go together"):
        load({alone: str(file)})


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.write_text("nothing of the kind")
    with pytest.raises(BadSetup, match="DOORMAN_KAFKA_CA"):
        connection(load({"DOORMAN_KAFKA_SECURITY": "SSL", "DOORMAN_KAFKA_CA": str(file)}))


@pytest.mark.parametrize(
    ("http", "read"),
    [
        ("127.0.0.1", ("127.0.0.1", None)),
        ("door.example:0", ("door.example", 0)),
        ("[::1]", ("::1", None)),
        ("[::1]:9105", ("::1", 9105)),
    ],
)
def test_an_address_is_a_host_with_or_without_a_port(http: str, read: tuple[str, int | None]) -> None:
    assert address(load({"DOORMAN_HTTP": http}).http) == read


@pytest.mark.parametrize("http", ["::1", "::1:9105", "[::1]9105", ":9105", "host:", "host:65536"])
def test_an_address_that_can_be_read_in_two_ways_is_refused(http: str) -> None:
    with pytest.raises(BadSetup, match="DOORMAN_HTTP"):
        load({"DOORMAN_HTTP": http})


def test_a_misspelt_variable_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    load({"DOORMAN_KAFKAS": "a:1", "DOORMAN_REQUIRE_KAFKA": "1"})
    assert "did you mean DOORMAN_KAFKA?" in caplog.text
    assert "REQUIRE" not in caplog.text


def test_a_password_is_never_shown() -> None:
    assert "hunter2" not in repr(load({"DOORMAN_KAFKA_PASSWORD": "hunter2"}))
