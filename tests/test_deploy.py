"""Deploy and docs against the code, offline: what runs them names only what exists."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import promql_parser
import pytest
import yaml
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.metrics import Histogram, MetricWrapperBase

from services import metrics
from services.errors import Fault
from services.observe import PORTS
from services.records import Degraded, Mode, Override, ReasonCode, Verdict
from services.settings import PREFIX, ROOT, Settings
from services.spans import DAY_MS
from services.topics import TOPICS

DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
GRAFANA = DEPLOY / "grafana" / "provisioning"
MODULES = {
    "ingest": "services.ingest",
    "classify": "services.classify",
    "action": "services.action",
    "campaigns": "services.classify.campaigns",
    "casebook": "services.action.casebook",
}
UNPRIVILEGED = 10001


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_bytes())


COMPOSE = read_yaml(ROOT / "docker-compose.yml")
RULES = [rule for group in read_yaml(PROMETHEUS / "rules.yml")["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
DASHBOARD = json.loads((GRAFANA / "dashboards" / "doorman.json").read_bytes())
MANIFESTS = [
    document
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in yaml.safe_load_all(path.read_bytes())
]
WORKLOADS = [document for document in MANIFESTS if document["kind"] in ("StatefulSet", "Job")]


def run(*command: str | Path) -> None:
    """A checker must be content."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def tool(name: str) -> Path:
    """A checker that comes with the development dependencies."""
    return Path(sys.executable).parent / name


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool: not found; .ci/run fetches it from Debian's package prometheus")
    return found


# --- image and compose


def test_the_dockerfile_passes_hadolint() -> None:
    run(tool("hadolint"), DEPLOY / "Dockerfile")


def copied() -> set[str]:
    """What the image is built from, by its path in the repository."""
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    return {name for line in sources for name in line.split()}


def test_the_image_holds_what_the_package_holds_and_runs_unprivileged() -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    defaults = [Settings.model_fields[name].default for name in ("model", "policy")]
    wanted = {*package["packages"], *package["force-include"], *(str(path.relative_to(ROOT)) for path in defaults)}
    assert wanted <= copied()
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert lines[-3:-1] == [f"USER {UNPRIVILEGED}:{UNPRIVILEGED}", "STOPSIGNAL SIGTERM"]
    assert any("--require-hashes" in line for line in lines)


def test_the_build_sees_only_what_is_copied() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert ignored[0] == "*"
    assert kept == copied()


def test_compose_keeps_the_compose_specification() -> None:
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml")


@pytest.mark.parametrize("name", MODULES)
def test_a_service_in_compose_is_started_shut_in_and_asked_for_its_health(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["command"] == ["python", "-m", MODULES[name]]
    assert service["depends_on"] == {"topics": {"condition": "service_completed_successfully"}}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == f"{UNPRIVILEGED}:{UNPRIVILEGED}"
    assert f":{PORTS[name]}/readyz" in service["healthcheck"]["test"][-1]
    assert any("/var/lib/doorman" in place for place in service["tmpfs"] + service["volumes"])


def test_compose_publishes_on_loopback_only_and_pins_every_image() -> None:
    for name, service in COMPOSE["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name


def test_compose_and_kubernetes_set_known_settings_only() -> None:
    given = [service.get("environment", {}) for service in COMPOSE["services"].values()]
    given += [document["data"] for document in MANIFESTS if document["kind"] == "ConfigMap"]
    given += [{entry["name"]: ""} for document in WORKLOADS for entry in container(document).get("env", [])]
    names = {name.removeprefix(PREFIX).lower() for part in given for name in part if name.startswith(PREFIX)}
    assert names <= Settings.model_fields.keys()


# --- Kubernetes


def container(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["spec"]["template"]["spec"]["containers"][0]
    return found


@pytest.mark.parametrize(
    "document", MANIFESTS, ids=lambda document: f"{document['kind']} {document['metadata']['name']}"
)
def test_a_manifest_is_what_kubernetes_takes(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_a_misspelt_manifest_is_not() -> None:
    wrong = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "doorman", "lables": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_kustomize_renders_every_manifest_with_a_pinned_image() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl: not found")
    done = subprocess.run([kubectl, "kustomize", DEPLOY / "kubernetes"], capture_output=True, check=True, timeout=60)
    rendered = list(yaml.safe_load_all(done.stdout))
    assert len(rendered) == len(MANIFESTS)
    images = {container(document)["image"] for document in rendered if document["kind"] in ("StatefulSet", "Job")}
    assert images == {COMPOSE["services"]["topics"]["image"]}


def test_kustomize_lists_every_manifest() -> None:
    files = {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")}
    assert {*read_yaml(DEPLOY / "kubernetes" / "kustomization.yaml")["resources"], "kustomization.yaml"} == files


@pytest.mark.parametrize("document", WORKLOADS, ids=lambda document: document["metadata"]["name"])
def test_a_pod_is_restricted(document: dict[str, Any]) -> None:
    pod = document["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == UNPRIVILEGED
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(document)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container(document)["resources"]) == {"requests", "limits"}


def test_every_service_runs_in_kubernetes_on_its_port_with_probes_and_time_to_end() -> None:
    sets = {document["metadata"]["name"]: document for document in WORKLOADS if document["kind"] == "StatefulSet"}
    assert sets.keys() == MODULES.keys() == PORTS.keys()
    for name, document in sets.items():
        found = container(document)
        assert found["command"] == ["python", "-m", MODULES[name]]
        assert found["ports"] == [{"name": "http", "containerPort": PORTS[name]}]
        probed = {kind: found[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
        assert probed == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
        assert document["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 60
    assert sets["casebook"]["spec"]["replicas"] == 1


def test_every_service_has_a_name_and_a_disruption_budget() -> None:
    for kind in ("Service", "PodDisruptionBudget"):
        found = {document["metadata"]["name"] for document in MANIFESTS if document["kind"] == kind}
        assert found == PORTS.keys(), kind


# --- metrics in rules and dashboard

BUILT_IN = {"up": ("job", "instance"), "ALERTS": ("alertname", "alertstate", "severity")}
WORDS: dict[str, Any] = {
    "service": PORTS,
    "topic": TOPICS,
    "fault": list(Fault),
    "cause": list(Degraded),
    "verdict": list(Verdict),
    "mode": list(Mode),
    "code": list(ReasonCode),
    "override": list(Override),
    "job": [f"doorman-{service}" for service in PORTS],
}


def declared() -> Iterator[MetricWrapperBase]:
    return (metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase))


def series() -> dict[str, tuple[str, ...]]:
    """Every series that can be asked for, with its labels."""
    found: dict[str, tuple[str, ...]] = dict(BUILT_IN)
    for metric in declared():
        name, labels = metric._name, tuple(metric._labelnames)
        if metric._type == "counter":
            found[f"{name}_total"] = labels
        elif metric._type == "histogram":
            found |= {f"{name}_bucket": (*labels, "le"), f"{name}_sum": labels, f"{name}_count": labels}
        elif metric._type == "info":
            found[f"{name}_info"] = ("version", "sha256")
        else:
            found[name] = labels
    return found | {rule["record"]: () for rule in RULES if "record" in rule}


def bounds(bucket: str) -> list[str]:
    """The `le` of a histogram's series."""
    histograms = (metric for metric in declared() if isinstance(metric, Histogram))
    return [str(bound) for metric in histograms if f"{metric._name}_bucket" == bucket for bound in metric._upper_bounds]


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """The series that an expression asks for; raises ValueError for what is no PromQL."""
    found: list[promql_parser.VectorSelector] = []

    def visit(part: promql_parser.Expr) -> None:
        if isinstance(part, promql_parser.VectorSelector):
            found.append(part)
        elif isinstance(part, promql_parser.MatrixSelector):
            found.append(part.vector_selector)

    promql_parser.walk(promql_parser.parse(expression.replace("$__rate_interval", "5m")), visit)
    return found


def unknown(expression: str) -> list[str]:
    """What an expression names that the code does not have."""
    known, wrong = series(), []
    for selector in selectors(expression):
        name = selector.name or ""
        if name not in known:
            wrong.append(name)
            continue
        for matcher in selector.matchers.matchers:
            words = bounds(name) if matcher.name == "le" else WORDS.get(matcher.name, [matcher.value])
            if matcher.name not in known[name] or ("Equal" in str(matcher.op) and matcher.value not in words):
                wrong.append(f"{name}{{{matcher}}}")
    return wrong


PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {
    **{f"rule {rule.get('alert', rule.get('record'))}": rule["expr"] for rule in RULES},
    **{f"panel {panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]},
    "annotation": DASHBOARD["annotations"]["list"][0]["expr"],
}


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_an_expression_asks_for_metrics_labels_and_words_that_exist(expression: str) -> None:
    assert selectors(expression)
    assert not unknown(expression)


@pytest.mark.parametrize(
    "wrong",
    [
        "doorman_decision_total",
        "rate(doorman_decisions[5m])",
        'doorman_decisions_total{code="text"}',
        'doorman_decisions_total{verdict="delete"}',
        'doorman_decision_latency_seconds_bucket{le="2.5"}',
        'sum(rate(doorman_dead_letters_total{fault="odd"}[5m])) > 1',
    ],
)
def test_an_expression_that_names_something_else_is_found(wrong: str) -> None:
    assert unknown(wrong)


@pytest.mark.parametrize("name", sorted(series().keys() - BUILT_IN.keys()))
def test_a_metric_is_seen_on_the_dashboard_or_in_a_rule(name: str) -> None:
    metric = re.sub(r"_(bucket|sum|count)$", "_bucket", name)
    asked = {selector.name for expression in EXPRESSIONS.values() for selector in selectors(expression)}
    assert metric in asked


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_tells_what_it_is_and_has_its_section_in_the_runbook(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"]
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"


def test_the_runbook_has_a_section_for_every_alert_and_no_other() -> None:
    sections = re.split(r"^## ", (ROOT / "docs" / "runbook.md").read_text(), flags=re.MULTILINE)[1:]
    assert [section.split("\n", 1)[0] for section in sections] == [alert["alert"] for alert in ALERTS]
    for section in sections:
        assert re.findall(r"^\*\*(.+?)\*\*", section, re.MULTILINE) == ["Means", "Look at", "Do"]


def test_prometheus_scrapes_every_service_on_its_port() -> None:
    jobs = read_yaml(PROMETHEUS / "prometheus.yml")["scrape_configs"]
    found = {job["job_name"]: (job["dns_sd_configs"][0]["names"], job["dns_sd_configs"][0]["port"]) for job in jobs}
    assert found == {f"doorman-{service}": ([service], port) for service, port in PORTS.items()}


def test_promtool_takes_configuration_rules_and_their_tests() -> None:
    found = promtool()
    run(found, "check", "config", PROMETHEUS / "prometheus.yml")
    run(found, "check", "rules", PROMETHEUS / "rules.yml")
    run(found, "test", "rules", PROMETHEUS / "tests.yaml")


def test_promtool_finds_the_metrics_well_named() -> None:
    exposition = generate_latest(REGISTRY)
    own = b"".join(line + b"\n" for line in exposition.splitlines() if b"doorman_" in line)
    done = subprocess.run([promtool(), "check", "metrics"], input=own, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_every_alert_is_tested() -> None:
    tested = (PROMETHEUS / "tests.yaml").read_text()
    assert not [alert["alert"] for alert in ALERTS if f"alertname: {alert['alert']}\n" not in tested]


def test_the_dashboard_asks_the_provisioned_datasource_and_is_provisioned() -> None:
    (source,) = read_yaml(GRAFANA / "datasources" / "prometheus.yaml")["datasources"]
    parts = [*PANELS, *(target for panel in PANELS for target in panel["targets"]), *DASHBOARD["annotations"]["list"]]
    assert {part["datasource"]["uid"] for part in parts} == {source["uid"]}
    (provider,) = read_yaml(GRAFANA / "dashboards" / "provider.yaml")["providers"]
    mounted = [volume.split(":") for volume in COMPOSE["services"]["grafana"]["volumes"]]
    assert (str(GRAFANA.relative_to(ROOT)), provider["options"]["path"].removesuffix("/dashboards")) in [
        (source.removeprefix("./"), target) for source, target, _ in mounted
    ]


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


# --- documents


def table(head: str, rows: Iterator[tuple[str, ...]]) -> str:
    columns = head.split(", ")
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def settings_table() -> str:
    fields = Settings.model_fields.items()
    return table(
        "variable, default, meaning",
        ((f"`{PREFIX}{name.upper()}`", _default(field.default), field.description or "") for name, field in fields),
    )


def _default(value: object) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, Path):
        return f"`{value.relative_to(ROOT)}`"
    if isinstance(value, Enum):
        return f"`{value.value}`"
    # A default that is worked out at start says so in the field's own words.
    return (
        f"`{str(value).lower() if isinstance(value, bool) else value}`" if isinstance(value, str | int) else "per user"
    )


def topics_table() -> str:
    return table(
        "topic, key, kept, largest record, what",
        (
            (
                f"`{topic.name}`",
                topic.key,
                "compacted" if topic.retention_ms is None else f"{topic.retention_ms // DAY_MS} d",
                f"{topic.max_bytes // 2**20} MiB",
                topic.what,
            )
            for topic in TOPICS.values()
        ),
    )


def metrics_table() -> str:
    suffixes = {"counter": "_total", "info": "_info"}
    return table(
        "metric, type, labels, what",
        (
            (
                f"`{metric._name}{suffixes.get(str(metric._type), '')}`",
                str(metric._type),
                ", ".join(metric._labelnames) or "-",
                metric._documentation,
            )
            for metric in declared()
        ),
    )


@pytest.mark.parametrize("build", [settings_table, topics_table, metrics_table], ids=lambda build: build.__name__)
def test_a_table_in_the_documents_is_what_the_code_says(build: Any) -> None:
    assert build() in (ROOT / "docs" / "operations.md").read_text(), f"docs/operations.md must hold\n{build()}"


@pytest.mark.parametrize("name", ["runbook.md", "operations.md"])
def test_a_link_in_the_documents_leads_somewhere(name: str) -> None:
    path = ROOT / "docs" / name
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        file, _, anchor = target.partition("#")
        there = path.parent / file if file else path
        assert there.exists(), target
        headings = re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings], target
