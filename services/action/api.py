"""casebook's HTTP API: look at cases, command reviews.

A write only puts a command on `dm.reviews` and answers with its id; casebook's agent applies it, audits it, and
`GET /v1/reviews/{review_id}` says what became of it. Every route but the three open ones needs a token
(`Authorization: Bearer …`); text is shown only to those with the scope for it. The OpenAPI document is made from the
table of routes and the records below.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from services import codec, metrics
from services.action.cases import Case, Cases, CaseState, Filter, Outcome, Reviewed
from services.action.reviews import review_output
from services.action.tokens import Scope, Token, Tokens
from services.errors import BadRecord, Unavailable
from services.records import VERSION, Decision, Output, Reason, ReasonCode, Review, ReviewCommand

OPEN = ("/metrics", "/healthz", "/readyz")
PUBLISH_SECONDS = 10.0
READERS = 2
DECISION_ID = "^d-[0-9a-f]{32}$"
CURSOR = "^[0-9]{1,15}~d-[0-9a-f]{32}$"

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Struct)
T = TypeVar("T")

Id = Annotated[str, Meta(min_length=1, max_length=256)]
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Publish = Callable[[Sequence[Output]], Awaitable[None]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Query(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which cases: those to which all that is given applies. Sender and recipient are ids of the platform."""

    tenant: Id = "default"
    platform: Id | None = None
    sender: Id | None = None
    recipient: Id | None = None
    campaign: Id | None = None
    reason: ReasonCode | None = None
    state: CaseState | None = None
    since: Moment | None = None
    until: Moment | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: Annotated[str, Meta(pattern=CURSOR)] | None = None


class Scoped(Struct, kw_only=True, forbid_unknown_fields=True):
    """Whose."""

    tenant: Id = "default"
    platform: Id = "default"


class OfTenant(Struct, kw_only=True, forbid_unknown_fields=True):
    """Whose."""

    tenant: Id = "default"


class Nothing(Struct, forbid_unknown_fields=True):
    """No parameters."""


class Line(Struct, kw_only=True):
    """A case in a list. `closed_by` is the id of the review that ended it."""

    decision_id: str
    state: CaseState
    tenant: str
    platform: str
    event_id: str
    revision: int
    sender_id: str
    recipient_id: str | None
    conversation_id: str
    campaign_id: str | None
    score: float | None
    reasons: tuple[Reason, ...]
    decided_at: str
    expires_at: str | None
    closed_at: str | None
    closed_by: str | None


class Page(Struct, kw_only=True):
    """Cases, the newest first. `next` is the cursor of the page after this one; null: this is the last."""

    cases: list[Line]
    next: str | None


class Step(Struct, kw_only=True):
    """What happened to a case: it was held, was ended, or a review named it. `outcome`: what became of the review."""

    at: str
    what: str
    review_id: str | None = None
    actor: str | None = None
    reason: str | None = None
    outcome: Outcome | None = None


class Whole(Line, kw_only=True):
    """One case. `spans` are (start, end, weight) of the text's strongest parts; `text` is null without the scope."""

    decision: Decision
    spans: tuple[tuple[int, int, float], ...]
    timeline: list[Step]
    text: str | None


class Command(Struct, kw_only=True, forbid_unknown_fields=True):
    """A review to be made of an event, a sender or a campaign. `dry_run` says how many cases it would change.

    `review_id` makes a repeat harmless; without it there is a new one. `text` is that of an event that is reported and
    has no case. `erase` is of a person: their id as `sender_id`.
    """

    command: ReviewCommand
    reason: Annotated[str, Meta(min_length=1, max_length=2000)]
    tenant: Id = "default"
    platform: Id = "default"
    event_id: Id | None = None
    sender_id: Id | None = None
    campaign_id: Id | None = None
    until: Moment | None = None
    text: Annotated[str, Meta(max_length=262_144)] | None = None
    review_id: Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,64}$")] | None = None
    dry_run: bool = False


class Answer(Struct, kw_only=True):
    """`review_id` names the review that is on its way; null: a dry run. `cases`: those it changes, as of now."""

    review_id: str | None
    cases: int


class Taken(Struct, kw_only=True):
    """A review that was taken in, and what became of it."""

    review_id: str
    command: ReviewCommand
    outcome: Outcome
    actor: str
    reason: str
    reviewed_at: str
    event_id: str | None
    sender_id: str | None
    campaign_id: str | None


class Numbers(Struct, kw_only=True):
    """A tenant's cases by state; those held by reason and, the largest, by campaign. `outbox` is of all tenants."""

    states: dict[CaseState, int]
    held_by_reason: dict[str, int]
    held_by_campaign: dict[str, int]
    oldest_held_at: str | None
    outbox: int


class Problem(Struct, kw_only=True, omit_defaults=True):
    """What was wrong. `review_id`: of a command that may or may not have been taken in."""

    error: str
    review_id: str | None = None


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, error: str, review_id: str | None = None) -> None:
        super().__init__(error)
        self.status, self.review_id = status, review_id


@dataclass(frozen=True, slots=True)
class Route:
    """One operation: what it takes and gives. `scope` None: any token."""

    method: str
    path: str
    name: str
    summary: str
    query: type[Struct]
    body: type[Struct] | None
    answers: dict[int, type[Struct] | None]
    scope: Scope | None = Scope.READ


ROUTES = (
    Route("get", "/v1/cases", "cases", "Cases that a filter finds, by page.", Query, None, {200: Page}),
    Route("get", "/v1/cases/{decision_id}", "case", "One case with its story.", Nothing, None, {200: Whole}),
    Route(
        "post",
        "/v1/reviews",
        "review",
        "Release, confirm, report, trust, block, expire or erase; 200 answers a dry run.",
        Nothing,
        Command,
        {200: Answer, 202: Answer},
        Scope.REVIEW,
    ),
    Route("get", "/v1/reviews/{review_id}", "reviewed", "What became of a review.", Scoped, None, {200: Taken}),
    Route("get", "/v1/stats", "stats", "A tenant's cases in numbers.", OfTenant, None, {200: Numbers}),
    Route("get", "/v1/openapi.json", "openapi", "This document.", Nothing, None, {200: None}, None),
)
PROBLEMS = {
    400: "The request is not what this document says.",
    401: "No token, or an unknown one.",
    403: "The token is not for this tenant or this scope.",
    404: "There is no such case or review, or it is another tenant's.",
    413: "The body is too large.",
    503: "The database or the broker is away. With a review_id: the command may have been taken in; "
    "send it again with that id.",
}
TOKEN = web.RequestKey("token", Token)
# What a command must name, in the words of JSON Schema; `_review` says it to whoever does not.
NAMES = ("event_id", "sender_id", "campaign_id")
NAMING = {
    "anyOf": [{"required": [name], "properties": {name: {"type": "string"}}} for name in NAMES],
    "if": {"properties": {"command": {"const": ReviewCommand.ERASE.value}}},
    "then": {
        "required": ["sender_id"],
        "properties": {name: {"type": "string" if name == "sender_id" else "null"} for name in NAMES},
    },
}
PATH_PARTS = {"decision_id": {"type": "string", "pattern": DECISION_ID}, "review_id": {"type": "string"}}


class Api:
    """The handlers, each by the name of its route. `publish` puts records on their topics, or waits."""

    def __init__(self, cases: Cases, tokens: Tokens, publish: Publish) -> None:
        self._cases, self._tokens, self._publish = cases, tokens, publish
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="api")

    def close(self) -> None:
        self._threads.shutdown()

    def add_to(self, app: web.Application) -> None:
        """Add the routes, and the guard before every route but the open ones."""
        app.middlewares.append(self._guard)
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._handler(route), name=route.name)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN:
            return await handler(request)
        answer = await self._guarded(request, handler)
        metrics.API_REQUESTS.labels(request.match_info.route.name or "unknown", str(answer.status)).inc()
        return answer

    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            request[TOKEN] = self._bearer(request)
            return await handler(request)
        except Refused as refused:
            asking = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else None
            return _problem(refused.status, str(refused), asking, refused.review_id)
        except web.HTTPException as error:
            allowed = error.headers.get("Allow")
            return _problem(error.status, error.reason, {"Allow": allowed} if allowed else None)
        except (Unavailable, TimeoutError):
            return _problem(503, PROBLEMS[503])
        except Exception:
            log.exception("a request could not be answered")
            return _problem(500, "a fault of ours; the log tells where")

    def _bearer(self, request: web.Request) -> Token:
        kind, _, presented = request.headers.get("Authorization", "").partition(" ")
        token = self._tokens.find(presented.strip()) if kind.lower() == "bearer" else None
        if token is None:
            raise Refused(401, PROBLEMS[401])
        return token

    def _handler(self, route: Route) -> Handler:
        work = getattr(self, route.name)

        async def handle(request: web.Request) -> web.Response:
            query = _asked(request, route.query)
            body = _decoded(await request.read(), route.body) if route.body else None
            status, answer = await work(request[TOKEN], query, body, **request.match_info)
            return web.Response(status=status, body=codec.dumps(answer), content_type="application/json")

        return handle

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def cases(self, token: Token, query: Query, _: None) -> tuple[int, Page]:
        _need(token, Scope.READ, query.tenant)
        wanted = Filter(
            tenant=query.tenant,
            platform=query.platform,
            sender=query.sender,
            recipient=query.recipient,
            campaign=query.campaign,
            reason=query.reason,
            state=query.state,
            from_ms=_ms(query.since),
            to_ms=_ms(query.until),
        )
        place = query.cursor.split("~") if query.cursor else None
        after = (int(place[0]), place[1]) if place else None
        found = await self._in_thread(self._cases.page, wanted, after, query.limit + 1)
        shown = found[: query.limit]
        more = len(found) > len(shown)
        last = f"{shown[-1].decided_ms}~{shown[-1].evidence.decision.decision_id}" if more else None
        return 200, Page(cases=[Line(**_line(case)) for case in shown], next=last)

    async def case(self, token: Token, query: Nothing, _: None, decision_id: str) -> tuple[int, Whole]:
        known = re.fullmatch(DECISION_ID, decision_id) is not None
        case = await self._in_thread(self._cases.case, decision_id) if known else None
        if case is None or not token.allows(Scope.READ, case.evidence.message.tenant):
            _need(token, Scope.READ)
            raise Refused(404, PROBLEMS[404])
        story = await self._in_thread(self._cases.story, case)
        message = case.evidence.message
        return 200, Whole(
            **_line(case),
            decision=case.evidence.decision,
            spans=case.evidence.spans,
            timeline=_timeline(case, story),
            text=message.text if token.allows(Scope.TEXT, message.tenant) else None,
        )

    async def review(self, token: Token, query: Nothing, asked: Command) -> tuple[int, Answer]:
        _need(token, Scope.ERASE if asked.command is ReviewCommand.ERASE else Scope.REVIEW, asked.tenant)
        review = _review(asked, token.actor)
        reach = await self._in_thread(self._cases.reach, review)
        if asked.dry_run:
            return 200, Answer(review_id=None, cases=reach)
        try:
            await asyncio.wait_for(self._publish([review_output(review)]), PUBLISH_SECONDS)
        except (Unavailable, TimeoutError):
            raise Refused(503, PROBLEMS[503], review.review_id) from None
        return 202, Answer(review_id=review.review_id, cases=reach)

    async def reviewed(self, token: Token, query: Scoped, _: None, review_id: str) -> tuple[int, Taken]:
        _need(token, Scope.READ, query.tenant)
        found = await self._in_thread(self._cases.reviewed, query.tenant, query.platform, review_id)
        if found is None:
            raise Refused(404, PROBLEMS[404])
        review = found.review
        return 200, Taken(
            review_id=review.review_id,
            command=review.command,
            outcome=found.outcome,
            actor=review.actor,
            reason=review.reason,
            reviewed_at=codec.rfc3339(review.reviewed_ms),
            event_id=review.event_id,
            sender_id=review.sender_id,
            campaign_id=review.campaign_id,
        )

    async def stats(self, token: Token, query: OfTenant, _: None) -> tuple[int, Numbers]:
        _need(token, Scope.READ, query.tenant)
        found = await self._in_thread(self._cases.stats, query.tenant)
        return 200, Numbers(
            states=found.states,
            held_by_reason=found.reasons,
            held_by_campaign=found.campaigns,
            oldest_held_at=_written(found.oldest_held_ms),
            outbox=found.outbox,
        )

    async def openapi(self, token: Token, query: Nothing, _: None) -> tuple[int, dict[str, Any]]:
        return 200, document()


def _need(token: Token, scope: Scope, tenant: str | None = None) -> None:
    if scope not in token.scopes or (tenant is not None and not token.allows(scope, tenant)):
        raise Refused(403, PROBLEMS[403])


def _asked(request: web.Request, kind: type[R]) -> R:
    """The parameters of a request, which are text."""
    given = dict(request.query)
    if len(given) != len(request.query):
        raise Refused(400, "a parameter is given twice")
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Refused(400, str(error)) from None


def _decoded(body: bytes, kind: type[R]) -> R:
    try:
        return codec.decode(body, kind)
    except BadRecord as bad:
        raise Refused(400, f"the body cannot be used: {bad}") from None


def _problem(
    status: int, error: str, headers: dict[str, str] | None = None, review_id: str | None = None
) -> web.Response:
    body = codec.encode(Problem(error=error, review_id=review_id))
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _review(asked: Command, actor: str) -> Review:
    """The review that a command asks for; refused when it names nothing, or an erasure no person."""
    person_alone = asked.sender_id is not None and asked.event_id is None and asked.campaign_id is None
    if asked.command is ReviewCommand.ERASE and not person_alone:
        raise Refused(400, "an erasure is of a person: give sender_id, and nothing else")
    if asked.event_id is None and asked.sender_id is None and asked.campaign_id is None:
        raise Refused(400, "nothing is named: give event_id, sender_id or campaign_id")
    return Review(
        v=VERSION,
        review_id=asked.review_id or f"r-{uuid.uuid4().hex}",
        command=asked.command,
        actor=actor,
        reason=asked.reason,
        reviewed_ms=time.time_ns() // 1_000_000,
        tenant=asked.tenant,
        platform=asked.platform,
        event_id=asked.event_id,
        sender_id=asked.sender_id,
        campaign_id=asked.campaign_id,
        until_ms=_ms(asked.until),
        text=asked.text,
    )


def _line(case: Case) -> dict[str, Any]:
    decision, message = case.evidence.decision, case.evidence.message
    return {
        "decision_id": decision.decision_id,
        "state": case.state,
        "tenant": message.tenant,
        "platform": message.platform,
        "event_id": message.event_id,
        "revision": message.revision,
        "sender_id": message.sender_id,
        "recipient_id": message.recipient_id,
        "conversation_id": message.conversation_id,
        "campaign_id": decision.campaign_id,
        "score": decision.score,
        "reasons": decision.reasons,
        "decided_at": decision.decided_at,
        "expires_at": decision.expires_at,
        "closed_at": _written(case.closed_ms),
        "closed_by": case.closed_by,
    }


def _timeline(case: Case, story: Sequence[Reviewed]) -> list[Step]:
    steps = [Step(at=case.evidence.decision.decided_at, what=CaseState.HELD.value)]
    steps += [
        Step(
            at=codec.rfc3339(one.review.reviewed_ms),
            what=one.review.command.value,
            review_id=one.review.review_id,
            actor=one.review.actor,
            reason=one.review.reason,
            outcome=one.outcome,
        )
        for one in story
    ]
    if case.closed_ms is not None:
        closed = Step(at=codec.rfc3339(case.closed_ms), what=case.state.value, review_id=case.closed_by)
        steps.append(closed)
    return sorted(steps, key=lambda step: step.at)


def _ms(moment: str | None) -> int | None:
    try:
        return None if moment is None else codec.epoch_ms(moment, "")
    except BadRecord:
        raise Refused(400, "a time must be like 2026-11-22T10:00:00Z") from None


def _written(moment_ms: int | None) -> str | None:
    return None if moment_ms is None else codec.rfc3339(moment_ms)


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document of the table of routes."""
    kinds = [kind for route in ROUTES for kind in (route.query, route.body, *route.answers.values()) if kind]
    _, components = msgspec.json.schema_components([*kinds, Problem], ref_template="#/components/schemas/{name}")
    components[Command.__name__] |= NAMING
    queries = {route.query.__name__: components[route.query.__name__] for route in ROUTES}
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method] = _operation(route, queries[route.query.__name__])
    return {
        "openapi": "3.1.0",
        "info": {"title": "Doorman casebook", "version": "1", "description": (__doc__ or "").partition("\n")[0]},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {name: schema for name, schema in components.items() if name not in queries},
        },
    }


def _operation(route: Route, query: dict[str, Any]) -> dict[str, Any]:
    named = re.findall(r"{(\w+)}", route.path)
    parameters = [{"name": name, "in": "path", "required": True, "schema": PATH_PARTS[name]} for name in named]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in query.get("properties", {}).items()
    ]
    answers = {str(status): _answer(kind) for status, kind in route.answers.items()}
    problems = {str(status): _answer(Problem, why) for status, why in PROBLEMS.items()}
    told = {
        "operationId": route.name,
        "summary": route.summary,
        "description": f"Scope: {route.scope.value if route.scope else 'any'}.",
        "parameters": parameters,
        "responses": answers | problems,
    }
    return told | ({"requestBody": {"required": True, **_content(route.body)}} if route.body else {})


def _answer(kind: type[Struct] | None, description: str = "Done.") -> dict[str, Any]:
    return {"description": description, **_content(kind)}


def _content(kind: type[Struct] | None) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"} if kind else {"type": "object"}
    return {"content": {"application/json": {"schema": schema}}}
