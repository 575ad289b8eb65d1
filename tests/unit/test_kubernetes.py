"""What deploy/kubernetes promises: valid objects, settings that exist, secrets in files, and no rights beyond need."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

import httpx2
import kubernetes_validate
import pytest
import yaml

from consumer.app import GRACE_S, WorkerFacts, create_api
from raingauge.access.tokens import digest, new_token
from raingauge.clock import SystemClock
from raingauge.errors import HandoffUnavailable
from raingauge.messaging.kafka.client import DEFAULT_TIMEOUTS
from raingauge.observability.metrics import Telemetry
from raingauge.process import DRAIN_S
from raingauge.settings import Settings, load_settings, provider_key, token_digests
from tests.api_support import Front
from tests.support.processes import forget_settings

ROOT: Final = Path(__file__).parents[2]
BASE: Final = ROOT / "deploy/kubernetes/base"
COMPOSE: Final = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
VERSIONS: Final = ["1.31", "1.37"]
"""Of Kubernetes: the oldest that has all fields, and the newest that the schemas know."""
SECRETS: Final = {
    "database-url": "mysql+pymysql://raingauge@mysql:3306/raingauge",
    "broker-url": "kafka://kafka:9092",
    "admin-token": new_token(),
    "openweather-api-key": "key",
}
NEEDS: Final = {
    "migrate": {"database-url"},
    "producer": {"database-url", "broker-url", "admin-token"},
    "consumer": {"database-url", "broker-url", "openweather-api-key"},
}
"""The secrets that each pod gets."""

Object = dict[str, Any]


def kustomization(folder: Path) -> Object:
    loaded: Object = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
    return loaded


def variables(lines: list[str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


SHARED: Final = variables((BASE / "settings.env").read_text("utf-8").splitlines())
OVERLAY: Final = kustomization(ROOT / "deploy/kubernetes/example")
OBJECTS: Final[list[Object]] = [
    loaded
    for name in kustomization(BASE)["resources"]
    for loaded in yaml.safe_load_all((BASE / name).read_text("utf-8"))
]
"""As they are written; what kustomize adds is the namespace, and the ConfigMap with a hash in its name."""


def of_kind(*kinds: str) -> dict[str, Object]:
    """The specifications of these kinds by their component or, of the network's policies, by name."""
    found = [thing for thing in OBJECTS if thing["kind"] in kinds]
    names = [thing["metadata"]["labels"]["app.kubernetes.io/component"] for thing in found]
    if kinds == ("NetworkPolicy",):
        names = [thing["metadata"]["name"].removeprefix("raingauge-") for thing in found]
    assert len({*names}) == len(found) > 0
    return {name: thing["spec"] for name, thing in zip(names, found, strict=True)}


PODS: Final[dict[str, Object]] = {name: spec["template"] for name, spec in of_kind("Deployment", "Job").items()}
SERVICES: Final = ["producer", "consumer"]
each_pod = pytest.mark.parametrize("name", PODS)
each_service = pytest.mark.parametrize("name", SERVICES)


def container(name: str) -> Object:
    (only,) = PODS[name]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def environment(name: str) -> dict[str, str]:
    """The variables that a container is given, those of the ConfigMap too."""
    shared = SHARED if "envFrom" in container(name) else {}
    return shared | {one["name"]: one["value"] for one in container(name)["env"]}


@pytest.fixture
def secret_files(tmp_path: Path) -> Path:
    for key, value in SECRETS.items():
        (tmp_path / key).write_text(value)
    return tmp_path


def settings_of(name: str, secret_files: Path, more: dict[str, str]) -> tuple[Settings, str | None]:
    """The settings and the key as the program in this pod reads them."""
    (mounted,) = [one["mountPath"] for one in container(name)["volumeMounts"] if one["name"] == "secrets"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # with config.env.yml, like the images
        forget_settings(patch)
        for variable, value in (environment(name) | more).items():
            patch.setenv(variable, value.replace(mounted, str(secret_files)))
        return load_settings(), provider_key()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_by_the_schema_and_a_misspelt_field_is_not(version: str) -> None:
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": SHARED}
    for thing in [*OBJECTS, settings]:
        kubernetes_validate.validate(thing, version, strict=True)
    (wrong,) = [copy.deepcopy(thing) for thing in OBJECTS if thing["kind"] == "Job"]
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_the_base_holds_every_file_of_its_folder() -> None:
    listed = kustomization(BASE)
    (generated,) = listed["configMapGenerator"]
    named = ["kustomization.yaml", *listed["resources"], *generated["envs"]]
    assert sorted(named) == sorted(path.name for path in BASE.iterdir())
    used = {one["configMapRef"]["name"] for name in SERVICES for one in container(name)["envFrom"]}
    assert used == {generated["name"]}


@each_service
def test_the_settings_exist_and_a_service_listens_where_its_pod_says(name: str, secret_files: Path) -> None:
    settings, key = settings_of(name, secret_files, {})
    listens = settings.consumer.http if name == "consumer" else settings.http
    (port,) = container(name)["ports"]
    assert (port["name"], port["containerPort"]) == ("http", listens.port)
    assert listens.host == "0.0.0.0"
    assert f"EXPOSE {listens.port}\n" in (ROOT / name / "Dockerfile").read_text("utf-8")
    assert (settings.database.url, settings.broker.url) == (SECRETS["database-url"], SECRETS["broker-url"])
    assert key == (SECRETS["openweather-api-key"] if name == "consumer" else None)
    if name == "producer":  # it listens to other machines: without a token it would not start
        assert token_digests(settings.access.tokens) == [digest(SECRETS["admin-token"])]


async def test_the_probes_ask_what_the_services_answer(front: Front) -> None:
    async def away() -> None:
        raise HandoffUnavailable("no connection")

    consumer = httpx2.ASGITransport(create_api(WorkerFacts(), away, Telemetry(SystemClock())))
    clients = {"producer": front.http, "consumer": httpx2.AsyncClient(transport=consumer, base_url="http://c")}
    for name, http in clients.items():
        for probe, path in {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}.items():
            assert container(name)[probe]["httpGet"] == {"path": path, "port": "http"}
            expected = 503 if (name, path) == ("consumer", "/ready") else 200
            assert (await http.get(path)).status_code == expected


@each_pod
def test_secrets_are_files_and_a_pod_has_those_that_it_needs(name: str) -> None:
    mounts = {one["name"]: PurePosixPath(one["mountPath"]) for one in container(name)["volumeMounts"]}
    (secret,) = [one["secret"] for one in PODS[name]["spec"]["volumes"] if one["name"] == "secrets"]
    files = {mounts["secrets"] / one["path"] for one in secret["items"]}
    assert {one["key"] for one in secret["items"]} == NEEDS[name]
    named = {PurePosixPath(value) for key, value in environment(name).items() if key.endswith("_FILE")}
    tokens = json.loads(environment(name).get("RAINGAUGE_ACCESS__TOKENS", "[]"))
    assert named | {PurePosixPath(token["token_file"]) for token in tokens} == files
    assert all(one.keys() == {"name", "value"} for one in container(name)["env"]), "no secret comes as a variable"
    assert not [key for key in environment(name) if key.endswith(("__URL", "API_KEY"))]
    assert "Secret" not in {thing["kind"] for thing in OBJECTS}


@each_pod
def test_a_pod_has_no_rights_that_it_does_not_need(name: str) -> None:
    pod, within = PODS[name]["spec"], container(name)["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    dropped = {"capabilities": {"drop": ["ALL"]}}
    assert within == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True} | dropped
    image = container(name)["image"].partition(":")[0].removeprefix("raingauge-")
    assert f"\nUSER {pod['securityContext']['runAsUser']}\n" in (ROOT / image / "Dockerfile").read_text("utf-8")
    assert pod["automountServiceAccountToken"] is False
    # The variables of a Service named raingauge-… would be unknown settings, and end the program.
    assert pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert container(name)["resources"].keys() == {"requests", "limits"}
    assert [one["mountPath"] for one in container(name)["volumeMounts"] if not one.get("readOnly")] == ["/tmp"]
    enforced = "pod-security.kubernetes.io/enforce"
    assert [one["metadata"]["labels"][enforced] for one in OBJECTS if one["kind"] == "Namespace"] == ["restricted"]


@each_service
def test_a_service_is_not_killed_while_it_stops(name: str, secret_files: Path) -> None:
    timeout_s = settings_of(name, secret_files, {})[0].openweather.timeout_s
    calls_s = timeout_s + GRACE_S if name == "consumer" else 0
    farewell_s = 2 * DEFAULT_TIMEOUTS.commit_s + 3 * DEFAULT_TIMEOUTS.stop_s
    waits_s = container(name).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert PODS[name]["spec"]["terminationGracePeriodSeconds"] > waits_s + DRAIN_S + calls_s + farewell_s
    assert (waits_s > 0) is (name == "producer"), "requests arrive until every proxy knows that the pod stops"


def matched(selector: Object) -> set[str]:
    """The pods that a selector selects."""
    chosen = set()
    for name, pod in PODS.items():
        labels = pod["metadata"]["labels"]
        expressions = [labels[one["key"]] in one["values"] for one in selector.get("matchExpressions", [])]
        if selector.get("matchLabels", {}).items() <= labels.items() and all(expressions):
            chosen.add(name)
    return chosen


def test_every_selector_selects_the_pods_that_it_is_meant_for() -> None:
    deployments, budgets, ways = of_kind("Deployment"), of_kind("PodDisruptionBudget"), of_kind("NetworkPolicy")
    for name in SERVICES:
        spread = PODS[name]["spec"]["topologySpreadConstraints"]
        for selector in [deployments[name]["selector"], budgets[name]["selector"], spread[0]["labelSelector"]]:
            assert matched(selector) == {name}
        assert deployments[name]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert budgets[name]["maxUnavailable"] < deployments[name]["replicas"]
    ((name, service),) = of_kind("Service").items()
    assert matched({"matchLabels": service["selector"]}) == {name} == {"producer"}
    assert [port["targetPort"] for port in service["ports"]] == ["http"]
    assert {way: matched(policy["podSelector"]) for way, policy in ways.items()} == {
        **{way: {*PODS} for way in ("deny", "to-dns", "to-database")},
        **{way: {*SERVICES} for way in ("to-kafka", "from-prometheus")},
        "to-provider": {"consumer"},
        "from-clients": {"producer"},
    }
    assert ways["deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_the_schema_is_brought_up_by_the_command_that_compose_runs() -> None:
    assert container("migrate")["command"] == COMPOSE["x-migrate"]["command"]
    assert PODS["migrate"]["spec"]["restartPolicy"] == "Never"


def test_the_overlay_changes_what_exists(secret_files: Path) -> None:
    names = {container(name)["image"].partition(":")[0] for name in PODS}
    assert {one["name"] for one in OVERLAY["images"]} == names == {f"raingauge-{name}" for name in SERVICES}
    existing = {(thing["kind"], thing["metadata"]["name"]) for thing in OBJECTS}
    targets = [(one["target"]["kind"], one["target"]["name"]) for one in OVERLAY["patches"]]
    assert {*targets, *(("Deployment", one["name"]) for one in OVERLAY["replicas"])} <= existing
    (changed,) = OVERLAY["configMapGenerator"]
    settings, _ = settings_of("consumer", secret_files, variables(changed["literals"]))
    assert settings.quota.cities_per_window == 600
    assert changed["name"] == kustomization(BASE)["configMapGenerator"][0]["name"]


def blocks() -> list[str]:
    """The code blocks of the manual."""
    return re.findall(r"^```\n(.*?)^```$", (ROOT / "docs/kubernetes.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> Iterator[str]:
    """What the manual has people type."""
    for block in blocks():
        yield from block.replace("\\\n", " ").splitlines()


def apply(step: Object, changed: Object) -> None:
    """One step of a JSON patch: `add` at the end of a list, or `replace`."""
    *way, last = step["path"].strip("/").split("/")
    place: Any = changed
    for part in way:
        place = place[int(part) if isinstance(place, list) else part]
    if (step["op"], last) == ("add", "-"):
        place.append(step["value"])
    else:
        assert step["op"] == "replace"
        assert last in place
        place[last] = step["value"]


def test_the_patches_of_the_manual_mount_each_file_that_its_settings_name(secret_files: Path) -> None:
    kafka, database = (yaml.safe_load(block) for block in blocks() if "patches:" in block)
    objects = copy.deepcopy(OBJECTS)
    for patch in kafka["patches"] + database["patches"]:
        target = patch["target"]
        candidates = [one for one in objects if target.get("name") in {None, one["metadata"]["name"]}]
        chosen = [one for one in candidates if re.fullmatch(target["kind"], one["kind"])]
        assert chosen, target
        for one in chosen:
            for step in yaml.safe_load(patch["patch"]):
                apply(step, one)
    for one in objects:
        kubernetes_validate.validate(one, VERSIONS[0], strict=True)
    pods = [one["spec"]["template"]["spec"] for one in objects if one["kind"] in {"Deployment", "Job"}]
    files = [{item["path"] for item in pod["volumes"][0]["secret"]["items"]} for pod in pods]
    assert all("database-ca" in each for each in files), "the Job connects to the database, too"
    (generated,) = kafka["configMapGenerator"]
    literals = variables(generated["literals"])
    named = {PurePosixPath(value).name for key, value in literals.items() if key.endswith("_FILE")}
    assert [named <= each for each in files] == ["broker-url" in each for each in files]
    for name in SERVICES:
        settings, _ = settings_of(name, secret_files, literals)
        assert settings.broker.ca_file == str(secret_files / "kafka-ca")
        assert (settings.broker.security, settings.broker.username) == ("sasl_ssl", "raingauge")


def test_the_manual_names_objects_and_components_that_exist() -> None:
    known = {thing["metadata"]["name"] for thing in OBJECTS}
    components = {thing["metadata"]["labels"]["app.kubernetes.io/component"] for thing in OBJECTS} | {"settings"}
    typed = "\n".join(commands())
    known |= set(re.findall(r'metadata: \{name: "([\w-]+)"', typed))  # what the manual itself creates
    named = set(re.findall(r"(?:deployment|job|service|configmap)/(raingauge[\w-]*)", typed))
    assert named
    assert named <= known
    selected = re.findall(r"app\.kubernetes\.io/component(?:=| in \()([\w, ]+)", typed)
    assert {name for one in selected for name in one.split(", ")} <= components
    assert {*re.findall(r"--from-file=([\w-]+)=", typed)} == {*SECRETS}
