"""Mastodon: statuses of visibility `direct`, alone or inside notifications, conversations, webhooks and streams.

Source: Mastodon documentation, entities Status, Conversation, Notification; streaming API; admin webhooks.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from services import codec
from services.codec import epoch_ms
from services.ingest.adapters.markup import text_of
from services.ingest.adapters.profile import profile

# The notifications that tell of a status itself; others tell what somebody did with one that was told before.
_TELLING = ("mention", "status", "update")


class Mention(msgspec.Struct, frozen=True):
    id: str


class Account(msgspec.Struct, frozen=True):
    id: str
    acct: Any = None
    display_name: Any = None
    created_at: Any = None
    followers_count: Any = None
    following_count: Any = None


class Status(msgspec.Struct, frozen=True):
    id: str
    account: Account
    visibility: str
    created_at: str
    content: str = ""
    spoiler_text: str = ""
    edited_at: str | None = None
    in_reply_to_id: str | None = None
    in_reply_to_account_id: str | None = None
    mentions: list[Mention] = []
    media_attachments: list[dict[str, Any]] = []


def claims(document: Mapping[str, Any]) -> bool:
    """Whether a document is a payload of Mastodon."""
    return (
        ("visibility" in document and "account" in document)
        or "last_status" in document
        or ("event" in document and ("payload" in document or "stream" in document))
        or (
            str(document.get("event", "")).partition(".")[0] in ("status", "account", "report") and "object" in document
        )
        or ("account" in document and ("status" in document or "type" in document))
    )


def events(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The direct message of a payload, if it tells of one; raises BadRecord."""
    found = _status(document)
    if found is not None and found.get("visibility") == "direct":
        yield _event(codec.convert(found, Status))


def _status(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The status in a payload, whatever is around it."""
    found: object = document
    if isinstance(document.get("payload"), str) and document.get("event") != "delete":
        found = codec.loads(document["payload"])
        codec.drop_nulls(found)
    for place in ("payload", "object", "last_status", "status"):
        if isinstance(found, dict) and isinstance(found.get(place), dict):
            if place == "status" and found.get("type", "status") not in _TELLING:
                return None
            found = found[place]
    return found if isinstance(found, dict) and "visibility" in found else None


def _event(status: Status) -> dict[str, Any]:
    account = status.account
    answered = status.in_reply_to_account_id not in (None, account.id)
    return {
        "event_id": status.id,
        "revision": epoch_ms(status.edited_at, "edited_at") if status.edited_at else 0,
        "platform": "mastodon",
        "sender_id": account.id,
        "recipients": [mention.id for mention in status.mentions] or [account.id],
        "sent_at": status.created_at,
        "text": "\n".join(filter(None, (status.spoiler_text, text_of(status.content)))),
        "in_reply_to": status.in_reply_to_id if answered else None,
        "attachments": len(status.media_attachments),
        # A count that its owner hides is told as -1, which is none.
        "sender": profile(
            handle=account.acct,
            display_name=account.display_name,
            created_at=account.created_at,
            followers=account.followers_count,
            following=account.following_count,
        ),
    }
