"""The platforms' own payloads: each direct message in them comes out as a native event, and nothing else does."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from services import codec
from services.errors import BadRecord, Fault
from services.ingest.adapters import Form, unwrap
from services.ingest.event import message
from services.records import Message, Person
from tests.builders import NOON_MS, Record

NOON = "2026-11-25T12:00:00.000Z"
SNOWFLAKE = str((NOON_MS - 1_420_070_400_000) << 22)


def x_activity(**parts: Any) -> dict[str, Any]:
    create = {
        "type": "message_create",
        "id": "9001",
        "created_timestamp": str(NOON_MS),
        "message_create": {
            "target": {"recipient_id": "42"},
            "sender_id": "17",
            "source_app_id": "3",
            "message_data": {
                "text": "the tide tables are at https://t.co/abc",
                "entities": {"urls": [{"url": "https://t.co/abc", "expanded_url": "https://tides.example/nov"}]},
            },
        },
    }
    users = {"17": {"id": "17", "screen_name": "bea", "name": "Bea", "created_timestamp": "1500000000000"}}
    return {"for_user_id": "42", "direct_message_events": [create | parts], "users": users}


def x_dm(**parts: Any) -> dict[str, Any]:
    return {
        "id": "9002",
        "event_type": "MessageCreate",
        "text": "are you at the quay?",
        "sender_id": "17",
        "dm_conversation_id": "17-42",
        "created_at": NOON,
    } | parts


def status(**parts: Any) -> dict[str, Any]:
    return {
        "id": "11",
        "created_at": NOON,
        "visibility": "direct",
        "account": {"id": "17", "acct": "bea@tides.example", "display_name": "Bea", "followers_count": -1},
        "content": '<p>@ana look: <a href="https://tides.example/nov"><span class="invisible">https://</span>'
        '<span class="ellipsis">tides.example</span><span class="invisible">/nov</span></a></p><p>R &amp; B<br>Bea</p>',
        "mentions": [{"id": "42", "acct": "ana"}],
        "media_attachments": [],
    } | parts


def bsky(**parts: Any) -> dict[str, Any]:
    return {
        "$type": "chat.bsky.convo.defs#messageView",
        "id": "3k1",
        "rev": "r1",
        "text": "né? tides.example/…",
        "facets": [{"index": {"byteStart": 5, "byteEnd": 22}, "features": [{"uri": "https://tides.example/nov"}]}],
        "sender": {"did": "did:plc:bea"},
        "sentAt": NOON,
    } | parts


def bsky_log(**parts: Any) -> dict[str, Any]:
    created = {"$type": "chat.bsky.convo.defs#logCreateMessage", "rev": "r1", "convoId": "c-1", "message": bsky()}
    return {"cursor": "r2", "logs": [created | parts]}


def discord(**parts: Any) -> dict[str, Any]:
    written = {
        "id": SNOWFLAKE,
        "type": 0,
        "channel_id": "77",
        "author": {"id": SNOWFLAKE, "username": "bea", "global_name": "Bea"},
        "content": "shall I bring the gauge?",
        "timestamp": "2026-11-25T12:00:00.000000+00:00",
        "edited_timestamp": None,
        "attachments": [],
    }
    return {"op": 0, "s": 3, "t": "MESSAGE_CREATE", "d": written | parts}


def telegram(kind: str = "message", **parts: Any) -> dict[str, Any]:
    written = {
        "message_id": 5,
        "from": {"id": 17, "is_bot": False, "first_name": "Bea", "last_name": "Ito", "username": "bea"},
        "chat": {"id": 17, "type": "private"},
        "date": NOON_MS // 1000,
        "text": "🌊 see here",
        "entities": [{"type": "text_link", "offset": 7, "length": 4, "url": "https://tides.example/nov"}],
    }
    return {"update_id": 1, kind: written | parts}


def slack(**parts: Any) -> dict[str, Any]:
    event = {
        "type": "message",
        "channel": "D1",
        "channel_type": "im",
        "user": "U17",
        "ts": f"{NOON_MS // 1000}.000200",
        "text": "R &amp; B: <https://tides.example/nov|the tables>, <@U42>",
    }
    return {
        "type": "event_callback",
        "team_id": "T1",
        "event_id": "Ev1",
        "event_time": NOON_MS // 1000,
        "authorizations": [{"user_id": "U42"}],
        "event": event | parts,
    }


def matrix(content: dict[str, Any] | None = None, **parts: Any) -> dict[str, Any]:
    return {
        "type": "m.room.message",
        "room_id": "!quay:tides.example",
        "event_id": "$1",
        "sender": "@bea:tides.example",
        "origin_server_ts": NOON_MS,
        "content": {"msgtype": "m.text", "body": "low water at six"} | (content or {}),
    } | parts


def deep(levels: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(levels):
        inner = [inner]
    return inner


def found(record: Record) -> list[dict[str, Any]]:
    """The events in a record; raises the first that cannot be read."""
    events = []
    for _, event in unwrap(record, record.value or b""):
        if isinstance(event, BadRecord):
            raise event
        events.append(event)
    return events


def taken(document: dict[str, Any]) -> list[Message]:
    return [message(event, NOON_MS) for event in found(Record(codec.dumps(document), timestamp=NOON_MS))]


@pytest.mark.parametrize(
    ("document", "form", "expected"),
    [
        (x_activity(), Form.X, ("9001", "17", ("42",), "the tide tables are at https://tides.example/nov")),
        (
            {"events": x_activity()["direct_message_events"], "next_cursor": "c"},
            Form.X,
            ("9001", "17", ("42",), "the tide tables are at https://tides.example/nov"),
        ),
        (
            {"event": x_activity()["direct_message_events"][0]},
            Form.X,
            ("9001", "17", ("42",), "the tide tables are at https://tides.example/nov"),
        ),
        ({"data": [x_dm()], "meta": {}}, Form.X, ("9002", "17", ("42",), "are you at the quay?")),
        (
            {"data": {"event_type": "dm.received", "event_uuid": "a-1", "payload": x_activity()}},
            Form.X,
            ("9001", "17", ("42",), "the tide tables are at https://tides.example/nov"),
        ),
        ({"data": x_dm()}, Form.X, ("9002", "17", ("42",), "are you at the quay?")),
        (status(), Form.MASTODON, ("11", "17", ("42",), "@ana look: https://tides.example/nov\nR & B\nBea")),
        (
            {"stream": ["direct"], "event": "conversation", "payload": codec.dumps({"last_status": status()}).decode()},
            Form.MASTODON,
            ("11", "17", ("42",), "@ana look: https://tides.example/nov\nR & B\nBea"),
        ),
        (
            {"id": "8", "type": "mention", "created_at": NOON, "account": {"id": "17"}, "status": status()},
            Form.MASTODON,
            ("11", "17", ("42",), "@ana look: https://tides.example/nov\nR & B\nBea"),
        ),
        (bsky_log(), Form.BLUESKY, ("3k1", "did:plc:bea", (), "né? https://tides.example/nov")),
        (
            {"id": "c-1", "members": [{"did": "did:plc:bea"}, {"did": "did:plc:ana"}], "lastMessage": bsky()},
            Form.BLUESKY,
            ("3k1", "did:plc:bea", ("did:plc:ana",), "né? https://tides.example/nov"),
        ),
        (discord(), Form.DISCORD, (SNOWFLAKE, SNOWFLAKE, (), "shall I bring the gauge?")),
        (telegram(), Form.TELEGRAM, ("17:5", "17", (), "🌊 see here https://tides.example/nov")),
        (
            telegram("business_message", business_connection_id="b-1"),
            Form.TELEGRAM,
            ("b-1:17:5", "17", ("b-1",), "🌊 see here https://tides.example/nov"),
        ),
        (
            slack(),
            Form.SLACK,
            (f"D1:{NOON_MS // 1000}.000200", "U17", ("U42",), "R & B: the tables https://tides.example/nov, @U42"),
        ),
        ({"events": [matrix()]}, Form.MATRIX, ("$1", "@bea:tides.example", (), "low water at six")),
        (
            {"next_batch": "s1", "rooms": {"join": {"!quay:tides.example": {"timeline": {"events": [matrix()]}}}}},
            Form.MATRIX,
            ("$1", "@bea:tides.example", (), "low water at six"),
        ),
        (
            {"next_batch": "s1", "rooms": {"leave": {"!quay:tides.example": {"timeline": {"events": [matrix()]}}}}},
            Form.MATRIX,
            ("$1", "@bea:tides.example", (), "low water at six"),
        ),
    ],
    ids=lambda value: value.value if isinstance(value, Form) else "",
)
def test_a_direct_message_comes_out_of_its_payload(
    document: dict[str, Any], form: Form, expected: tuple[str, str, tuple[str, ...], str]
) -> None:
    record = Record(codec.dumps(document))
    assert [found for found, _ in unwrap(record, record.value or b"")] == [form]
    (one,) = taken(document)
    assert (one.event_id, one.sender_id, one.recipients, one.text) == expected
    assert (one.sent_ms, one.platform) == (NOON_MS, form.value)


@pytest.mark.parametrize(
    "document",
    [
        {"for_user_id": "42", "follow_events": [{"type": "follow"}]},
        x_activity(type="welcome_message_create"),
        {"data": [x_dm(event_type="ParticipantsJoin", text="")]},
        {"for_user_id": "42", "direct_message_events": []},
        {"user_event": {"revoke": {"target": {"app_id": "3"}, "source": {"user_id": "17"}}}},
        {"meta": {"result_count": 0}},
        {"data": {"event_type": "follow.followed", "event_uuid": "a-2", "payload": {"source": {"id": "17"}}}},
        status(visibility="public"),
        {"event": "delete", "payload": "11", "stream": ["user"]},
        {"event": "account.created", "object": {"id": "1"}},
        {"id": "8", "type": "favourite", "account": {"id": "17"}, "status": status(visibility="private")},
        {"id": "8", "type": "favourite", "account": {"id": "42"}, "status": status()},
        {"event": "notification", "payload": codec.dumps({"type": "poll", "account": {}, "status": status()}).decode()},
        {"id": "8", "type": "follow", "created_at": NOON, "account": {"id": "17"}},
        {"logs": [], "cursor": "r"},
        {"id": "c-1", "rev": "2", "members": [{"did": "did:plc:bea"}], "muted": False},
        bsky_log(**{"$type": "chat.bsky.convo.defs#logReadMessage"}),
        bsky_log(message={"$type": "chat.bsky.convo.defs#deletedMessageView", "id": "3k1"}),
        discord(guild_id="1"),
        discord(type=7),
        {"op": 11, "d": None, "t": None},
        {"op": 0, "t": "TYPING_START", "d": {"channel_id": "77", "user_id": "1"}},
        telegram(chat={"id": -5, "type": "supergroup"}),
        *(
            telegram(text=None, entities=None) | {kind: told}
            for kind, told in (
                ("pinned_message", {"message_id": 4}),
                ("successful_payment", {"currency": "XTR"}),
                ("new_chat_title", "A phone"),
            )
        ),
        {"update_id": 1, "callback_query": {"id": "1"}},
        {"ok": True, "result": []},
        slack(channel_type="channel"),
        slack(subtype="message_deleted"),
        {"type": "url_verification", "challenge": "x"},
        {"events": []},
        {"next_batch": "s1"},
        matrix(type="m.room.member"),
        matrix(unsigned={"redacted_because": {}}),
    ],
    ids=str,
)
def test_what_is_no_direct_message_is_passed_over(document: dict[str, Any]) -> None:
    assert taken(document) == []


@pytest.mark.parametrize(
    ("first", "edit"),
    [
        (status(), status(edited_at="2026-11-25T12:05:00Z", content="<p>later</p>")),
        (
            discord(),
            discord(edited_timestamp="2026-11-25T12:05:00+00:00", content="later") | {"t": "MESSAGE_UPDATE"},
        ),
        (telegram(), telegram("edited_message", edit_date=NOON_MS // 1000 + 300, text="later", entities=[])),
        (
            slack(),
            slack(
                subtype="message_changed",
                message={
                    "user": "U17",
                    "text": "later",
                    "ts": f"{NOON_MS // 1000}.000200",
                    "edited": {"user": "U17", "ts": f"{NOON_MS // 1000 + 300}.0"},
                },
            ),
        ),
        (
            matrix(),
            matrix(
                {
                    "body": "* later",
                    "m.new_content": {"msgtype": "m.text", "body": "later"},
                    "m.relates_to": {"rel_type": "m.replace", "event_id": "$1"},
                },
                event_id="$2",
                origin_server_ts=NOON_MS + 300_000,
            ),
        ),
    ],
    ids=["mastodon", "discord", "telegram", "slack", "matrix"],
)
def test_an_edit_is_a_higher_revision_of_the_same_event(first: dict[str, Any], edit: dict[str, Any]) -> None:
    (before,), (after,) = taken(first), taken(edit)
    assert before.event_id == after.event_id
    assert before.conversation_id == after.conversation_id
    assert after.revision > before.revision == 0
    assert after.text == "later"


@pytest.mark.parametrize(
    ("own", "others"),
    [
        (
            status(in_reply_to_id="10", in_reply_to_account_id="17"),
            status(in_reply_to_id="10", in_reply_to_account_id="42"),
        ),
        (
            discord(message_reference={"message_id": "6"}, referenced_message={"author": {"id": SNOWFLAKE}}),
            discord(message_reference={"message_id": "6"}, referenced_message={"author": {"id": "1"}}),
        ),
        (
            telegram(reply_to_message={"message_id": 4, "from": {"id": 17}}),
            telegram(reply_to_message={"message_id": 4, "from": {"id": 99}}),
        ),
        (slack(thread_ts="1.0", parent_user_id="U17"), slack(thread_ts="1.0", parent_user_id="U42")),
    ],
    ids=["mastodon", "discord", "telegram", "slack"],
)
def test_only_an_answer_to_somebody_else_is_an_answer(own: dict[str, Any], others: dict[str, Any]) -> None:
    assert taken(own)[0].in_reply_to is None
    assert taken(others)[0].in_reply_to is not None


@pytest.mark.parametrize(
    ("body", "own"),
    [
        ("> <@ana:x> free e-book?\n>\n> really\n\nno thanks", "no thanks"),
        ("> * <@ana:x> waves\n\nhello", "hello"),
        ("> her own quote\n\nno thanks", "> her own quote\n\nno thanks"),
    ],
)
def test_an_answer_in_matrix_is_read_without_what_its_client_quotes(body: str, own: str) -> None:
    answers = {"m.relates_to": {"m.in_reply_to": {"event_id": "$0"}}}
    assert taken(matrix({"body": body} | answers))[0].text == own
    assert taken(matrix({"body": body}))[0].text == body


def in_html(html: str, **content: Any) -> dict[str, Any]:
    return matrix({"body": "hi", "format": "org.matrix.custom.html", "formatted_body": html} | content)


@pytest.mark.parametrize(
    ("html", "seen"),
    [
        ("<b>free</b> crypto", "free crypto"),
        ("<mx-reply><blockquote>really?<br>no</blockquote></mx-reply>yes", "yes"),
        ("", "hi"),
        ("<p>Offer:</p>\n<ul>\n<li>free</li>\n<li>crypto</li>\n</ul>\nnow", "Offer:\nfree\ncrypto\nnow"),
        ("<h1>Offer</h1><div><p>free</p></div><blockquote>a<br>b</blockquote>c", "Offer\nfree\na\nb\nc"),
        ("<table><tr><td>free</td><td>crypto</td></tr></table>", "free\ncrypto"),
        ('<a href="https://win.example">here</a>now', "here https://win.example now"),
        ('<a href="https://win.example">here</a><br>now', "here https://win.example\nnow"),
        ('<p><a href="https://win.example">here</a>.</p>now', "here https://win.example.\nnow"),
    ],
)
def test_html_is_read_as_people_see_it(html: str, seen: str) -> None:
    assert taken(in_html(html))[0].text == seen


@pytest.mark.parametrize(
    "html",
    [
        '<a class="mention" href="https://win.example">our site</a>',
        '<a href="HTTPS://win.example">our site</a>',
        '<a href=" https://win.example">our site',
        '<a href="https://win.example" href="https://matrix.to/#/@ana:x">our site</a>',
        '<a href="https://win.example">our site<a href="https://tides.example">tides.example</a>',
    ],
    ids=["called a mention", "upper case", "never closed", "given twice", "nested"],
)
def test_no_link_hides_from_being_read(html: str) -> None:
    assert "our site https://win.example" in taken(in_html(html))[0].text.replace("HTTPS", "https")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"body": "quay.jpg"}, ""),
        ({"body": "quay.jpg", "filename": "quay.jpg"}, ""),
        ({"body": "free crypto", "filename": "quay.jpg"}, "free crypto"),
    ],
    ids=["no file name", "the same", "a caption"],
)
def test_a_medium_in_matrix_is_read_with_its_caption_and_not_its_file_name(content: dict[str, Any], text: str) -> None:
    (one,) = taken(matrix({"msgtype": "m.image"} | content))
    assert (one.text, one.attachments) == (text, 1)


@pytest.mark.parametrize(
    "document",
    [
        x_activity() | {"users": None},
        {"data": [x_dm(attachments=None, entities=None, participant_ids=None)], "includes": None},
        status(media_attachments=None, spoiler_text=None, edited_at=None),
        {"event": "update", "payload": codec.dumps(status(media_attachments=None, content=None)).decode()},
        bsky_log(message=bsky(facets=None, embed=None)),
        discord(attachments=None, type=None, referenced_message=None),
        telegram(entities=None, edit_date=None),
        slack(files=None) | {"authorizations": None},
        matrix(unsigned=None),
    ],
    ids=["x", "x v2", "mastodon", "mastodon stream", "bluesky", "discord", "telegram", "slack", "matrix"],
)
def test_what_is_null_is_as_absent(document: dict[str, Any]) -> None:
    assert len(taken(document)) == 1


@pytest.mark.parametrize(
    "document",
    [
        x_activity() | {"users": {"17": {"screen_name": "bea", "created_timestamp": "soon", "followers_count": "n/a"}}},
        {"data": x_dm(), "includes": {"users": [{"id": "17", "username": "bea", "created_at": "2024-01-01"}]}},
        status(account={"id": "17", "acct": "bea", "created_at": "2024-01-01", "followers_count": "n/a"}),
        {"members": [{"did": "did:plc:bea", "handle": "bea", "createdAt": "now"}], "id": "c", "lastMessage": bsky()},
    ],
    ids=["x", "x v2", "mastodon", "bluesky"],
)
def test_what_cannot_be_read_of_a_profile_costs_no_message(document: dict[str, Any]) -> None:
    assert taken(document)[0].sender == Person(handle="bea")


def test_the_numbers_of_a_profile_may_be_text_in_x() -> None:
    user = {"created_timestamp": str(NOON_MS), "followers_count": "7"}
    assert taken(x_activity() | {"users": {"17": user}})[0].sender == Person(created_ms=NOON_MS, followers=7)


def test_the_warning_before_a_status_is_read_with_it() -> None:
    assert taken(status(spoiler_text="FREE tokens", content="<p>inside</p>"))[0].text == "FREE tokens\ninside"


def test_a_link_behind_other_words_is_read_and_a_mention_is_not() -> None:
    hidden = (
        '<a href="https://m.example/@ana" class="u-url mention">@ana</a> <a href="https://win.example/x">our site</a>'
    )
    assert taken(status(content=hidden))[0].text == "@ana our site https://win.example/x"
    pill = '<a href="https://matrix.to/#/@ana:x">Ana</a> '
    shown = {"body": "our site", "format": "org.matrix.custom.html", "formatted_body": pill + hidden}
    assert taken(matrix(shown))[0].text == "Ana @ana our site https://win.example/x"


@pytest.mark.parametrize("place", [lambda urls: {"urls": urls}, lambda urls: {"entities": {"urls": urls}}])
def test_in_x_a_text_is_read_as_written_with_its_links_whole(place: Callable[[list[Any]], dict[str, Any]]) -> None:
    link = {"start": 18, "end": 34, "url": "https://t.co/abc", "expanded_url": "https://win.example/?a=1&lt=2"}
    (one,) = taken({"data": x_dm(text="R &amp; B &lt;3 https://t.co/abc &amp;amp;", **place([link]))})
    assert one.text == "R & B <3 https://win.example/?a=1&lt=2 &amp;"


def facet(start: int, end: int, uri: str) -> dict[str, Any]:
    return {"index": {"byteStart": start, "byteEnd": end}, "features": [{"uri": uri}]}


@pytest.mark.parametrize(
    ("facets", "shown"),
    [
        ([facet(0, 30, "https://win.example/x")], "Claim your prize: tides.exa... https://win.example/x"),
        ([facet(18, 30, "https://tides.example/nov")], "Claim your prize: https://tides.example/nov"),
        (
            [facet(6, 16, "https://b.example"), facet(0, 10, "https://a.example")],
            "Claim your https://a.example prize: tides.exa...",
        ),
        ([facet(30, 30, "https://win.example/x"), facet(0, -1, "https://win.example/x")], ""),
        ([facet(11, 99, "https://win.example/x")], "Claim your prize: tides.exa... https://win.example/x"),
        ([facet(0, 2, "https://win.example")], "Cl https://win.example aim your prize: tides.exa..."),
    ],
    ids=["over all", "shortened", "overlapping", "over nothing", "past the end", "within a word"],
)
def test_in_bluesky_a_link_stands_beside_its_words_or_for_its_own_beginning(
    facets: list[dict[str, Any]], shown: str
) -> None:
    text = "Claim your prize: tides.exa..."
    assert taken(bsky_log(message=bsky(text=text, facets=facets)))[0].text == (shown or text)


def test_what_is_forwarded_in_discord_is_read() -> None:
    forwarded = discord(content="", message_snapshots=[{"message": {"content": "free nitro", "attachments": [{}]}}])
    (one,) = taken(forwarded)
    assert (one.text, one.attachments) == ("free nitro", 1)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"photo": [{"file_id": "f"}], "caption": "win"}, "win"),
        ({"sticker": {"file_id": "f"}}, ""),
        (
            {"poll": {"id": "1", "question": "A phone?", "options": [{"text": "at win.example"}]}},
            "A phone?\nat win.example",
        ),
        ({"checklist": {"title": "A phone", "tasks": [{"id": 1, "text": "win.example"}]}}, "A phone\nwin.example"),
        (
            {
                "text": "hi",
                "reply_markup": {
                    "inline_keyboard": [
                        [{"text": "Take it", "url": "https://win.example"}, {"text": "No", "callback_data": "n"}]
                    ]
                },
            },
            "hi\nTake it https://win.example",
        ),
    ],
    ids=["caption", "sticker", "poll", "checklist", "buttons"],
)
def test_what_stands_beside_or_for_a_text_is_read_in_telegram(parts: dict[str, Any], text: str) -> None:
    assert taken(telegram(**{"text": None, "entities": None} | parts))[0].text == text


def test_a_channel_has_a_conversation_with_each_who_writes_to_it() -> None:
    chat = {"id": -5, "type": "supergroup", "title": "Tides", "is_direct_messages": True}
    bea, ada = ({"chat": chat, "direct_messages_topic": {"topic_id": user, "user": {"id": user}}} for user in (17, 18))
    channel = {"from": {"id": 99, "is_bot": True}, "sender_chat": {"id": -4, "type": "channel"}}
    (asked,), (answer,), (elsewhere,) = (taken(telegram("message", **parts)) for parts in (bea, bea | channel, ada))
    assert (asked.sender_id, asked.recipients) == ("17", ("-5",))
    assert (answer.sender_id, answer.recipients) == ("-5", ("17",))
    assert asked.conversation_id == answer.conversation_id != elsewhere.conversation_id


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (
            {
                "embeds": [
                    {
                        "type": "rich",
                        "title": "A phone",
                        "description": "for nothing",
                        "url": "https://win.example/a",
                        "fields": [{"name": "Left", "value": "3", "inline": True}],
                        "footer": {"text": "today", "icon_url": "https://cdn.example/i"},
                    }
                ]
            },
            "A phone\nfor nothing\nhttps://win.example/a\nLeft\n3\ntoday",
        ),
        ({"embeds": [{"type": "article", "title": "Tides", "url": "https://t.example"}]}, ""),
        (
            {
                "components": [
                    {
                        "type": 17,
                        "components": [
                            {
                                "type": 9,
                                "components": [{"type": 10, "content": "A phone"}],
                                "accessory": {"type": 2, "label": "Take it", "url": "https://win.example/b"},
                            },
                            {"type": 12, "items": [{"media": {"url": "https://cdn.example/i"}}]},
                        ],
                    }
                ]
            },
            "A phone\nTake it\nhttps://win.example/b",
        ),
        (
            {
                "content": "hi",
                "components": [
                    {"type": 1, "components": [{"type": 2, "label": "Take it", "url": "https://win.example/b"}]}
                ],
            },
            "hi\nTake it\nhttps://win.example/b",
        ),
        (
            {
                "poll": {
                    "question": {"text": "A phone?"},
                    "answers": [{"answer_id": 1, "poll_media": {"text": "at win.example", "emoji": {"name": "x"}}}],
                }
            },
            "A phone?\nat win.example",
        ),
    ],
    ids=["embed", "unfurled", "components", "button beside a text", "poll"],
)
def test_what_a_discord_message_shows_beside_its_content_is_read(parts: dict[str, Any], text: str) -> None:
    assert taken(discord(**{"content": ""} | parts))[0].text == text
    assert taken(discord(content="", message_snapshots=[{"message": parts}]))[0].text == text


@pytest.mark.parametrize("kind", [19, 20, 23])
def test_an_answer_is_a_message_in_discord(kind: int) -> None:
    assert len(taken(discord(type=kind))) == 1


def passed_through(kind: str, time: str, **parts: Any) -> dict[str, Any]:
    author = {"id": "17", "username": "bea"}
    written = {"id": SNOWFLAKE, "channel_id": "77", "author": author, "content": "shall I bring the gauge?"}
    event = {"type": f"GAME_DIRECT_MESSAGE_{kind}", "timestamp": time, "data": written | parts}
    return {"version": 1, "application_id": "5", "type": 1, "event": event}


def test_an_edit_that_a_game_passes_through_is_as_late_as_its_webhook_event() -> None:
    (before,) = taken(passed_through("CREATE", "2026-11-25T12:00:00.063234"))
    (after,) = taken(passed_through("UPDATE", "2026-11-25T12:05:00.847073", content="later"))
    assert (before.revision, after.revision) == (0, NOON_MS + 300_847)
    edited = passed_through("UPDATE", "2026-11-25T12:05:00.847073", edited_timestamp="2026-11-25T12:04:00+00:00")
    assert taken(edited)[0].revision == NOON_MS + 240_000


def test_the_channel_that_a_game_passes_through_names_the_recipients() -> None:
    channel = {"id": "77", "type": 3, "recipients": [{"id": "17"}, {"id": "42"}, {"id": "43"}]}
    assert taken(passed_through("CREATE", NOON, channel=channel))[0].recipients == ("42", "43")


def test_what_an_app_writes_in_blocks_is_read_in_slack() -> None:
    line = [{"type": "text", "text": "Hi "}, {"type": "user", "user_id": "U42"}, {"type": "text", "text": ", see "}]
    link = {"type": "link", "url": "https://win.example/a", "text": "this"}
    button = {"type": "button", "text": {"type": "plain_text", "text": "Take it"}, "url": "https://win.example/b"}
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": "A phone"}},
        {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [*line, link]}]},
        {"type": "section", "fields": [{"type": "mrkdwn", "text": "only <https://win.example/c|today>"}]},
        {"type": "actions", "elements": [button]},
        {"type": "divider"},
    ]
    said = "A phone\nHi @U42, see this https://win.example/a\nonly today https://win.example/c\nTake it https://win.example/b"
    assert taken(slack(text="", blocks=blocks))[0].text == said
    assert taken(slack(text="written", blocks=blocks))[0].text == f"written\n{said}"


def test_of_blocks_beside_a_text_only_what_it_does_not_say_is_read_in_slack() -> None:
    spans: list[dict[str, Any]] = [
        {"type": "text", "text": "Hi "},
        {"type": "user", "user_id": "U42"},
        {"type": "text", "text": " ", "style": {"bold": True}},
        {"type": "emoji", "name": "wave"},
        {"type": "text", "text": " tea & cake", "style": {"bold": True}},
        {"type": "text", "text": "? See "},
        {"type": "link", "url": "https://quay.example/a?b=1&c=2", "text": "the map"},
    ]
    typed = {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": spans}]}
    added = {"type": "section", "text": {"type": "mrkdwn", "text": "*A phone* for <https://win.example/a|nothing>"}}
    text = "Hi <@U42> :wave: *tea &amp; cake*? See <https://quay.example/a?b=1&amp;c=2|the map>"
    seen = "Hi @U42 :wave: *tea & cake*? See the map https://quay.example/a?b=1&c=2"
    assert taken(slack(text=text, blocks=[typed]))[0].text == seen
    assert taken(slack(text=text, blocks=[typed, added]))[0].text == (
        f"{seen}\n*A phone* for nothing https://win.example/a"
    )


APP_ATTACHMENT = {
    "pretext": "Today only",
    "title": "A phone",
    "title_link": "https://win.example/a",
    "text": "for nothing",
    "fields": [{"title": "Left", "value": "3", "short": True}],
    "actions": [{"type": "button", "text": "Take it", "url": "https://win.example/b"}],
    "fallback": "win",
}


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (
            {"text": "", "attachments": [APP_ATTACHMENT]},
            "Today only\nA phone https://win.example/a\nfor nothing\nLeft\n3\nTake it https://win.example/b",
        ),
        ({"text": "", "attachments": [{"fallback": "win"}]}, "win"),
        ({"text": "hi", "attachments": [{"title": "A phone"}]}, "hi\nA phone"),
        ({"text": "", "attachments": [{"text": "win", "from_url": "https://t.example"}]}, "win"),
        ({"text": "see https://t.example", "attachments": [{"text": "win", "from_url": "https://t.example"}]}, None),
        ({"text": "look", "attachments": [{"is_share": True, "text": "win", "from_url": "https://s"}]}, "look\nwin"),
        (
            {
                "text": "This content can't be displayed.",
                "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "win"}}],
            },
            "win",
        ),
        (
            {
                "text": "",
                "attachments": [
                    {
                        "fallback": "[no preview available]",
                        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "win"}}],
                    }
                ],
            },
            "win",
        ),
        ({"text": "", "attachments": [{"fallback": "[no preview available]"}]}, ""),
    ],
    ids=[
        "all that an attachment shows",
        "its fallback",
        "beside a text",
        "what is unfurled alone",
        "what is unfurled beside its link",
        "what is forwarded",
        "blocks for which a text stands in",
        "blocks of an attachment",
        "nothing",
    ],
)
def test_what_stands_in_attachments_is_read_in_slack(parts: dict[str, Any], text: str | None) -> None:
    assert taken(slack(**parts))[0].text == (parts["text"] if text is None else text)


@pytest.mark.parametrize(
    ("marked", "text"),
    [
        ("<!here> win", "@here win"),
        ("<!subteam^S1|@grp> win", "@grp win"),
        ("<!date^1392734382^{date}^https://win.example/a|today>", "today https://win.example/a"),
        ("<!date^1392734382^{date}|today>", "today"),
        ("<#C1|quay>", "#quay"),
    ],
    ids=["everybody", "a group", "a date with a link", "a date", "a channel"],
)
def test_what_slack_marks_is_read_as_it_is_seen(marked: str, text: str) -> None:
    assert taken(slack(text=marked))[0].text == text


@pytest.mark.parametrize(
    ("kind", "recipients"), [("im", ("U42",)), ("app_home", ("U42",)), ("mpim", ())], ids=lambda value: str(value)
)
def test_the_account_of_a_delivery_is_the_recipient_only_between_two(kind: str, recipients: tuple[str, ...]) -> None:
    assert taken(slack(channel_type=kind))[0].recipients == recipients


def test_slacks_socket_mode_delivers_the_same_payload() -> None:
    enveloped = {"type": "events_api", "envelope_id": "e-1", "accepts_response_payload": False, "payload": slack()}
    assert taken(enveloped) == taken(slack())


def test_the_answers_of_blueskys_convo_methods_hold_the_last_message() -> None:
    convo = {"id": "c-1", "members": [{"did": "did:plc:bea"}, {"did": "did:plc:ana"}], "lastMessage": bsky()}
    for answer in ({"convo": convo}, {"convos": [convo], "cursor": "x"}):
        assert [one.conversation_id for one in taken(answer)] == ["c-1"]


def test_an_encrypted_edit_is_an_edit() -> None:
    replaces = {"body": "", "m.relates_to": {"rel_type": "m.replace", "event_id": "$1"}}
    (edit,) = taken(matrix(replaces, type="m.room.encrypted", event_id="$2"))
    assert (edit.event_id, edit.revision) == ("$1", NOON_MS)


def test_an_account_of_its_own_counts_its_messages_for_itself() -> None:
    first, second = (taken(telegram("business_message", business_connection_id=name))[0] for name in ("b-1", "b-2"))
    assert first.event_id != second.event_id


def test_an_encrypted_message_is_a_message_without_text() -> None:
    sealed = matrix({"algorithm": "m.megolm.v1.aes-sha2", "msgtype": "", "body": ""}, type="m.room.encrypted")
    assert taken(sealed)[0].text == ""


def test_a_payload_may_hold_several_messages() -> None:
    both = {"data": [x_dm(), x_dm(id="9003", text="no?")]}
    assert [one.event_id for one in taken(both)] == ["9002", "9003"]


def test_a_payload_may_come_in_a_cloudevent() -> None:
    envelope = {"specversion": "1.0", "id": "ce-1", "type": "dm", "source": "hooks", "data": slack()}
    assert taken(envelope)[0].sender_id == "U17"


def test_an_envelope_gives_a_platforms_event_no_other_name() -> None:
    envelope = {"specversion": "1.0", "id": "ce-1", "type": "dm", "source": "hooks", "time": NOON, "data": x_dm()}
    (one,) = taken(envelope)
    assert (one.event_id, one.platform, one.recipients) == ("9002", "x", ("42",))


def test_a_batch_without_headers_is_known_by_its_envelopes() -> None:
    envelopes = [
        {"specversion": "1.0", "id": name, "type": "dm", "source": "h", "data": x_dm(id=name)} for name in "ab"
    ]
    record = Record(codec.dumps(envelopes))
    assert [event["event_id"] for event in found(record)] == ["a", "b"]


def test_a_native_event_that_leaves_its_name_to_the_envelope_is_no_platforms() -> None:
    native = {"sender_id": "17", "recipient_id": "42", "text": "hi", "sent_at": NOON, "type": "text", "account": "acme"}
    envelope = {"specversion": "1.0", "id": "ce-1", "type": "dm", "source": "shop", "data": native}
    assert [one.event_id for one in taken(envelope)] == ["ce-1"]
    with pytest.raises(BadRecord) as refused:
        taken(native)
    assert refused.value.fault is Fault.MISSING_FIELD


@pytest.mark.parametrize("before", [b" \n", b"\xef\xbb\xbf"], ids=["space", "byte order mark"])
@pytest.mark.parametrize(
    "document", [slack(), [{"specversion": "1.0", "id": "a", "data": slack()}]], ids=["one", "batch"]
)
def test_what_may_stand_before_json_hides_nothing(before: bytes, document: Any) -> None:
    record = Record(before + codec.dumps(document))
    assert len(list(unwrap(record, record.value or b""))) == 1


def test_a_content_type_may_be_null() -> None:
    record = Record(codec.dumps(slack()), headers=[("content-type", cast(bytes, None))])
    assert len(list(unwrap(record, record.value or b""))) == 1


def test_the_age_of_a_discord_account_is_in_its_id() -> None:
    sender = taken(discord())[0].sender
    assert sender is not None
    assert sender.created_ms == NOON_MS


BROKEN_ACTIVITY = x_activity(id=None)["direct_message_events"]
BROKEN_CONVO = {"id": "c-2", "members": [{"did": 5}], "lastMessage": bsky()}


@pytest.mark.parametrize(
    "document",
    [
        {"for_user_id": "42", "direct_message_events": BROKEN_ACTIVITY + x_activity()["direct_message_events"]},
        {"events": [{"message_create": 5}, *x_activity()["direct_message_events"]]},
        {"data": [x_dm(text=5), x_dm()]},
        {"logs": bsky_log(message=bsky(sentAt=5))["logs"] + bsky_log()["logs"]},
        {"convos": [BROKEN_CONVO, {"id": "c-1", "members": [{"did": "did:plc:bea"}], "lastMessage": bsky()}]},
        {"ok": True, "result": [{"update_id": 1, "message": {}}, telegram()]},
        {"chunk": [matrix(sender=5), matrix()]},
    ],
    ids=["x activities", "x list", "x lookup", "bluesky log", "bluesky conversations", "telegram", "matrix"],
)
def test_a_broken_message_of_many_is_told_in_its_place_and_shields_none_after_it(document: dict[str, Any]) -> None:
    record = Record(codec.dumps(document))
    broken, whole = (event for _, event in unwrap(record, record.value or b""))
    assert isinstance(broken, BadRecord)
    assert isinstance(whole, dict)


@pytest.mark.parametrize(
    ("document", "fault", "field"),
    [
        (slack(ts=None), Fault.MISSING_FIELD, "event.ts"),
        (slack(ts="noon"), Fault.BAD_TIME, "ts"),
        (telegram(date="noon"), Fault.WRONG_TYPE, "date"),
        ({"for_user_id": "1", "direct_message_events": 7}, Fault.WRONG_TYPE, "direct_message_events"),
        (discord(author={}), Fault.MISSING_FIELD, "author.id"),
        ({"events": [matrix(sender=None)]}, Fault.MISSING_FIELD, "sender"),
        ({"origin": "x", "origin_server_ts": NOON_MS, "pdus": [matrix()]}, Fault.MISSING_FIELD, "text"),
        (bsky(), Fault.NO_RECIPIENT, ""),
        (slack(files=[{"deep": deep(150)}]), Fault.NOT_JSON, ""),
        ({"update_id": 1, "result": 7}, Fault.WRONG_TYPE, ""),
    ],
    ids=["slack", "slack time", "telegram", "x", "discord", "matrix", "servers", "bluesky alone", "deep", "no list"],
)
def test_a_broken_payload_names_its_field(document: dict[str, Any], fault: Fault, field: str) -> None:
    with pytest.raises(BadRecord) as refused:
        taken(document)
    assert (refused.value.fault, refused.value.field) == (fault, field)
