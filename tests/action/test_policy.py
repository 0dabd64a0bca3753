"""The policy file: taken whole or refused whole, with every fault named."""

from pathlib import Path

import pytest

from services.action.policy import parse, read
from services.errors import BadSetup
from services.settings import ROOT

MINIMAL = "[default]\nthreshold = 0.8\n"


def test_the_shipped_policy_is_valid() -> None:
    assert 0 < read(ROOT / "deploy" / "policy.toml").default.threshold < 1


def test_a_policy_is_versioned_by_its_content() -> None:
    assert parse(MINIMAL.encode()).version == parse(MINIMAL.encode()).version
    assert parse(MINIMAL.encode()).version != parse((MINIMAL + "# a word\n").encode()).version


def test_a_tenant_holds_only_what_differs() -> None:
    policy = parse(
        b"[default]\nthreshold = 0.8\n[default.label_offsets]\npitch = 1.0\nhype = 2.0\n"
        b'[tenants.club]\nmode = "shadow"\n[tenants.club.label_offsets]\npitch = -3.0\n'
    )
    club = policy.of("club")
    assert (club.threshold, club.mode, club.label_offsets) == (0.8, "shadow", {"pitch": -3.0, "hype": 2.0})
    assert policy.of("another") is policy.default


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("", "default"),
        ("[default", "not TOML"),
        ("[default]\n", "default.threshold"),
        ("[default]\nthreshold = 1.5\n", "default.threshold"),
        (MINIMAL + "treshold = 0.5\n", "default.treshold"),
        (MINIMAL + 'mode = "off"\n', "default.mode"),
        (MINIMAL + "[others]\n", "others"),
        (MINIMAL + "conversation = nan\n", "default.conversation"),
        (MINIMAL + "[default.label_offsets]\nspam = 1.0\n", "label_offsets.spam"),
        (MINIMAL + '[default.signals.speed]\nreason = "burst"\nat_least = [[1, 1]]\n', "signals.speed"),
        (MINIMAL + '[default.signals.messages_1m]\nreason = "burst"\n', "default.signals.messages_1m"),
        (MINIMAL + '[default.signals.messages_1m]\nreason = "no"\nat_least = [[1, 1]]\n', "signals.messages_1m.reason"),
        (MINIMAL + '[default.signals.messages_1m]\nreason = "burst"\nat_least = [[5, 1], [2, 1]]\n', "at_least"),
        (MINIMAL + '[tenants.a]\nmode = "off"\n', "tenants.a.mode"),
        (MINIMAL + "[tenants]\na = 3\n", "tenants.a"),
    ],
)
def test_a_wrong_policy_is_refused_by_name(wrong: str, named: str) -> None:
    with pytest.raises(BadSetup, match=named.replace(".", r"\.")):
        parse(wrong.encode())


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(BadSetup) as refused:
        parse(b'[default]\nthreshold = 2\nmode = "off"\n[tenants.a]\ncampaign = "much"\n')
    for fault in ("default.threshold", "default.mode", "tenants.a.campaign"):
        assert fault in str(refused.value)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadSetup, match="DOORMAN_POLICY"):
        read(tmp_path / "absent.toml")
