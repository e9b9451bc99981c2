# SPDX-License-Identifier: GPL-3.0-or-later
"""What an experiment sends to the API."""

from __future__ import annotations

import re
import subprocess

import pytest

from pkgctl.cluster import podbodies
from pkgctl.cluster.podbodies import KUBERNETES, OURS, Owner, Runtime
from pkgctl.scheduling.job import Artifact, Job, JobClass
from pkgctl.scheduling.resources import Resources

RUNTIME = Runtime("pkgctl.dev/runtime:1", "/usr/local/bin/python3", "/pkgctl")
OWNER = Owner("lab", "experiment-1", "uid-1")
SERVICE = Job(
    id="web-0",
    job_class=JobClass.LATENCY,
    resources=Resources(0.1, 40 << 20),
    nodes=frozenset({"edge-2", "edge-1"}),
    artifact=Artifact("web", 1000),
)
BATCH = Job(id="crunch-7", resources=Resources(0.5, 64 << 20), work=1.0)


def made(job=SERVICE, scheduler=OURS, source=None, program=("service", ["--port", "8000"])):
    return podbodies.pod(
        job, OWNER, "t", RUNTIME, program, service="web", scheduler=scheduler, source=source
    )


def test_a_pod_is_guaranteed_what_it_asks_for():
    for container in [
        *made(source="http://x/web")["spec"]["containers"],
        *made(source="http://x/web")["spec"]["initContainers"],
    ]:
        assert container["resources"] == {
            "requests": {"cpu": "100m", "memory": "40Mi"},
            "limits": {"cpu": "100m", "memory": "40Mi"},
        }


def test_a_pod_goes_with_its_owner_and_can_be_told_from_all_others():
    meta = made()["metadata"]

    (owner,) = meta["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("ConfigMap", "experiment-1", "uid-1")
    assert meta["labels"] == {
        "app.kubernetes.io/managed-by": "pkgctl",
        "pkgctl.dev/testbed": "lab",
        "pkgctl.dev/service": "web",
        "pkgctl.dev/job": "web-0",
        "pkgctl.dev/run": "experiment-1",
    }
    assert meta["annotations"][podbodies.TOKEN] == "t"


def test_a_pod_has_no_token_of_the_api_and_no_rights_on_its_node():
    spec = made()["spec"]

    assert spec["automountServiceAccountToken"] is False
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "tolerations" not in spec


def test_who_finds_the_node_is_named_and_the_default_scheduler_is_told_where_it_may_be():
    ours, theirs = made()["spec"], made(scheduler=KUBERNETES)["spec"]

    assert ours["schedulerName"] == "pkgctl-experiment" and "affinity" not in ours
    assert theirs["schedulerName"] == "default-scheduler"
    needed = theirs["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    names = [each["matchFields"][0]["values"] for each in needed["nodeSelectorTerms"]]
    assert names == [["edge-1"], ["edge-2"]]


def test_a_service_is_probed_and_a_batch_job_is_not():
    assert made()["spec"]["containers"][0]["readinessProbe"]["tcpSocket"] == {"port": 8000}
    assert "readinessProbe" not in made(BATCH)["spec"]["containers"][0]


def test_an_artifact_is_fetched_into_the_cache_of_the_node():
    spec = made(source="http://10.0.0.1:5000/artifacts/web?bytes=1000")["spec"]

    (fetch,) = spec["initContainers"]
    url, path, size = fetch["command"][-3:]
    assert (path, size) == ("/var/cache/pkgctl/web", "1000")
    assert url == "http://10.0.0.1:5000/artifacts/web?bytes=1000"
    assert fetch["volumeMounts"][0]["mountPath"] == spec["volumes"][0]["hostPath"]["path"]
    assert "initContainers" not in made()["spec"]


@pytest.mark.parametrize(
    ("there", "code", "said"), [(True, 1, "cached"), (False, 0, "fetched"), (False, 3, None)]
)
def test_what_is_in_the_cache_is_not_fetched_again(tmp_path, monkeypatch, there, code, said):
    monkeypatch.setattr(podbodies, "CACHE", str(tmp_path))
    script = made(source="http://x/web")["spec"]["initContainers"][0]["command"][4]
    told = tmp_path / "said"
    script = script.replace("/dev/termination-log", str(told))
    done: list[list[str]] = []
    if there:
        (tmp_path / "web").write_text("it")
    words = ["-c", "http://x/web", str(tmp_path / "web"), "2"]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr("os.spawnv", lambda _, __, argv: done.append(argv) or code)

    with pytest.raises(SystemExit) as ended:
        exec(compile(script, "fetch", "exec"), {})

    expected = ["/usr/local/bin/python3", "-S", "-E", "/pkgctl/fetch.py", *words[1:]]
    assert done == ([] if there else [expected])
    assert ended.value.code == (0 if there else code)
    if said is None:
        assert not told.exists()
    else:
        assert re.fullmatch(rf"{said} \d+\.\d{{3}}", told.read_text())


@pytest.mark.parametrize(
    "job", ["web-0", "Web_0", "web.0", "x" * 63, "x" * 70, "_", "store-a.b", "web-0-again"]
)
def test_every_name_of_a_job_becomes_one_that_kubernetes_takes(job):
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", podbodies.pod_name(job))


def test_names_that_differ_stay_different():
    names = ["web.0", "web_0", "web-0", "WEB-0", "x" * 64, "x" * 65]

    assert len({podbodies.pod_name(name) for name in names}) == len(names)


def test_a_resize_changes_only_what_is_given():
    (container,) = podbodies.resize(Resources(cpu=0.25))["spec"]["containers"]

    assert container["resources"] == {"requests": {"cpu": "250m"}, "limits": {"cpu": "250m"}}


def test_what_pods_fetched_goes_but_what_is_to_stay(tmp_path):
    for name in ("web", "model", ".model", "a b"):
        (tmp_path / name).touch()
    shell, flag, script, _, *kept = podbodies.clean({"model"})

    subprocess.run([shell, flag, script, str(tmp_path), *kept], check=True)

    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    subprocess.run([shell, flag, script, str(tmp_path / "none"), *kept], check=True)
