"""Action: a score becomes a verdict with reasons, and never carries text."""

from typing import Any

import pytest

from services import codec
from services.action.policy import parse
from services.action.stage import act, decide, sigmoid
from services.errors import Fault
from services.records import Bond, Decision, Degraded, Evidence, Override, Score, Standing, decision_id
from services.spans import DAY_MS
from services.topics import DEAD_LETTER, DECISIONS, QUARANTINE
from tests.builders import NOON_MS, Record, message, score, score_record

POLICY = parse(
    b"""
[default]
threshold = 0.8
conversation = -5.0
campaign = 4.0
[default.label_offsets]
newsletter = -3.0
[default.signals.seconds_since_follow]
reason = "just_followed"
at_most = [[15, 1.5], [60, 1.0]]
[default.signals.cold_recipients_1h]
reason = "fan_out"
at_least = [[10, 1.0], [40, 3.5]]
[default.signals.cold_recipients_24h]
reason = "fan_out"
at_least = [[30, 2.0]]
[default.signals.messages_1m]
reason = "burst"
at_least = [[20, 2.0]]
strangers = true
[default.signals.strikes]
reason = "strikes"
at_least = [[1.5, 1.0]]
[tenants.capped]
text_cap = 4.5
[tenants.quiet]
mode = "shadow"
[tenants.lists.senders]
allow = ["u-17"]
block = ["u-66"]
[tenants.hosts.links]
allow = ["shop.example"]
block = ["bad.example"]
[tenants.careful.degraded]
model_missing = "quarantine"
memory_young = "shadow"
unreadable = "quarantine"
[tenants.open.degraded]
model_missing = "allow"
"""
)
SENDER = "default/default/u-17"


def decided(standing: Standing | None = None, *, shadow: bool = False, **parts: Any) -> Decision:
    return decide(score(**parts), POLICY, lambda sender: standing if sender == SENDER else None, shadow, NOON_MS + 40)


def struck(strikes: float, days: float = 0) -> Standing:
    return Standing(v=1, sender=SENDER, strikes=strikes, strikes_ms=NOON_MS - int(days * DAY_MS))


@pytest.mark.parametrize(
    ("standing", "bond", "reasons"),
    [
        (struck(2), Bond.COLD, [("strikes", 1.0, "2")]),
        (struck(4, days=30), Bond.UNKNOWN, [("strikes", 1.0, "2")]),
        (struck(2, days=30), Bond.COLD, []),
        (struck(2, days=-1), Bond.COLD, [("strikes", 1.0, "2")]),
        (struck(9), Bond.WARM, [("conversation", -5.0, "the recipient wrote before")]),
        (None, Bond.COLD, []),
    ],
    ids=["struck", "a month ago", "one left of two", "to come", "in a conversation", "none"],
)
def test_strikes_weigh_until_they_have_decayed(
    standing: Standing | None, bond: Bond, reasons: list[tuple[str, float, str]]
) -> None:
    decision = decided(standing, text_score=None, bond=bond)
    assert [(reason.code, reason.weight, reason.detail) for reason in decision.reasons] == reasons
    assert ("strikes" in decision.signals) == (standing is not None)


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.reasons]


def test_the_score_is_the_sigmoid_of_the_reasons_weights() -> None:
    decision = decided(text_score=0.93, signals={"seconds_since_follow": 5.0, "cold_recipients_1h": 41.0})
    assert [(reason.code, reason.weight, reason.detail) for reason in decision.reasons] == [
        ("text", 2.59, "0.93"),
        ("just_followed", 1.5, "5 s"),
        ("fan_out", 3.5, "41 in 1 h"),
    ]
    assert decision.score == round(sigmoid(2.59 + 1.5 + 3.5), 4)
    assert decision.verdict == "quarantine"


def test_a_text_alone_is_never_beyond_argument() -> None:
    assert decided(text_score=1.0).reasons[0].weight == 6.91
    assert decided(text_score=0.0).reasons[0].weight == -6.91


def test_two_signals_of_one_reason_count_once() -> None:
    decision = decided(signals={"cold_recipients_1h": 12.0, "cold_recipients_24h": 35.0})
    assert [(reason.code, reason.weight) for reason in decision.reasons[1:]] == [("fan_out", 2.0)]


def test_a_conversation_outweighs_text_and_behaviour() -> None:
    decision = decided(text_score=0.97, bond=Bond.WARM, signals={"seconds_since_follow": 5.0})
    assert decision.verdict == "allow"
    assert codes(decision) == ["text", "conversation"]


def test_a_text_weighs_no_more_than_the_policys_cap() -> None:
    decision = decided(text_score=0.9999, bond=Bond.WARM, message=message(tenant="capped"))
    assert [reason.weight for reason in decision.reasons] == [4.5, -5.0]
    assert decision.verdict == "allow"
    assert decided(text_score=0.0001, message=message(tenant="capped")).reasons[0].weight == -4.5


def test_an_unknown_pair_never_triggers_what_only_strangers_trigger() -> None:
    assert "burst" in codes(decided(signals={"messages_1m": 30.0}))
    assert "burst" not in codes(decided(bond=Bond.UNKNOWN, signals={"messages_1m": 30.0}))


def test_a_label_that_the_tenant_welcomes_weighs_less() -> None:
    assert decided(text_score=0.9, labels={"newsletter": 0.9, "pitch": 0.1}).reasons[0].weight == -0.8


def test_a_campaign_is_a_reason_and_is_named() -> None:
    decision = decided(campaign_id="k-1")
    assert (decision.campaign_id, codes(decision)[-1], decision.verdict) == ("k-1", "campaign", "quarantine")


@pytest.mark.parametrize(
    ("standing", "override"),
    [
        (Standing(v=1, sender=SENDER, block_until_ms=NOON_MS + 1, trust_until_ms=NOON_MS + 1), Override.BLOCK),
        (Standing(v=1, sender=SENDER, trust_until_ms=NOON_MS + 1), Override.TRUST),
        (Standing(v=1, sender=SENDER, trust_until_ms=NOON_MS), None),
        (Standing(v=1, sender=SENDER, exempt={"default/default/u-42": NOON_MS + 1}), Override.EXEMPT_PAIR),
        (Standing(v=1, sender=SENDER, exempt={"default/default/u-43": NOON_MS + 1}), None),
        (None, None),
    ],
    ids=["block", "trust", "trust expired", "exempt pair", "another pair", "nothing"],
)
def test_the_first_override_beats_the_score(standing: Standing | None, override: Override | None) -> None:
    decision = decided(standing, text_score=0.99)
    assert decision.override is override
    assert decision.verdict == ("allow" if override not in (None, Override.BLOCK) else "quarantine")


def test_the_tenant_s_lists_are_overrides_too() -> None:
    assert decided(text_score=0.99, message=message(tenant="lists")).override is Override.ALLOW_LIST
    assert decided(text_score=0.01, message=message(tenant="lists", sender_id="u-66")).verdict == "quarantine"


def test_a_block_beats_trust_and_a_block_listed_host_a_conversation() -> None:
    trusted = Standing(v=1, sender="hosts/default/u-17", trust_until_ms=NOON_MS + 1)
    sent = message(tenant="hosts", text="as you asked: https://www.bad.example/x")
    decision = decide(score(message=sent, bond=Bond.WARM), POLICY, lambda _: trusted, False, NOON_MS)
    assert (decision.override, decision.verdict) == (Override.BLOCK, "quarantine")


def test_a_text_with_allowed_hosts_only_passes() -> None:
    sent = message(tenant="hosts", text="your order: https://shop.example/17")
    assert decided(text_score=0.99, message=sent).override is Override.ALLOW_LIST


@pytest.mark.parametrize(
    ("tenant", "lacks", "text_score", "answer"),
    [
        ("careful", (Degraded.MODEL_MISSING,), None, ("quarantine", "enforce")),
        ("careful", (Degraded.MEMORY_YOUNG,), 0.99, ("quarantine", "shadow")),
        ("careful", (Degraded.MODEL_MISSING, Degraded.MEMORY_YOUNG), None, ("allow", "shadow")),
        ("careful", (Degraded.SECOND_LOOK_SKIPPED,), 0.99, ("quarantine", "enforce")),
        ("open", (Degraded.MODEL_MISSING,), 0.99, ("allow", "enforce")),
        ("another", (Degraded.MODEL_MISSING,), 0.99, ("quarantine", "enforce")),
    ],
)
def test_what_is_judged_with_less_than_everything_is_treated_as_the_tenant_says(
    tenant: str, lacks: tuple[Degraded, ...], text_score: float | None, answer: tuple[str, str]
) -> None:
    decision = decided(text_score=text_score, degraded=lacks, message=message(tenant=tenant))
    assert (decision.verdict, decision.mode, decision.degraded) == (*answer, lacks)


def test_an_override_beats_what_is_done_for_want_of_a_model() -> None:
    trusted = Standing(v=1, sender="careful/default/u-17", trust_until_ms=NOON_MS + 1)
    lacking = score(text_score=None, degraded=(Degraded.MODEL_MISSING,), message=message(tenant="careful"))
    assert decide(lacking, POLICY, lambda _: trusted, False, NOON_MS).verdict == "allow"


def test_shadow_says_what_would_have_been_done_and_holds_nothing() -> None:
    records = [score_record(text_score=0.99, message=message(tenant="quiet")), score_record(text_score=0.99)]
    batch = act(records, POLICY, lambda _: None, False, NOON_MS)
    assert [(decision.verdict, decision.mode) for decision, _ in batch.decisions] == [
        ("quarantine", "shadow"),
        ("quarantine", "enforce"),
    ]
    assert [output.topic for output in batch.outputs] == [DECISIONS, DECISIONS, QUARANTINE]
    assert decided(shadow=True).mode == "shadow"


def test_without_a_model_behaviour_decides_and_the_decision_says_so() -> None:
    decision = decided(text_score=None, degraded=(Degraded.MODEL_MISSING,), signals={"cold_recipients_1h": 41.0})
    assert (decision.verdict, decision.degraded) == ("quarantine", ("model_missing",))
    assert decided(text_score=None).verdict == "allow"


def test_an_unreadable_event_is_allowed_unless_the_tenant_says_otherwise() -> None:
    decision = decided(text_score=None, message=message(unreadable=True), degraded=(Degraded.UNREADABLE,))
    assert (decision.verdict, decision.score, decision.degraded) == ("allow", None, ("unreadable",))
    held = message(unreadable=True, tenant="careful")
    assert decided(text_score=None, message=held, degraded=(Degraded.UNREADABLE,)).verdict == "quarantine"


def test_the_id_is_the_event_s_and_not_the_model_s() -> None:
    again = decided(text_score=0.1).decision_id
    assert decided(text_score=0.9).decision_id == again == decision_id("default", "default", "e-1", 0, "first")
    assert decided(message=message(revision=1)).decision_id != again
    assert decided(message=message(tenant="other")).decision_id != again


def test_a_decision_is_a_cloudevent_keyed_by_conversation_and_holds_no_text() -> None:
    batch = act([score_record(text_score=0.99)], POLICY, lambda _: None, False, NOON_MS)
    decision, evidence = batch.outputs
    headers = dict(decision.headers)
    assert headers["ce_type"] == b"dm.decision"
    assert headers["ce_id"] == codec.decode(decision.value, Decision).decision_id.encode()
    assert decision.key == b"default/default/c-u-17-u-42"
    assert b"noon" not in (decision.value or b"")
    assert codec.decode(evidence.value, Evidence).message.text == "see you at noon?"


def test_a_rival_policy_is_asked_and_decides_nothing() -> None:
    records = [score_record(text_score=0.9), score_record(text_score=0.1), score_record(text_score=0.97)]
    rival = parse(b"[default]\nthreshold = 0.95\n")
    alone, asked = (act(records, POLICY, lambda _: None, False, NOON_MS, None, other) for other in (None, rival))
    assert alone.outputs == asked.outputs
    assert alone.flips == []
    assert [(found.before, found.after, found.reason) for found in asked.flips] == [("quarantine", "allow", "text")]
    in_shadow = act(records, POLICY, lambda _: None, True, NOON_MS, None, rival)
    assert [(found.before, found.after) for found in in_shadow.flips] == [("shadowed", "allow")]


@pytest.mark.parametrize("value", [None, b"{", b"[]", b'{"v": 9}', codec.encode(message())])
def test_what_is_no_score_is_a_dead_letter(value: bytes | None) -> None:
    batch = act([Record(value), score_record()], POLICY, lambda _: None, False, NOON_MS)
    assert [output.topic for output in batch.outputs] == [DEAD_LETTER, DECISIONS]
    assert sum(batch.faults.values()) == 1
    assert Fault.INTERNAL not in batch.faults


def test_only_a_message_that_is_held_must_be_whole_and_its_evidence_is() -> None:
    sent = message(text="see you at noon?", attachments=2, extra={"truth": [1]})
    held, passed = (score_record(text_score=found, message=sent, spans=((0, 3, 1.5),)) for found in (0.99, 0.1))
    batch = act([held, passed], POLICY, lambda _: None, False, NOON_MS)
    evidence = codec.decode(batch.outputs[1].value, Evidence)
    assert (evidence.message, evidence.spans) == (sent, ((0, 3, 1.5),))
    torn = [
        Record((record.value or b"").replace(b'"attachments":2', b'"attachments":"2"')) for record in (held, passed)
    ]
    batch = act(torn, POLICY, lambda _: None, False, NOON_MS)
    assert [output.topic for output in batch.outputs] == [DEAD_LETTER, DECISIONS]


def test_a_score_survives_its_journey() -> None:
    whole = score(signals={"messages_1h": 2.0}, spans=((0, 3, 1.5),), labels={"pitch": 0.2})
    assert codec.decode(codec.encode(whole), Score) == whole
