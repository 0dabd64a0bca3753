"""The policy file: taken whole or refused whole, with every fault named by line and remedy."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.action.lines import line_of, lines_of
from services.action.policy import Expiry, Lacking, Links, parse, read
from services.errors import BadSetup
from services.records import Degraded
from services.settings import ROOT

MINIMAL = "[default]\nthreshold = 0.8\n"


def test_the_shipped_policy_is_valid() -> None:
    assert 0 < read(ROOT / "deploy" / "policy.toml").default.threshold < 1


def test_a_policy_is_versioned_by_its_content() -> None:
    assert parse(MINIMAL.encode()).version == parse(MINIMAL.encode()).version
    assert parse(MINIMAL.encode()).version != parse((MINIMAL + "# a word\n").encode()).version


def test_a_tenant_holds_only_what_differs() -> None:
    policy = parse(
        b"[default]\nthreshold = 0.8\nbudget = 9\n[default.label_offsets]\npitch = 1.0\nhype = 2.0\n"
        b'[tenants.club]\nmode = "shadow"\nexpiry = "allow"\n[tenants.club.label_offsets]\npitch = -3.0\n'
    )
    club = policy.of("club")
    assert (club.threshold, club.budget, club.mode, club.expiry) == (0.8, 9, "shadow", Expiry.ALLOW)
    assert club.label_offsets == {"pitch": -3.0, "hype": 2.0}
    assert policy.of("another") is policy.default


# What is wrong -> the file, the line it is on, what the refusal says of it, and the remedy.
BROKEN = {
    "an empty file": ("", 1, "default: the table is missing", "write [default]"),
    "no TOML": ("[default\n", 1, "not TOML", "KEY = VALUE"),
    "an open string": (MINIMAL + 'mode = "off\n', 3, "not TOML", "KEY = VALUE"),
    "a key twice": (MINIMAL + "threshold = 0.7\n", 3, "not TOML: Cannot overwrite a value", "each of them once"),
    "another encoding": (MINIMAL + "# caf\udce9\n", 3, "not UTF-8", "save the file as UTF-8"),
    "no threshold": ("# ours\n[default]\n", 2, "default.threshold: is missing", "a number above 0 and below 1"),
    "a threshold of 1.5": ("[default]\nthreshold = 1.5\n", 2, "default.threshold: 1.5", "a number above 0 and below 1"),
    "a threshold in quotes": ('[default]\nthreshold = "0.5"\n', 2, "default.threshold: '0.5'", "a number above 0"),
    "a threshold that is true": ("[default]\nthreshold = true\n", 2, "default.threshold: True", "a number above 0"),
    "a misspelt key": (MINIMAL + "treshold = 0.5\n", 3, "default.treshold: is unknown", "did you mean threshold?"),
    "an unknown mode": (MINIMAL + '\nmode = "off"\n', 4, "default.mode: 'off'", 'write "enforce" or "shadow"'),
    "an unknown table": (MINIMAL + "[others]\n", 3, "others: is unknown", "[default] and [tenants.NAME]"),
    "a weight that is no number": (MINIMAL + "conversation = nan\n", 3, "default.conversation: nan", "from -20 to 20"),
    "half a day": (MINIMAL + "quarantine_days = 0.5\n", 3, "default.quarantine_days: 0.5", "whole days from 1 to 30"),
    "a budget below none": (MINIMAL + "budget = -1\n", 3, "default.budget: -1", "quarantines an hour, from 0"),
    "an unknown end": (MINIMAL + 'expiry = "drop"\n', 3, "default.expiry: 'drop'", 'write "stay" or "allow"'),
    "an unknown label": (
        MINIMAL + "[default.label_offsets]\npitch = 1.0\nspam = 1.0\n",
        5,
        "default.label_offsets.spam: is unknown",
        "lines of a label (follow_thanks, pitch,",
    ),
    "an unknown signal": (
        MINIMAL + '[default.signals.speed]\nreason = "burst"\nat_least = [[1, 1]]\n',
        3,
        "default.signals.speed: is unknown",
        "tables named by a signal: seconds_since_follow,",
    ),
    "a signal without steps": (
        MINIMAL + '[default.signals.messages_1m]\nreason = "burst"\n',
        3,
        "default.signals.messages_1m: needs at_least or at_most, not both",
        "write tables named by a signal",
    ),
    "an unknown reason": (
        MINIMAL + '[default.signals.messages_1m]\nat_least = [[1, 1]]\nreason = "no"\n',
        5,
        "default.signals.messages_1m.reason: 'no'",
        "one of text, just_followed",
    ),
    "bounds that fall": (
        MINIMAL + '[default.signals.messages_1m]\nreason = "burst"\nat_least = [[5, 1],\n [2, 1]]\n',
        5,
        "default.signals.messages_1m.at_least: bounds must rise",
        "pairs of bound and weight like [[8, 0.5], [15, 1.2]]",
    ),
    "an id that is no string": (
        MINIMAL + '[default.senders]\nallow = [\n "u-1", # = ]\n 17,\n]\nblock = [18]\n',
        8,
        "default.senders.block.0: 18",
        'ids in quotes, like ["u-17"]',
    ),
    "a sender on both lists": (
        MINIMAL + '[default.senders]\nallow = ["u-1"]\nblock = ["u-1"]\n',
        3,
        "default.senders: 'u-1' is on both lists",
        "a sender on one list, allow or block",
    ),
    "a link for a host": (
        MINIMAL + '[tenants.a]\nlinks.block = ["https://x.example/"]\n',
        4,
        "tenants.a.links.block.0: 'https://x.example/' is no host",
        'hosts alone, in lower case, like ["shop.example"]',
    ),
    "an unknown lack": (
        MINIMAL + '[default.degraded]\nmodel_gone = "allow"\n',
        4,
        "default.degraded.model_gone: is unknown",
        "lines of a cause (model_missing,",
    ),
    "a budget spent otherwise": (
        MINIMAL + '[default.degraded]\nbudget_exhausted = "allow"\n',
        4,
        "default.degraded.budget_exhausted: an exhausted budget always means shadow",
        "lines of a cause (model_missing,",
    ),
    "a tenant's own fault": (MINIMAL + '[tenants."b.c"]\nmode = "off"\n', 4, "tenants.b.c.mode: 'off'", "enforce"),
    "a tenant that is no table": (MINIMAL + "[tenants]\na = 3\n", 4, "tenants.a: is no table", "write [tenants.a]"),
}


@pytest.mark.parametrize(("content", "line", "wrong", "remedy"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_by_file_line_fault_and_remedy(
    content: str, line: int, wrong: str, remedy: str, tmp_path: Path
) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(BadSetup) as refused:
        read(path)
    (told,) = [told for told in str(refused.value).splitlines() if f"{path}:{line}: {wrong}" in told]
    assert remedy in told.partition("; ")[2]


@pytest.mark.parametrize(
    "content",
    [b"a=" + b"[" * 5000, b"[default.x" + b".a" * 3000 + b"]\n", b"[default]\nthreshold=" + b"9" * 5000],
    ids=["lists", "tables", "digits"],
)
def test_what_is_too_deep_or_too_long_to_read_is_refused_too(content: bytes) -> None:
    with pytest.raises(BadSetup, match=r"policy:\d+: (nested too deeply|not TOML)"):
        parse(content)


def test_all_faults_are_named_at_once_and_what_is_inherited_once() -> None:
    with pytest.raises(BadSetup) as refused:
        parse(b'[default]\nthreshold = 2\nmode = "off"\n[tenants.a]\ncampaign = "much"\n[tenants.b]\nmode = "on"\n')
    places = [line.split(": ")[1] for line in str(refused.value).splitlines()[1:]]
    assert places == ["default.threshold", "default.mode", "tenants.a.campaign", "tenants.b.mode"]


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadSetup, match="DOORMAN_POLICY"):
        read(tmp_path / "absent.toml")


KEYS = st.text("ab.-é\"'#= []{}", max_size=4)
VALUES = st.sampled_from(
    ["1", '"# = ["', "'\"'", '"""\na = 1\n[b]\n"""', "'''\n'\n'''", "[1, # ]\n 2]", "{ c = { d = 1 } }"]
)


def quoted(key: str) -> str:
    return '"' + key.replace('"', '\\"') + '"'


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4))
def test_every_key_is_found_on_its_line_whatever_stands_around_it(tables: dict[str, dict[str, str]]) -> None:
    text = ""
    expected: dict[tuple[str | int, ...], int] = {}
    for table, keys in tables.items():
        text += f"\n[{quoted(table)}] # [no]\n"
        expected[(table,)] = text.count("\n")
        for key, value in keys.items():
            text += f"{quoted(key)} = {value} # {quoted(key)} = 0\n"
            expected[table, key] = text.count("\n") - value.count("\n")
    assert {place: line for place, line in lines_of(text).items() if place} == expected


def test_what_has_no_line_of_its_own_is_found_on_that_of_what_holds_it() -> None:
    lines = lines_of("[a.b]\nc.d = { e = 1 }\n[[f]]\ng = 1\n")
    assert [line_of(place, lines) for place in (("a",), ("a", "b", "c", "d", "e"), ("f", "g"), ("x",))] == [1, 2, 4, 1]


SHIPPED = (ROOT / "deploy" / "policy.toml").read_text().splitlines()
VALUES_OF_ANY_KIND = [
    "-1",
    "nan",
    "true",
    '"x"',
    '"""\nx"""""',
    "[]",
    "[[1]]",
    "{}",
    "{ a.b = 1 }",
    "1979-05-27",
    "'",
    "99999",
]
LINES = st.one_of(
    st.sampled_from(SHIPPED),
    st.sampled_from(
        ["[default]", "[[default]]", "[tenants]", "[[tenants]]", "[tenants.a.b]", "[[tenants.a]]", "[a]", "\0"]
    ),
    st.builds(
        "{} = {}".format,
        st.sampled_from([line.partition(" =")[0] for line in SHIPPED if " =" in line]),
        st.sampled_from(VALUES_OF_ANY_KIND),
    ),
    st.builds(
        "{}={}".format,
        st.sampled_from(["default", "tenants", "default.mode", "tenants.a", "a.'b'.\"c\""]),
        st.sampled_from(VALUES_OF_ANY_KIND),
    ),
    st.text(max_size=8),
)


@given(st.lists(st.tuples(st.integers(0, len(SHIPPED)), LINES), min_size=1, max_size=4))
def test_whatever_a_file_holds_it_is_taken_or_refused_by_line(changes: list[tuple[int, str]]) -> None:
    lines = list(SHIPPED)
    for place, line in changes:
        lines[place : place + (place % 2)] = [line]
    content = "\n".join(lines).encode(errors="surrogatepass")
    try:
        assert parse(content).version
    except BadSetup as refused:
        first, *faults = str(refused).splitlines()
        assert first == "policy is refused"
        assert faults
        for told in faults:
            number = re.match(r"  policy:(\d+): .+; .+", told)
            assert number, told
            assert 1 <= int(number[1]) <= content.count(b"\n") + 1


@pytest.mark.parametrize(
    ("text", "blocked"),
    [
        ("look: https://bad.example/x", True),
        ("look at WWW.Bad.Example!", True),
        ("so cheap.Go to shop.bad.example", True),
        ("ｂａｄ．example", True),
        ("https://b\u200bad.exam\u00adple/x", True),
        ("here:\u200bbad.example", True),
        ("https://notbad.example and https://bad.example.net", False),
        ("bad example", False),
    ],
)
def test_a_blocked_host_is_found_however_it_is_written(text: str, blocked: bool) -> None:
    assert Links(block=frozenset({"bad.example"})).blocks(text) is blocked


def test_a_hostile_text_is_searched_in_its_length() -> None:
    links = Links(block=frozenset({"bad.example"}))
    assert not any(links.blocks(part * 100_000) for part in ("a", "a.", "a.a-", "-", "é."))


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("your order of 5.30: https://shop.example/1 and https://help.shop.example", True),
        ("your order: https://shop.example/1, more at https://other.example", False),
        ("your order ✅\ufe0f https://shop.example/1\u200b", True),
        ("your order: https://shop.example\u200b.other.example/1", False),
        ("no link at all", False),
    ],
)
def test_a_text_is_allowed_for_its_hosts_only_where_all_of_them_are(text: str, allowed: bool) -> None:
    assert Links(allow=frozenset({"shop.example"})).allows(text) is allowed


def test_of_several_lacks_the_mildest_answer_counts_and_decide_is_none() -> None:
    tenant = parse(
        (
            MINIMAL
            + '[default.degraded]\nmodel_missing = "quarantine"\nmemory_young = "decide"\nunreadable = "allow"\n'
        ).encode()
    ).default
    assert tenant.lacking([Degraded.MEMORY_YOUNG]) is Lacking.DECIDE
    assert tenant.lacking([Degraded.MEMORY_YOUNG, Degraded.MODEL_MISSING]) is Lacking.QUARANTINE
    assert tenant.lacking([Degraded.UNREADABLE, Degraded.MODEL_MISSING]) is Lacking.ALLOW
