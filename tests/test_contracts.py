"""The contracts in deploy/contracts against the code: records, outputs of the stages, and the table of topics."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from services import codec, records
from services.action import policy
from services.action.stage import act
from services.classify.stage import State, classify
from services.deadletter import dead_letter
from services.errors import Fault
from services.ingest.stage import ingest
from services.kafka import partition_of
from services.observe import PORTS
from services.records import (
    VERSION,
    AuditEntry,
    Bond,
    Campaign,
    Checkpoint,
    Contact,
    Contacts,
    Control,
    Correction,
    Corrections,
    Decision,
    Degraded,
    Evidence,
    Label,
    Message,
    Mode,
    ModelRef,
    Output,
    Override,
    Person,
    PolicyRef,
    Reason,
    ReasonCode,
    Relation,
    Review,
    ReviewCommand,
    Score,
    Sighting,
    Sightings,
    Standing,
    Verdict,
)
from services.settings import ROOT
from services.topics import DEAD_LETTER, MAX_EVENT_BYTES, MESSAGES, TOPICS
from tests.builders import NOON_MS, Record, event, message, score
from tests.promises import RELEASED, broken, promises, shipped

CONTRACTS = Path(__file__).resolve().parents[1] / "deploy" / "contracts"
SCHEMAS: dict[str, Any] = {path.name: json.loads(path.read_bytes()) for path in sorted(CONTRACTS.glob("*.schema.json"))}
REGISTRY: Registry[Any] = Registry().with_resources(
    (name, Resource.from_contents(schema)) for name, schema in SCHEMAS.items()
)
ASYNCAPI: dict[str, Any] = yaml.safe_load((CONTRACTS / "asyncapi.yaml").read_bytes())

VALUES: dict[type[msgspec.Struct], str] = {
    Message: "dm.messages.schema.json#/$defs/Message",
    Contacts: "dm.messages.schema.json#/$defs/Contacts",
    Corrections: "dm.messages.schema.json#/$defs/Corrections",
    Score: "dm.scores.schema.json",
    Decision: "dm.decisions.schema.json",
    Evidence: "dm.quarantine.schema.json",
    Review: "dm.reviews.schema.json",
    Label: "dm.labels.schema.json",
    Sightings: "dm.sightings.schema.json",
    Campaign: "dm.campaigns.schema.json",
    Standing: "dm.standing.schema.json",
    Checkpoint: "dm.memory.schema.json",
    Control: "dm.control.schema.json",
    AuditEntry: "dm.audit.schema.json",
}

DESIGN_EVENT = {
    "event_id": "e-1",
    "revision": 0,
    "tenant": "default",
    "platform": "example",
    "sender_id": "u-17",
    "recipient_id": "u-42",
    "conversation_id": "c-17-42",
    "sent_at": "2026-11-22T10:00:00.000Z",
    "text": "Thanks for following! Free e-book: https://ex.example/book",
    "in_reply_to": None,
    "attachments": 0,
    "sender": {
        "handle": "growthguru",
        "display_name": "Guru",
        "created_at": "2026-10-01T00:00:00Z",
        "followers": 90,
        "following": 4100,
        "verified": False,
    },
    "recipient": {"handle": "ana", "display_name": "Ana"},
    "relation": {
        "followed_at": "2026-11-22T09:59:55Z",
        "recipient_follows_sender": True,
        "sender_follows_recipient": True,
        "prior_messages_from_recipient": 0,
    },
}
DESIGN_DECISION = {
    "v": 1,
    "decision_id": "d-5f0c",
    "event_id": "e-1",
    "revision": 0,
    "cause": "first",
    "tenant": "default",
    "platform": "example",
    "sender_id": "u-17",
    "recipient_id": "u-42",
    "conversation_id": "c-17-42",
    "verdict": "quarantine",
    "mode": "enforce",
    "score": 0.97,
    "threshold": 0.8,
    "text_score": 0.93,
    "override": None,
    "labels": {"pitch": 0.91, "follow_thanks": 0.88},
    "reasons": [
        {"code": "text", "weight": 2.59, "detail": "0.93"},
        {"code": "just_followed", "weight": 1.1, "detail": "5 s"},
    ],
    "signals": {"cold_recipients_1h": 41, "repeats_1h": 39},
    "campaign_id": None,
    "supersedes": None,
    "expires_at": "2026-12-22T10:00:00Z",
    "model": {"version": "1", "sha256": "0" * 64},
    "policy": {"version": "1"},
    "degraded": [],
    "sent_at": "2026-11-22T10:00:00.000Z",
    "ingested_at": "2026-11-22T10:00:00.010Z",
    "decided_at": "2026-11-22T10:00:00.050Z",
}

MODEL = ModelRef(version="1", sha256="ab" * 32)
SENDER, RECIPIENT = "default/example/u-17", "default/example/u-42"
FULL_MESSAGE = message(
    revision=1,
    tenant="acme",
    platform="example",
    in_reply_to="e-0",
    attachments=2,
    sender=Person(handle="a", display_name="A", created_ms=1, followers=2, following=3, verified=True),
    recipient=Person(handle="b"),
    relation=Relation(
        followed_ms=1, recipient_follows_sender=True, sender_follows_recipient=False, prior_messages_from_recipient=0
    ),
    backfill=True,
    unreadable=True,
    extra={"truth": [1, None]},
)
DECISION = codec.decode(codec.dumps(DESIGN_DECISION), Decision)
BARE_DECISION = Decision(
    v=VERSION,
    decision_id="d-0",
    event_id="e-1",
    revision=0,
    cause="first",
    tenant="default",
    platform="default",
    sender_id=None,
    recipient_id=None,
    conversation_id=None,
    verdict=Verdict.ALLOW,
    mode=Mode.SHADOW,
    score=None,
    threshold=None,
    text_score=None,
    override=Override.TRUST,
    labels={},
    reasons=(Reason(code=ReasonCode.CONVERSATION, weight=-5.0, detail=""),),
    signals={},
    campaign_id=None,
    supersedes="d-1",
    expires_at=None,
    model=None,
    policy=PolicyRef(version="1"),
    degraded=(Degraded.UNREADABLE,),
    sent_at=None,
    ingested_at=codec.rfc3339(NOON_MS),
    decided_at=codec.rfc3339(NOON_MS),
)
REVIEW: dict[str, Any] = {
    "v": VERSION,
    "review_id": "r-1",
    "actor": "ana",
    "reason": "it is mine",
    "reviewed_ms": NOON_MS,
}
SAMPLES: list[msgspec.Struct] = [
    message(recipient_id=None),
    FULL_MESSAGE,
    Contacts(v=VERSION, contacts=()),
    Contacts(v=VERSION, contacts=(Contact("default/example/c-1", SENDER, NOON_MS),)),
    Corrections(v=VERSION, corrections=(Correction(sender=SENDER, event_id="e-1", revision=0, event_ms=NOON_MS),)),
    score(text_score=None),
    score(
        bond=Bond.UNKNOWN,
        first_score=0.4,
        labels={"pitch": 0.9},
        spans=((0, 4, 1.5),),
        signals={"repeats_1h": 3.0},
        campaign_id="k-1",
        model=MODEL,
        degraded=tuple(Degraded),
    ),
    BARE_DECISION,
    DECISION,
    Evidence(v=VERSION, decision=DECISION, message=FULL_MESSAGE, spans=((0, 4, 1.5),)),
    *(Review(command=command, **REVIEW) for command in ReviewCommand),
    Review(
        command=ReviewCommand.BLOCK,
        tenant="acme",
        platform="example",
        event_id="e-1",
        sender_id="u-17",
        campaign_id="k-1",
        until_ms=NOON_MS,
        text="buy",
        **REVIEW,
    ),
    Label(
        v=VERSION,
        event_id="e-1",
        revision=0,
        tenant="default",
        platform="default",
        label="pitch",
        text="buy",
        review_id="r-1",
        labelled_ms=NOON_MS,
    ),
    Sightings(
        v=VERSION, sightings=(Sighting("default", ("00ff",), SENDER, "default/example/c-1", NOON_MS, RECIPIENT),)
    ),
    Campaign(
        v=VERSION,
        campaign_id="k-1",
        tenant="default",
        key="00ff",
        senders=10,
        conversations=12,
        first_ms=1,
        last_ms=2,
        expires_ms=3,
        exempt=True,
        confirmed=True,
    ),
    Standing(v=VERSION, sender=SENDER),
    Standing(
        v=VERSION,
        sender=SENDER,
        strikes=1.5,
        strikes_ms=1,
        block_until_ms=2,
        trust_until_ms=3,
        exempt={RECIPIENT: NOON_MS},
    ),
    Checkpoint(v=VERSION, offset=7, state=b"rows", generation=1, piece="senders/17"),
    Control(v=VERSION, mode=Mode.SHADOW, actor="ana", reason="a wrong policy", at_ms=NOON_MS),
    AuditEntry(v=VERSION, audit_id="a-1", actor="ana", action="release", subject=SENDER, reason="mine", at_ms=NOON_MS),
]


def faults(pointer: str, document: object) -> list[str]:
    """What a schema holds against a document."""
    validator = Draft202012Validator({"$ref": pointer}, registry=REGISTRY)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def output_faults(output: Output) -> list[str]:
    """What the contract of its topic holds against an output."""
    headers = {name: value.decode(errors="replace") for name, value in output.headers}
    if output.topic == DEAD_LETTER:
        return faults("dm.deadletter.schema.json", headers)
    pointer = f"{output.topic}.schema.json"
    if output.topic == MESSAGES:
        pointer += "#/$defs/" + headers.get("doorman-type", "message").capitalize()
    return faults(pointer, json.loads(output.value or b""))


# --- the schemas themselves


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_contract_is_a_schema_that_says_what_it_is(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == name
    assert schema["title"]
    assert schema["description"]


def test_contracts_only_grow() -> None:
    """For a release, and only then: `python -m tests.promises > deploy/contracts/released.txt`."""
    assert not broken(RELEASED.read_text().splitlines(), promises(shipped()))


def _without_score(decision: dict[str, Any]) -> None:
    del decision["properties"]["score"]


CHANGES: dict[str, tuple[bool, Callable[[dict[str, Any]], object]]] = {
    "a new field": (False, lambda decision: decision["properties"].update(mood={"type": "string", "minLength": 1})),
    "a new verdict": (False, lambda decision: decision["properties"]["verdict"]["enum"].append("hold")),
    "a new definition": (False, lambda decision: decision["$defs"].update(Mood={"type": "string"})),
    "other words": (False, lambda decision: decision.update(description="A judgement.")),
    "a field less": (True, _without_score),
    "a field of another type": (True, lambda decision: decision["properties"]["revision"].update(type="string")),
    "a field that may be null": (
        True,
        lambda decision: decision["properties"]["cause"].update(type=["string", "null"]),
    ),
    "a field no longer promised": (True, lambda decision: decision["required"].remove("verdict")),
    "a field newly demanded": (True, lambda decision: decision["required"].append("mood")),
    "a verdict less": (True, lambda decision: decision["properties"]["verdict"]["enum"].remove("allow")),
    "a tighter bound": (True, lambda decision: decision["properties"]["revision"].update(maximum=9)),
    "another form of id": (True, lambda decision: decision["properties"]["decision_id"].update(pattern="^x-")),
    "another kind of reason": (
        True,
        lambda decision: decision["properties"]["reasons"].update(items={"type": "string"}),
    ),
    "nothing unknown any more": (True, lambda decision: decision.update(additionalProperties=False)),
}


@pytest.mark.parametrize(("breaks", "change"), CHANGES.values(), ids=CHANGES)
def test_a_change_of_a_contract_breaks_it_or_adds_to_it(
    breaks: bool, change: Callable[[dict[str, Any]], object]
) -> None:
    before, after = shipped(), shipped()
    change(after["dm.decisions"])
    assert before != after
    assert bool(broken(promises(before), promises(after))) is breaks


def test_every_topic_has_a_contract() -> None:
    assert set(SCHEMAS) == {f"{topic}.schema.json" for topic in TOPICS}


def test_every_record_with_a_version_has_a_contract() -> None:
    structs = [kind for kind in vars(records).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    whole = {kind for kind in structs if not kind.__subclasses__()}  # an Envelope is part of a Message
    assert {kind for kind in whole if "v" in kind.__struct_fields__} == set(VALUES)


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_a_contract_has_the_records_shape(kind: type[msgspec.Struct]) -> None:
    generated = msgspec.json.schema(kind)
    theirs: Registry[Any] = Registry().with_resource("", Resource.from_contents(generated, DRAFT202012))
    assert outline({"$ref": VALUES[kind]}, REGISTRY.resolver()) == outline(generated, theirs.resolver())


def test_objects_are_open_so_that_fields_can_be_added() -> None:
    closed = [
        name
        for name, schema in SCHEMAS.items()
        for part in objects(schema)
        if part.get("additionalProperties") is False
    ]
    assert not closed


def test_the_enums_of_a_dead_letter_are_the_codes() -> None:
    properties = SCHEMAS["dm.deadletter.schema.json"]["properties"]
    assert properties["doorman-reason"]["enum"] == [fault.value for fault in Fault]
    assert properties["doorman-service"]["enum"] == list(PORTS)


# --- records


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_a_record_as_written_keeps_its_contract(sample: msgspec.Struct) -> None:
    assert not faults(VALUES[type(sample)], json.loads(codec.encode(sample)))


def test_the_samples_fill_every_field() -> None:
    for kind in VALUES:
        written = [json.loads(codec.encode(sample)).keys() for sample in SAMPLES if type(sample) is kind]
        assert set().union(*written) == set(kind.__struct_fields__), kind.__name__


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_a_reader_takes_what_the_contract_lets_a_later_writer_add(sample: msgspec.Struct) -> None:
    later = json.loads(codec.encode(sample)) | {"added_later": {"a": [1]}, "v": VERSION - 1}
    assert not faults(VALUES[type(sample)], later)
    assert msgspec.structs.replace(codec.decode(json.dumps(later).encode(), type(sample)), v=VERSION) == sample


def test_the_designs_examples_keep_their_contracts() -> None:
    assert not faults("dm.events.schema.json", DESIGN_EVENT)
    assert not faults("dm.decisions.schema.json", DESIGN_DECISION)


@pytest.mark.parametrize(
    "wrong",
    [
        {"verdict": "delete"},
        {"mode": None},
        {"score": 1.5},
        {"labels": {"pitch": 2}},
        {"reasons": [{"code": "hunch", "weight": 1, "detail": ""}]},
        {"reasons": [{"code": "text", "weight": 1}]},
        {"degraded": ["tired"]},
        {"decided_at": 1_795_608_000_000},
        {"decided_at": "yesterday"},
        {"model": {"version": "1"}},
        {"v": 2},
    ],
    ids=str,
)
def test_a_wrong_decision_breaks_the_contract(wrong: dict[str, Any]) -> None:
    assert faults("dm.decisions.schema.json", DESIGN_DECISION | wrong)


@pytest.mark.parametrize("field", Decision.__struct_fields__)
def test_a_decision_without_a_field_breaks_the_contract(field: str) -> None:
    assert faults("dm.decisions.schema.json", {name: part for name, part in DESIGN_DECISION.items() if name != field})


@pytest.mark.parametrize(
    ("pointer", "wrong"),
    [
        (VALUES[Contacts], {"v": 1, "contacts": [["a/b/c", "u-17", 1]]}),
        (VALUES[Contacts], {"v": 1, "contacts": [["a/b/c", "a/b/d"]]}),
        (VALUES[Corrections], {"v": 1, "corrections": [{"sender": "a/b/c"}]}),
        (VALUES[Score], {"v": 1, "text_score": 0.5, "bond": "lukewarm", "message": {}}),
        (VALUES[Evidence], {"v": 1, "decision": DESIGN_DECISION, "message": None}),
        (VALUES[Review], REVIEW | {"command": "delete"}),
        (VALUES[Standing], {"v": 1, "sender": "u-17"}),
        (VALUES[Standing], {"v": 1, "sender": SENDER, "exempt": {"u-42": 1}}),
        (VALUES[Sightings], {"v": 1, "sightings": [["a", [], SENDER, SENDER, 1]]}),
        (VALUES[Sightings], {"v": 1, "sightings": [["a", ["00ff"], SENDER]]}),
        ("dm.memory.schema.json", {"v": 1, "state": {}}),
        ("dm.deadletter.schema.json", {"doorman-reason": "internal"}),
    ],
)
def test_a_wrong_record_breaks_its_contract(pointer: str, wrong: dict[str, Any]) -> None:
    assert faults(pointer, wrong)


# --- events, and what the stages make of them

IDS = st.one_of(st.text(min_size=1, max_size=64), st.integers(0, 2**63))
MOMENTS = st.one_of(st.integers(0, 4_102_444_800_000), st.integers(0, 4_102_444_800_000).map(codec.rfc3339))
COUNTS = st.integers(0, 2**53)
PEOPLE = st.fixed_dictionaries(
    {},
    optional={
        "handle": st.none() | st.text(max_size=20),
        "display_name": st.none() | st.text(max_size=20),
        "created_at": st.none() | MOMENTS,
        "followers": st.none() | COUNTS,
        "following": st.none() | COUNTS,
        "verified": st.none() | st.booleans(),
        "bio": st.text(max_size=5),
    },
)
RELATIONS = st.fixed_dictionaries(
    {},
    optional={
        "followed_at": st.none() | MOMENTS,
        "recipient_follows_sender": st.none() | st.booleans(),
        "sender_follows_recipient": st.none() | st.booleans(),
        "prior_messages_from_recipient": st.none() | COUNTS,
    },
)
EVENTS = st.fixed_dictionaries(
    {"event_id": IDS, "sender_id": IDS, "recipient_id": IDS, "sent_at": MOMENTS, "text": st.text()},
    optional={
        "revision": st.none() | COUNTS,
        "tenant": st.none() | IDS,
        "platform": st.none() | IDS,
        "recipients": st.none() | st.lists(IDS, max_size=5),
        "conversation_id": st.none() | IDS,
        "in_reply_to": st.none() | IDS,
        "attachments": st.none() | COUNTS,
        "sender": st.none() | PEOPLE,
        "recipient": st.none() | PEOPLE,
        "relation": st.none() | RELATIONS,
        "truth": st.none() | st.dictionaries(st.text(max_size=5), st.integers(-9, 9) | st.text(max_size=5)),
    },
)


@dataclass(frozen=True, slots=True)
class Text:
    """What the fake model says of a text."""

    score: float
    first: float = 0.25
    labels: dict[str, float] = field(default_factory=lambda: {"pitch": 0.9})
    spans: tuple[tuple[int, int, float], ...] = ((0, 1, 2.0),)


class Suspicious:
    """A model that suspects every text."""

    version, sha256 = "1", "0" * 64

    def score(self, texts: Sequence[str]) -> list[Text]:
        return [Text(0.999) for _ in texts]

    def unsure(self, first: float) -> bool:
        return False

    def again(self, text: str, first: float) -> Text:
        raise AssertionError("it is never unsure")


def pipeline(*inbound: Record) -> Iterator[list[Output]]:
    """The outputs of the three stages, one list each."""
    taken = ingest(inbound, lambda key: partition_of(key, 4), 4, NOON_MS).outputs
    yield taken
    scored = classify(again(taken, MESSAGES), State(), Suspicious(), lambda *_: "k-1", locate, NOON_MS).outputs
    yield scored
    shipped = policy.read(ROOT / "deploy" / "policy.toml")
    yield act(again(scored, "dm.scores"), shipped, lambda _: None, False, NOON_MS).outputs


def locate(_: str, key: bytes) -> int:
    return partition_of(key, 4)


def again(outputs: Sequence[Output], topic: str) -> list[Record]:
    return [
        Record(output.value, key=output.key, headers=output.headers, timestamp=output.timestamp_ms, topic=topic)
        for output in outputs
        if output.topic == topic
    ]


@given(EVENTS)
def test_an_event_that_keeps_the_contract_is_taken_and_so_does_all_that_comes_of_it(
    sent: dict[str, Any],
) -> None:
    assert not faults("dm.events.schema.json", sent)
    outputs = [output for stage in pipeline(Record(codec.dumps(sent))) for output in stage]
    assert not [fault for output in outputs for fault in output_faults(output)]
    assert {"dm.messages", "dm.scores", "dm.decisions"} <= {output.topic for output in outputs}
    assert DEAD_LETTER not in {output.topic for output in outputs}


def test_a_quarantine_with_a_sighting_keeps_every_contract_on_its_way() -> None:
    pitch = event(text="Thanks for following! Grab my free guide to many more followers of your own today")
    outputs = [output for stage in pipeline(Record(codec.dumps(pitch))) for output in stage]
    assert {output.topic for output in outputs} == {
        "dm.messages", "dm.scores", "dm.sightings", "dm.decisions", "dm.quarantine"
    }  # fmt: skip
    assert not [fault for output in outputs for fault in output_faults(output)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"event_id": ""},
        {"event_id": None},
        {"event_id": "x" * 257},
        {"event_id": True},
        {"sender_id": ["u-17"]},
        {"sent_at": "yesterday"},
        {"sent_at": "2026-11-25"},
        {"sent_at": "2026-11-25T12:00:00"},
        {"sent_at": 1.5},
        {"text": None},
        {"text": 1},
        {"revision": -1},
        {"attachments": "2"},
        {"recipient_id": None},
        {"recipient_id": None, "recipients": []},
        {"recipients": "u-42"},
        {"recipients": [None]},
        {"sender": "growthguru"},
        {"sender": {"followers": "many"}},
        {"sender": {"verified": "no"}},
        {"recipient": {"handle": 1}},
        {"relation": {"followed_at": "now"}},
        {"relation": {"recipient_follows_sender": 1}},
        {"relation": {"prior_messages_from_recipient": 0.5}},
    ],
    ids=str,
)
def test_what_breaks_the_contract_of_events_is_a_dead_letter_with_its_headers(wrong: dict[str, Any]) -> None:
    document = event() | wrong
    assert faults("dm.events.schema.json", document)
    outputs = next(pipeline(Record(codec.dumps(document))))
    assert DEAD_LETTER in {output.topic for output in outputs}
    assert not [fault for output in outputs for fault in output_faults(output)]


def test_a_dead_letter_that_was_cut_keeps_the_contract() -> None:
    cut = dead_letter(Record(b"x" * (MAX_EVENT_BYTES + 1)), Fault.TOO_LARGE, "ingest", NOON_MS)
    assert {"doorman-length", "doorman-sha256"} <= {name for name, _ in cut.headers}
    assert not output_faults(cut)


# --- the AsyncAPI document


def test_asyncapi_tells_of_the_topics_as_the_table_does() -> None:
    told = {name: channel["bindings"]["kafka"] for name, channel in ASYNCAPI["channels"].items()}
    assert list(told) == list(TOPICS)
    for name, topic in TOPICS.items():
        expected: dict[str, Any] = {"max.message.bytes": topic.max_bytes, "cleanup.policy": ["compact"]}
        if topic.retention_ms is not None:
            expected |= {"cleanup.policy": ["delete"], "retention.ms": topic.retention_ms}
        assert ASYNCAPI["channels"][name]["address"] == told[name]["topic"] == name
        assert told[name]["topicConfiguration"] == expected


def test_asyncapi_names_each_topics_key_and_contract() -> None:
    for name, channel in ASYNCAPI["channels"].items():
        for reference in channel["messages"].values():
            told = within(ASYNCAPI, reference["$ref"])
            key = told["bindings"]["kafka"]["key"]
            assert key["type"] == "null" or key["description"].startswith(TOPICS[name].key)
            contract = told["headers" if name == DEAD_LETTER else "payload"]["$ref"]
            assert contract.partition("#")[0] == f"{name}.schema.json"


def test_every_reference_in_asyncapi_leads_somewhere() -> None:
    for part in objects(ASYNCAPI):
        file, _, pointer = part.get("$ref", "#").partition("#")
        within(SCHEMAS[file] if file else ASYNCAPI, "#" + pointer)


def test_every_topic_is_sent_or_received_by_some_operation() -> None:
    used = {operation["channel"]["$ref"].rpartition("/")[2] for operation in ASYNCAPI["operations"].values()}
    assert used == set(TOPICS)


def test_a_decision_has_the_headers_that_asyncapi_promises() -> None:
    promised = within(ASYNCAPI, "#/components/schemas/cloudEventHeaders")
    *_, decided = pipeline(Record(codec.dumps(event())))
    headers = {name: value.decode() for name, value in decided[0].headers}
    own = {name: rule for name, rule in promised["properties"].items() if "$ref" not in rule}
    assert not list(Draft202012Validator(promised | {"properties": own}).iter_errors(headers))
    assert headers["ce_id"] == json.loads(decided[0].value or b"")["decision_id"]


def outline(schema: Any, resolver: Any) -> frozenset[Any]:
    """A schema's shape: types, fields, which are required. Bounds, patterns and words are left out."""
    if not isinstance(schema, dict):
        return frozenset()
    if "$ref" in schema:
        found = resolver.lookup(schema["$ref"])
        return outline(found.contents, found.resolver)
    kinds = schema.get("type", [])
    if not kinds:
        parts = (outline(part, resolver) for part in schema.get("anyOf", []))
        words = ("null" if value is None else ("word", value) for value in schema.get("enum", []))
        return frozenset(words).union(*parts)
    return frozenset(_typed(kind, schema, resolver) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _typed(kind: str, schema: dict[str, Any], resolver: Any) -> Any:
    if kind == "object":
        fields = {(name, outline(part, resolver)) for name, part in schema.get("properties", {}).items()}
        others = outline(schema.get("additionalProperties"), resolver)
        return kind, frozenset(fields), frozenset(schema.get("required", ())), others
    if kind == "array":
        places = tuple(outline(part, resolver) for part in schema.get("prefixItems", ()))
        return kind, places, outline(schema.get("items"), resolver)
    return kind


def within(document: Any, pointer: str) -> Any:
    """The part of a document that a local reference names; raises KeyError."""
    for step in pointer.removeprefix("#").split("/")[1:]:
        document = document[step]
    return document


def objects(document: object) -> Iterator[dict[str, Any]]:
    """Every JSON object in a document."""
    if isinstance(document, dict):
        yield document
    parts = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    for part in parts:
        yield from objects(part)
