"""docs/triton.md: its YAML is parsed, its parts fit each other and the targets, and its commands are run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dsedge.cli import app
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
        "Pod": "v1",
        "Job": "batch/v1",
        "InferenceService": "serving.kserve.io/v1beta1",
    }
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", o["metadata"]["name"]) for o in OBJECTS.values())
    assert TEXT.count("```yaml") == len(OBJECTS)


def test_the_pod_and_the_job_have_the_volume() -> None:
    mounts = []
    for spec in (OBJECTS["Pod"]["spec"], OBJECTS["Job"]["spec"]["template"]["spec"]):
        (volume,), ((mount,),) = spec["volumes"], [each["volumeMounts"] for each in spec["containers"]]
        assert volume["persistentVolumeClaim"]["claimName"] == OBJECTS["PersistentVolumeClaim"]["metadata"]["name"]
        assert mount["name"] == volume["name"]
        mounts.append(mount["mountPath"])
    (target,) = re.findall(r"^    kubectl cp (?:\S+) copy:(\S+)$", TEXT, re.MULTILINE)
    assert set(mounts) == {target.rpartition("/")[0]}


def test_the_job_builds_on_the_gpu_it_names_what_the_service_reads() -> None:
    claim = OBJECTS["PersistentVolumeClaim"]["metadata"]["name"]
    pod = OBJECTS["Job"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert tuple(pod["nodeSelector"][COMPUTE + part] for part in ("major", "minor")) == capability("t4")
    assert pod["restartPolicy"] == "Never" and container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    predictor = OBJECTS["InferenceService"]["spec"]["predictor"]
    scheme, _, place = predictor["model"]["storageUri"].partition("://")
    assert scheme == "pvc" and place.partition("/")[0] == claim
    path = f"{container['volumeMounts'][0]['mountPath']}/{place.partition('/')[2]}"
    assert container["command"] == ["sh", f"{path}/digits_cnn/build.sh"]
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
    assert predictor["minReplicas"] <= predictor["maxReplicas"] and predictor["scaleTarget"] == 2 * 32
    waits = model["readinessProbe"]
    assert waits["periodSeconds"] * waits["failureThreshold"] == 5 * 60
    assert model["livenessProbe"]["initialDelaySeconds"] == 5 * 60  # Triton answers neither while models load


def test_the_commands_do_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(Path(__file__).parents[2] / "models")
    for line in re.findall(r"^    dsedge (.+)$", TEXT, re.MULTILINE):
        done = CliRunner().invoke(app, shlex.split(line), catch_exceptions=False)
        assert done.exit_code == 0, done.output
    cpu, gpu = ((tmp_path / "build" / name / "digits_cnn") for name in ("triton", "gpus"))
    assert (tmp_path / "build" / "digits-triton" / "digits_cnn" / "1" / "model.onnx").is_file()
    assert (cpu / "1" / "model.onnx").is_file() and not list((gpu / "1").iterdir())
    text = (gpu / "config.pbtxt").read_text()
    for said in ("max_batch_size: 32\n", "preferred_batch_size: [ 8 ]", 'key: "7.5"', 'key: "8.0"', "model_t4.plan"):
        assert said in text
    assert {path.name for path in gpu.iterdir()} == set(re.findall(r"`digits_cnn/([\w.]+)/?`", TEXT))
