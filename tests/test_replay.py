"""`doorman replay`: the verdicts that a person would give, bad lines answered, two policies compared."""

from pathlib import Path
from typing import Any

import pytest

from services import codec
from services.cli import main
from services.records import VERSION, Decision, Standing, Verdict
from services.settings import ROOT
from tests.builders import NOON_MS, event

BULK = [
    "Thanks for following! Grab my free guide to 10k followers: https://growth.example/free",
    "Let's also connect on LinkedIn (https://lnk.example/me) and Facebook (https://fb.example/me) and Instagram too!",
    "Hi! I built an app for people like you, join us here: https://app.example",
]
PERSONAL = [
    "Hey Ana, thanks for the follow back! "
    "Your talk on tide gauges made my week: which sensor was it you said fails in frost?",
    "Hi, this is the store: your order 5531 is ready, we close at 18:00. Reply here if you want us to hold it.",
]


def moment(seconds: float) -> str:
    return codec.rfc3339(NOON_MS + int(seconds * 1000))


def write(path: Path, *events: dict[str, Any] | bytes) -> str:
    path.write_bytes(b"".join((line if isinstance(line, bytes) else codec.dumps(line)) + b"\n" for line in events))
    return str(path)


def run(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str) -> tuple[int, list[Decision], str]:
    status = main(["replay", *arguments])
    out, err = capfdbinary.readouterr()
    return status, [codec.decode(line, Decision) for line in out.splitlines()], err.decode()


@pytest.mark.parametrize(
    ("text", "verdict"),
    [*((text, Verdict.QUARANTINE) for text in BULK), *((text, Verdict.ALLOW) for text in PERSONAL)],
    ids=lambda value: str(value)[:30],
)
def test_what_comes_five_seconds_after_the_follow(
    text: str, verdict: Verdict, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    sent = event(text=text, relation={"followed_at": moment(-5)})
    status, (decision,), _ = run(capfdbinary, write(tmp_path / "events.jsonl", sent))
    assert (status, decision.verdict) == (0, verdict)
    assert {reason.code for reason in decision.reasons} == {"text", "just_followed"}


def test_the_same_text_passes_in_a_conversation(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    asked = event(event_id="e-0", sender_id="u-42", recipient_id="u-17", text="do you have it?", sent_at=moment(-60))
    _, decisions, _ = run(capfdbinary, write(tmp_path / "events.jsonl", event(text=BULK[0]), asked))
    assert [(decision.event_id, decision.verdict) for decision in decisions] == [("e-0", "allow"), ("e-1", "allow")]


def test_a_bad_line_is_named_and_the_rest_is_served(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    file = write(tmp_path / "events.jsonl", event(), b"{", event(event_id="e-2", sent_at="soon"), event(event_id="e-3"))
    status, decisions, err = run(capfdbinary, file)
    assert status == 1
    assert {decision.event_id for decision in decisions} == {"e-1", "e-2", "e-3"}, "e-2 by its ids alone"
    assert "events.jsonl:2: not_json" in err
    assert "events.jsonl:3: bad_time: sent_at" in err


def test_what_cannot_be_read_keeps_its_moment(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    file = write(tmp_path / "events.jsonl", event(sent_at=moment(60), text=7), event(event_id="e-2"))
    _, decisions, _ = run(capfdbinary, file)
    assert [decision.event_id for decision in decisions] == ["e-2", "e-1"]
    assert decisions[1].decided_at == moment(60)


def test_a_repeat_is_decided_once(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    file = write(tmp_path / "events.jsonl", event(), event(), event(revision=1), event(sent_at=moment(7200)))
    _, decisions, _ = run(capfdbinary, file)
    assert [decision.revision for decision in decisions] == [0, 1, 0]
    assert decisions[0].decision_id == decisions[2].decision_id, "a late repeat gets the same id"


def test_ten_senders_of_the_same_words_are_a_campaign(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    words = "my cousin shows people how the harbour market really works, ask her for the list"
    events = [
        event(event_id=f"e-{n}", sender_id=f"u-{n}", recipient_id=f"u-{100 + n}", text=words, sent_at=moment(n * 60))
        for n in range(12)
    ]
    _, decisions, _ = run(capfdbinary, write(tmp_path / "events.jsonl", *events), "--text-score", "0.3")
    named = [decision.campaign_id for decision in decisions]
    assert named[:10] == [None] * 10
    assert named[10] is not None
    assert [decision.verdict for decision in decisions[9:]] == ["allow", "quarantine", "quarantine"]


COMMUNITIES = """
[tenants.gardeners.label_offsets]
newsletter = -6.0
[tenants.quiet.label_offsets]
follow_thanks = 3.0
"""


@pytest.mark.parametrize(
    ("tenant", "text", "verdict"),
    [
        (
            "any",
            "Our newsletter is out! Grab the free spring guide and subscribe here: https://g.example/42",
            True,
        ),
        (
            "gardeners",
            "Our newsletter is out! Grab the free spring guide and subscribe here: https://g.example/42",
            False,
        ),
        ("any", "Thanks for the follow, have a great day :)", False),
        ("quiet", "Thanks for the follow, have a great day :)", True),
        ("quiet", PERSONAL[0], False),
    ],
)
def test_a_community_may_welcome_newsletters_and_another_not_even_a_thank_you(
    tenant: str, text: str, verdict: bool, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    rules = tmp_path / "policy.toml"
    rules.write_text((ROOT / "deploy" / "policy.toml").read_text() + COMMUNITIES)
    sent = event(tenant=tenant, text=text, relation={"followed_at": moment(-200)})
    _, (decision,), _ = run(capfdbinary, write(tmp_path / "events.jsonl", sent), "--policy", str(rules))
    assert (decision.verdict == "quarantine") is verdict, decision.reasons


@pytest.mark.parametrize(("lanes", "held"), [("1", 4), ("2", 2)])
def test_a_budget_takes_part_and_each_lane_spends_its_own_share(
    lanes: str, held: int, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    rules = tmp_path / "policy.toml"
    rules.write_text("[default]\nthreshold = 0.5\nbudget = 4\n")
    events = [event(event_id=f"e-{n}", sent_at=moment(n)) for n in range(9)]
    common = (write(tmp_path / "events.jsonl", *events), "--text-score", "0.9", "--policy", str(rules))
    _, decisions, _ = run(capfdbinary, *common, "--partitions", lanes)
    assert [decision.mode for decision in decisions] == ["enforce"] * held + ["shadow"] * (9 - held)
    assert {decision.degraded for decision in decisions[held:]} == {("budget_exhausted",)}


def test_flips_against_another_replay_are_counted(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    strict, mild = tmp_path / "strict.toml", tmp_path / "mild.toml"
    strict.write_text("[default]\nthreshold = 0.2\n")
    mild.write_text("[default]\nthreshold = 0.9\n")
    file = write(tmp_path / "events.jsonl", event())
    common = (file, "--text-score", "0.5")
    _, before, _ = run(capfdbinary, *common, "--policy", str(strict))
    other = write(tmp_path / "before.jsonl", *(codec.encode(decision) for decision in before))
    status, _, err = run(capfdbinary, *common, "--policy", str(mild), "--diff", other)
    assert status == 1
    assert "1 flips in 1 decisions" in err
    assert "default  quarantine -> allow  text  none  e.g. e-1" in err
    assert run(capfdbinary, *common, "--policy", str(mild), "--diff", other, "--max-flips", "1")[0] == 0
    assert run(capfdbinary, *common, "--policy", str(strict), "--diff", other)[0] == 0


def test_two_policies_are_compared_in_one_run_by_tenant_reason_and_kind(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text("[default]\nthreshold = 0.5\n[tenants.b]\n[tenants.c]\n")
    new.write_text(
        '[default]\nthreshold = 0.5\n[tenants.a]\nthreshold = 0.9999\n[tenants.b.senders]\nallow = ["u-17"]\n'
        '[tenants.c]\nmode = "shadow"\n[tenants.d]\nbudget = 0\n'
    )
    events = [event(event_id=f"{tenant}-{n}", tenant=tenant, text=BULK[0]) for tenant in "abcde" for n in range(5)]
    file = write(tmp_path / "events.jsonl", *events)
    status, decisions, err = run(capfdbinary, file, "--policy", str(new), "--diff-policy", str(old))
    assert (status, len(decisions)) == (1, 25)
    told = [" ".join(line.split()) for line in err.splitlines()]
    assert told[0] == "20 flips in 25 decisions"
    assert sorted(told[1:]) == [
        "5 a quarantine -> allow text follow_thanks e.g. a-0, a-1, a-2",
        "5 b quarantine -> allow allow_list follow_thanks e.g. b-0, b-1, b-2",
        "5 c quarantine -> shadowed text follow_thanks e.g. c-0, c-1, c-2",
        "5 d quarantine -> shadowed budget_exhausted follow_thanks e.g. d-0, d-1, d-2",
    ]
    assert run(capfdbinary, file, "--policy", str(new), "--diff-policy", str(new))[0] == 0


def test_two_models_are_compared_in_one_run(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    file = write(tmp_path / "events.jsonl", event(text=BULK[0]), event(event_id="e-2", text=PERSONAL[0]))
    shipped = str(ROOT / "models" / "shipped")
    status, _, err = run(capfdbinary, file, "--text-score", "0.01", "--diff-model", shipped)
    assert status == 1
    assert "1 flips in 2 decisions" in err
    assert "quarantine -> allow  text  follow_thanks  e.g. e-1" in err


def test_nothing_in_common_is_no_agreement(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    empty = tmp_path / "none.jsonl"
    empty.touch()
    status, _, err = run(capfdbinary, write(tmp_path / "events.jsonl", event()), "--diff", str(empty))
    assert status == 1
    assert "0 flips in 0 decisions; 1 have no counterpart" in err


def test_wrong_things_to_compare_with_are_wrong_usage(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    events = write(tmp_path / "events.jsonl", event())
    assert main(["replay", events, "--diff", events]) == 2
    assert b"events.jsonl:1: wrong_type" in capfdbinary.readouterr().err
    assert main(["replay", events, "--diff", events, "--diff-policy", events]) == 2
    assert main(["replay", events, "--standing", events]) == 2
    assert b"events.jsonl:1: wrong_type" in capfdbinary.readouterr().err


def test_standing_takes_part(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    blocked = Standing(v=VERSION, sender="default/default/u-17", block_until_ms=NOON_MS + 1000)
    standing = write(tmp_path / "standing.jsonl", codec.encode(blocked))
    file = write(tmp_path / "events.jsonl", event(), event(event_id="e-2", sent_at=moment(1)))
    _, decisions, _ = run(capfdbinary, file, "--standing", standing)
    assert [(decision.verdict, decision.override) for decision in decisions] == [
        ("quarantine", "block"),
        ("allow", None),
    ]


def test_a_missing_policy_is_wrong_usage(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    file = write(tmp_path / "events.jsonl", event())
    assert main(["replay", file, "--policy", str(tmp_path / "absent.toml")]) == 2
    assert b"DOORMAN_POLICY" in capfdbinary.readouterr().err
    for name in (tmp_path / "absent.jsonl", tmp_path):
        assert main(["replay", str(name)]) == 2
        assert capfdbinary.readouterr().err.startswith(f"doorman replay: {name}: ".encode())


def test_a_policy_is_checked_before_it_is_used(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    rules = tmp_path / "policy.toml"
    rules.write_text("[default]\nthreshold = 0.5\n[tenants.b]\n[tenants.a]\n")
    assert main(["policy", str(rules)]) == 0
    assert codec.loads_object(capfdbinary.readouterr().out)["tenants"] == ["a", "b"]
    rules.write_text("[default]\nthreshold = 5\n")
    assert main(["policy", str(rules)]) == 1
    assert b"policy.toml:2: default.threshold: 5 is not allowed; write a number" in capfdbinary.readouterr().err
