"""docs/triton.md: its YAML is parsed, its parts fit each other and the targets, and its commands have those options."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dsedge.cli.emit import emit
from dsedge.emit import FORMS
from dsedge.target import load_target

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install pyyaml")

TEXT = (Path(__file__).parents[2] / "docs" / "triton.md").read_text()
OBJECTS = {
    found["kind"]: found
    for block in re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for found in yaml.safe_load_all(block)
}
COMPUTE = "nvidia.com/gpu.compute."


def capability(board: str) -> tuple[str, ...]:
    accelerator = load_target(board).accelerator
    assert accelerator and accelerator.compute_capability
    return tuple(accelerator.compute_capability.split("."))


def labels(term: dict[str, Any]) -> tuple[str, ...]:
    found = {each["key"]: each["values"] for each in term["matchExpressions"]}
    return tuple(found[COMPUTE + part][0] for part in ("major", "minor"))


def test_the_objects() -> None:
    versions = {kind: found["apiVersion"] for kind, found in OBJECTS.items()}
    assert versions == {
        "PersistentVolumeClaim": "v1",
        "Job": "batch/v1",
        "InferenceService": "serving.kserve.io/v1beta1",
    }
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", o["metadata"]["name"]) for o in OBJECTS.values())
    assert TEXT.count("```yaml") == len(OBJECTS)


def test_the_job_builds_on_the_gpu_it_names_what_the_service_reads() -> None:
    claim = OBJECTS["PersistentVolumeClaim"]["metadata"]["name"]
    pod = OBJECTS["Job"]["spec"]["template"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim
    assert [mount["name"] for mount in container["volumeMounts"]] == [volume["name"]]
    assert tuple(pod["nodeSelector"][COMPUTE + part] for part in ("major", "minor")) == capability("t4")
    assert pod["restartPolicy"] == "Never" and container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    predictor = OBJECTS["InferenceService"]["spec"]["predictor"]
    scheme, _, place = predictor["model"]["storageUri"].partition("://")
    assert scheme == "pvc" and place.partition("/")[0] == claim
    path = f"{container['volumeMounts'][0]['mountPath']}/{place.partition('/')[2]}"
    assert container["command"] == ["sh", f"{path}/model/build.sh"]
    terms = predictor["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [labels(term) for term in terms] == [capability("t4"), capability("a100")]


def test_all_images_are_of_one_release() -> None:
    model = OBJECTS["InferenceService"]["spec"]["predictor"]["model"]
    tags = set(re.findall(r"nvcr\.io/nvidia/(?:tensorrt|tritonserver):(\S+)", TEXT))
    assert tags == {model["runtimeVersion"]}


def test_the_service_asks_tritons_endpoints_and_scales() -> None:
    predictor = OBJECTS["InferenceService"]["spec"]["predictor"]
    model = predictor["model"]
    for probe, path in (("readinessProbe", "/v2/health/ready"), ("livenessProbe", "/v2/health/live")):
        assert model[probe]["httpGet"] == {"path": path, "port": 8080}
    requests, limits = model["resources"]["requests"], model["resources"]["limits"]
    assert requests["nvidia.com/gpu"] == limits["nvidia.com/gpu"]  # Kubernetes takes no other pair
    assert predictor["minReplicas"] <= predictor["maxReplicas"] and predictor["scaleTarget"] == 2 * 8
    waits = model["readinessProbe"]
    assert waits["periodSeconds"] * waits["failureThreshold"] == 5 * 60


def test_the_commands_have_these_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(emit)
    lines = [line.split() for line in TEXT.splitlines() if line.startswith("    dsedge emit ")]
    assert lines
    for _, _, form, *rest in lines:
        assert form in FORMS
        done = CliRunner().invoke(app, [form, *rest], catch_exceptions=True)
        assert getattr(done.exception, "code", None) == "DS804", (
            done.output
        )  # read up to the bundle, which is not there
