"""casebook's API: who may see and do what, and that its document says what it does."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection

from services import codec, metrics
from services import settings as environment
from services.action.api import ROUTES, Api, document
from services.action.cases import Cases
from services.action.reviews import review_output
from services.action.tokens import Tokens, digest, read
from services.cli import fleet, main
from services.cli.brokers import Broker
from services.errors import BadSetup, Unavailable
from services.kafka import Admin, Sender
from services.observe import Health, application
from services.records import Output, Review
from services.settings import ROOT
from services.topics import QUARANTINE, TOPICS
from tests.action.test_casebook import held, quarantined, release
from tests.action.test_cases import LATER_MS, TEXT, evidence, locate, review

TOKENS = {
    "all": ('tenants = ["*"]', 'scopes = ["read", "text", "review", "erase"]'),
    "reads": ('tenants = ["default"]', 'scopes = ["read"]'),
    "reviews": ('tenants = ["default"]', 'scopes = ["review"]'),
    "erases": ('tenants = ["default"]', 'scopes = ["erase"]'),
    "elsewhere": ('tenants = ["acme"]', 'scopes = ["read", "text", "review", "erase"]'),
}


def token_file(folder: Path) -> Path:
    path = folder / "tokens.toml"
    tables = (f'["{digest(name)}"]\nactor = "{name}"\n{who}\n{may}\n' for name, (who, may) in TOKENS.items())
    path.write_text("\n".join(tables))
    return path


@dataclass(slots=True)
class Served:
    """The API over a database of its own. What it puts on `dm.reviews` is applied at once, and kept."""

    cases: Cases
    url: str
    session: ClientSession
    reviews: list[Review]

    async def ask(self, method: str, path: str, bearer: str | None = "all", **options: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        async with self.session.request(method, self.url + path, headers=headers, **options) as answer:
            body = await answer.read()
            return answer.status, codec.loads(body) if answer.content_type == "application/json" else body

    async def get(self, path: str, bearer: str | None = "all", **params: str) -> tuple[int, Any]:
        return await self.ask("GET", path, bearer, params=params)

    async def command(self, command: str, bearer: str = "all", **parts: Any) -> tuple[int, Any]:
        body = {"command": command, "reason": "asked for it"} | parts
        return await self.ask("POST", "/v1/reviews", bearer, json=body)


@asynccontextmanager
async def served(folder: Path, *, away: bool = False) -> AsyncIterator[Served]:
    cases = Cases(f"sqlite:///{folder / 'casebook.db'}", locate)
    reviews: list[Review] = []

    async def publish(outputs: Sequence[Output]) -> None:
        if away:
            raise Unavailable("no broker answers")
        taken = [codec.decode(output.value, Review) for output in outputs]
        assert [review_output(one) for one in taken] == list(outputs)
        reviews.extend(taken)
        cases.review(taken, taken[0].reviewed_ms)

    api = Api(cases, Tokens(token_file(folder)), publish)
    app = application(Health(list))
    api.add_to(app)
    server = TestServer(app)
    await server.start_server()
    try:
        async with ClientSession() as session:
            yield Served(cases, str(server.make_url("")).rstrip("/"), session, reviews)
    finally:
        await server.close()
        api.close()
        cases.close()


ONE = evidence().decision.decision_id


@pytest.mark.parametrize("token", [None, "", "none of ours", digest("all")], ids=["no token", "empty", "wrong", "hash"])
async def test_without_a_token_only_metrics_and_health_answer(tmp_path: Path, token: str | None) -> None:
    async with served(tmp_path) as api:
        api.cases.open([evidence()])
        for path in ("/metrics", "/healthz", "/readyz"):
            assert (await api.get(path, token))[0] == 200
        for route in ROUTES:
            path = route.path.format(decision_id=ONE, review_id="r-1")
            assert (await api.ask(route.method, path, token))[0] == 401, route.name
        assert (await api.get("/", token))[0] == (await api.get("/v1/nothing", token))[0] == 401


@pytest.mark.parametrize(
    ("token", "command", "status"),
    [
        ("reads", "release", 403),
        ("reads", "erase", 403),
        ("reviews", "release", 202),
        ("reviews", "erase", 403),
        ("erases", "erase", 202),
        ("erases", "release", 403),
        ("elsewhere", "release", 403),
    ],
)
async def test_a_command_needs_its_scope_in_its_tenant(tmp_path: Path, token: str, command: str, status: int) -> None:
    async with served(tmp_path) as api:
        assert (await api.command(command, token, sender_id="u-17"))[0] == status
        assert len(api.reviews) == (status == 202)


async def test_cases_are_seen_by_those_who_may_read_their_tenant(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        api.cases.open([evidence()])
        for path, other in ((f"/v1/cases/{ONE}", 404), ("/v1/cases", 403), ("/v1/stats", 403)):
            found = [(await api.get(path, token))[0] for token in ("all", "reads", "elsewhere", "reviews")]
            assert found == [200, 200, other, 403], path


async def test_the_text_is_shown_only_with_its_scope(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        api.cases.open([evidence()])
        told = {token: (await api.get(f"/v1/cases/{ONE}", token))[1] for token in ("all", "reads")}
        assert (told["all"]["text"], told["reads"]["text"]) == (TEXT, None)
        assert "e-book" not in repr(told["reads"])
        assert "e-book" not in repr(await api.get("/v1/cases"))


async def test_a_case_tells_its_reasons_and_its_story(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        api.cases.open([evidence()])
        api.cases.review([review()], LATER_MS)
        _, case = await api.get(f"/v1/cases/{ONE}")
        assert (case["state"], case["closed_by"], case["sender_id"]) == ("released", "r-1", "u-17")
        assert case["reasons"][0]["code"] == case["decision"]["reasons"][0]["code"] == "text"
        assert [step["what"] for step in case["timeline"]] == ["held", "release", "released"]
        assert (case["timeline"][1]["actor"], case["timeline"][1]["reason"]) == ("ana", "asked for it")


async def test_pages_lead_through_all_that_a_filter_finds(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        api.cases.open([evidence(event_id=f"e-{n}", campaign_id="k-1") for n in range(7)] + [evidence(event_id="e-9")])
        seen: list[str] = []
        asked = {"campaign": "k-1", "state": "held", "reason": "text", "limit": "3"}
        while True:
            _, page = await api.get("/v1/cases", **asked)
            seen += [case["event_id"] for case in page["cases"]]
            if page["next"] is None:
                break
            asked["cursor"] = page["next"]
        assert sorted(seen) == [f"e-{n}" for n in range(7)]


async def test_a_dry_run_says_how_many_and_does_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        api.cases.open([evidence(event_id=f"e-{n}", campaign_id="k-1") for n in range(3)])
        assert await api.command("release", campaign_id="k-1", dry_run=True) == (200, {"review_id": None, "cases": 3})
        assert api.reviews == []
        status, answer = await api.command("release", campaign_id="k-1")
        assert (status, answer["cases"]) == (202, 3)
        (review,) = api.reviews
        assert (review.review_id, review.actor, review.campaign_id) == (answer["review_id"], "all", "k-1")
        assert (await api.command("release", campaign_id="k-1", dry_run=True))[1]["cases"] == 0
        assert (await api.get("/v1/stats"))[1]["states"]["released"] == 3


async def test_the_answer_leads_to_what_became_of_the_review(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        _, answer = await api.command("release", "all", event_id="e-1", review_id="mine-1")
        assert answer["review_id"] == "mine-1"
        _, taken = await api.get("/v1/reviews/mine-1")
        assert (taken["outcome"], taken["actor"], taken["event_id"]) == ("pending", "all", "e-1")
        api.cases.open([evidence()])
        assert (await api.get("/v1/reviews/mine-1"))[1]["outcome"] == "applied"
        assert (await api.get("/v1/reviews/other"))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/cases?tennant=a", None),
        ("GET", "/v1/cases?limit=0", None),
        ("GET", "/v1/cases?tenant=a&tenant=b", None),
        ("GET", "/v1/cases?since=yesterday", None),
        ("GET", "/v1/cases?cursor=1", None),
        ("POST", "/v1/reviews", b"{"),
        ("POST", "/v1/reviews", b'{"command": "release", "reason": "r"}'),
        ("POST", "/v1/reviews", b'{"command": "drop", "reason": "r", "event_id": "e"}'),
        ("POST", "/v1/reviews", b'{"command": "release", "reason": "", "event_id": "e"}'),
        ("POST", "/v1/reviews", b'{"command": "erase", "reason": "r", "event_id": "e"}'),
    ],
)
async def test_a_wrong_request_is_refused_with_its_fault(
    tmp_path: Path, method: str, path: str, body: bytes | None
) -> None:
    async with served(tmp_path) as api:
        status, problem = await api.ask(method, path, data=body)
        assert (status, bool(problem["error"]), api.reviews) == (400, True, [])


async def test_a_request_is_counted_by_operation_and_status(tmp_path: Path) -> None:
    def counted(route: str, status: int) -> float:
        return float(metrics.API_REQUESTS.labels(route, str(status))._value.get())

    wanted = [("cases", 200), ("cases", 401), ("case", 404), ("unknown", 404)]
    before = [counted(*one) for one in wanted]
    async with served(tmp_path) as api:
        for path, bearer in (("/v1/cases", "all"), ("/v1/cases", None), ("/v1/cases/d-1", "all"), ("/secret", "all")):
            await api.get(path, bearer)
    assert [counted(*one) for one in wanted] == [number + 1 for number in before]


async def test_a_fault_of_ours_is_told_without_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path) as api:
        monkeypatch.setattr(api.cases, "stats", lambda _: 1 / 0)
        status, problem = await api.get("/v1/stats")
        assert (status, "division" in problem["error"]) == (500, False)


async def test_a_broker_that_is_away_is_said_with_the_id_to_send_again(tmp_path: Path) -> None:
    async with served(tmp_path, away=True) as api:
        status, problem = await api.command("release", event_id="e-1", review_id="mine")
        assert (status, problem["review_id"]) == (503, "mine")
        assert (await api.command("release", event_id="e-1"))[1]["review_id"].startswith("r-")


def test_the_document_in_the_contracts_is_that_of_the_code() -> None:
    path = ROOT / "deploy" / "contracts" / "openapi.json"
    assert codec.loads(path.read_bytes()) == document(), "doorman casebook openapi > deploy/contracts/openapi.json"


def test_a_token_file_is_taken_over_when_it_changes_and_refused_whole_when_wrong(tmp_path: Path) -> None:
    path = token_file(tmp_path)
    tokens = Tokens(path)
    assert tokens.find("new") is None
    path.write_text(path.read_text().replace(digest("reads"), digest("new")))
    found = tokens.find("new")
    assert found is not None
    assert (found.actor, tokens.find("reads")) == ("reads", None)
    path.write_text("[wrong]")
    assert tokens.find("new") == found


def test_the_command_makes_a_token_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["casebook", "token", "--actor", "ana", "--tenant", "a", "--tenant", 'b"', "--scope", "text"]) == 0
    told = capsys.readouterr()
    path = tmp_path / "tokens.toml"
    path.write_text(told.out)
    secret = told.err.split()[-1]
    found = Tokens(path).find(secret)
    assert found is not None
    assert (found.actor, sorted(found.tenants), list(found.scopes)) == ("ana", ["a", 'b"'], ["text"])
    assert secret not in told.out


def test_a_wrong_token_file_is_refused_with_every_fault(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(f'["{digest("a")}"]\nactor = ""\ntenants = []\nscopes = ["all"]\n[secret]\nactor = "a"\n')
    with pytest.raises(BadSetup) as refused:
        read(path)
    assert all(name in str(refused.value) for name in ("actor", "tenants", "scopes", "secret"))
    with pytest.raises(BadSetup, match="DOORMAN_API_TOKENS"):
        read(tmp_path / "nowhere")


_prefixes = (f"api{number}-" for number in count())


@pytest.fixture(scope="module")
def address(tansu: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """casebook as a process, with cases and reviews in it."""
    folder = tmp_path_factory.mktemp("api")
    names = fleet.environment(tansu.bootstrap, folder, transactions=False, partitions=1, prefix=next(_prefixes))
    names["DOORMAN_API_TOKENS"] = str(token_file(folder))
    asyncio.run(filled(names))
    process = fleet.Process("casebook", names)
    process.wait_ready()
    yield f"http://{process.address}"
    assert process.stop() == 0


async def filled(names: dict[str, str]) -> None:
    configured = environment.load(names)
    async with Admin(configured) as admin:
        await admin.create(TOPICS.values())
    sender = Sender(configured)
    await sender.start()
    await sender.learn(TOPICS)
    outputs = [*quarantined(*(held(n, campaign_id="k-1") for n in range(5))), release(1)]
    assert outputs[0].topic == QUARANTINE
    await sender.send(sender.pack(outputs))
    await sender.stop()


@schemathesis.openapi.from_dict(document()).parametrize()
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_whatever_is_asked_the_api_answers_as_its_document_says(case: schemathesis.Case[Any], address: str) -> None:
    # A request that is wrong only for want of a token is put right by this one: it may be accepted.
    case.call_and_validate(
        base_url=address, headers={"Authorization": "Bearer all"}, excluded_checks=[negative_data_rejection]
    )
