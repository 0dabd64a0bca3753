"""Action's shell: what it reads besides scores, and how it takes a change."""

import logging
from pathlib import Path

import pytest

from services import codec, metrics
from services.action.__main__ import Confirmed, Switch, service
from services.action.policy_file import PolicyFile
from services.action.stage import SERVICE
from services.errors import BadSetup
from services.lane import tolerant
from services.records import VERSION, Campaign, Control, Mode, campaign_review_key
from services.settings import Settings
from tests.builders import NOON_MS, Record


def loads(outcome: str) -> float:
    return float(metrics.POLICY_LOADS.labels(outcome)._value.get())


def test_a_changed_policy_is_taken_and_a_wrong_one_refused_while_the_old_one_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "policy.toml"
    path.write_text("[default]\nthreshold = 0.5\n")
    file, taken, refused = PolicyFile(path), loads("loaded"), loads("refused")
    file.refresh()
    assert (file.policy.default.threshold, loads("loaded")) == (0.5, taken)
    path.write_text("[default]\nthreshold = 0.75\n")
    file.refresh()
    assert (file.policy.default.threshold, loads("loaded")) == (0.75, taken + 1)
    path.write_text("[default]\nthreshold = 75\n")
    file.refresh()
    path.unlink()
    file.refresh()
    assert (file.policy.default.threshold, loads("refused")) == (0.75, refused + 2)
    told = [record.fields for record in caplog.records if record.msg == "policy_refused"]  # type: ignore[attr-defined]
    assert [fields["kept"] for fields in told] == [file.policy.version] * 2
    assert f"{path}:2: default.threshold: 75" in told[0]["why"]


def campaign(**parts: bool) -> bytes:
    told = Campaign(
        v=VERSION,
        campaign_id="k-1",
        tenant="default",
        key="",
        senders=0,
        conversations=0,
        first_ms=0,
        last_ms=0,
        expires_ms=NOON_MS,
        **parts,
    )
    return codec.encode(told)


def test_a_wrong_policy_and_a_wrong_one_beside_it_are_refused_together(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.toml" for name in ("policy", "shadow_policy")}
    for path in paths.values():
        path.write_text("[default]\nthreshold = 5\n")
    with pytest.raises(BadSetup) as refused:
        service(Settings.model_validate(paths))
    assert all(f"{path}:2: default.threshold" in str(refused.value) for path in paths.values())


def test_a_campaign_is_confirmed_by_its_tenant_s_review_until_that_ends() -> None:
    key = campaign_review_key("default", "k-1").encode()
    confirmed = Confirmed()
    confirmed.apply(Record(campaign(), key=b"k-1"))
    assert not confirmed.until_ms, "the campaign's own record says nothing of reviews"
    confirmed.apply(Record(campaign(confirmed=True), key=key))
    assert [confirmed.holds("default", "k-1", at_ms) for at_ms in (NOON_MS - 1, NOON_MS)] == [True, False]
    assert not confirmed.holds("another", "k-1", NOON_MS - 1)
    confirmed.apply(Record(campaign(exempt=True), key=key))
    assert not confirmed.holds("default", "k-1", NOON_MS - 1)
    take = tolerant(SERVICE, "campaign", confirmed.apply)
    for value in (b"{", campaign(confirmed=True), None):
        take(Record(value, key=key))
    assert not confirmed.until_ms


def said(mode: Mode) -> Record:
    control = Control(v=VERSION, mode=mode, actor="ana", reason="a wrong policy", at_ms=NOON_MS)
    return Record(codec.encode(control), key=b"mode")


def test_the_command_switches_every_tenant_to_shadow_and_back_but_never_lifts_the_setting() -> None:
    switch = Switch(Mode.ENFORCE)
    switch.apply(said(Mode.SHADOW))
    tolerant(SERVICE, "control", switch.apply)(Record(b"{", key=b"mode"))
    assert switch.is_shadow(), "what cannot be read changes nothing"
    switch.apply(said(Mode.ENFORCE))
    assert not switch.is_shadow()
    switch.apply(said(Mode.SHADOW))
    switch.apply(Record(None, key=b"mode"))
    assert not switch.is_shadow()
    fixed = Switch(Mode.SHADOW)
    fixed.apply(said(Mode.ENFORCE))
    assert fixed.is_shadow()
