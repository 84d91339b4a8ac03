"""What Triton would refuse of a configuration is found; each line says what is done to a sound one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import triton_schema
from deferred import tensorrt

from dsedge.bundle import ModelInfo
from dsedge.emit.triton import write_repository
from dsedge.emit.triton.check import Ranges, problems
from dsedge.emit.triton.config import make_config, warmup
from dsedge.emit.triton.engines import engines_of, ranges_of
from dsedge.emit.triton.text import Config, to_text


def set_in(path: str, value: Any) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        *way, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        place: Any = config
        for key in way:
            place = place[key]
        place[last] = value

    return change


def scalar(tensor: Config) -> None:
    tensor.update(dims=[1], reshape={"shape": []})


BROKEN: dict[str, Callable[[Config], object]] = {
    "max_batch_size is -5": set_in("max_batch_size", -5),
    "max_batch_size is 4294967296": set_in("max_batch_size", 1 << 32),
    "max_batch_size says that they cannot": set_in("max_batch_size", 0),
    "preferred_batch_size 32 is not between": set_in("dynamic_batching/preferred_batch_size", [32]),
    "preferred_batch_size 0 is not between": set_in("dynamic_batching/preferred_batch_size", [0]),
    "max_queue_delay_microseconds is negative": set_in("dynamic_batching/max_queue_delay_microseconds", -1),
    "x: Triton has no data type TYPE_FP8": set_in("input/0/data_type", "TYPE_FP8"),
    "x: dims [0, 12, 12] are not lengths": set_in("input/0/dims", [0, 12, 12]),
    "x: dims [] are not lengths": set_in("input/0/dims", []),
    "x: dims [1, 8, 12, 12] are not the model's [8, 12, 12], without": set_in("input/0/dims", [1, 8, 12, 12]),
    "x: dims [8, 12, 13] are not the model's": set_in("input/0/dims", [8, 12, 13]),
    "x: reshape leaves no axis": lambda config: (set_in("max_batch_size", 0)(config), scalar(config["input"][0])),
    "input 'x' is there twice": lambda config: config["input"].append(config["input"][0]),
    "input 'y' is none of the model's": set_in("input/0/name", "y"),
    "input 'x' of the model is missing": set_in("input", []),
    "output 'gemm_8' of the model is missing": set_in("output", []),
    "x: data_type is TYPE_FP16, and the model's is TYPE_FP32": set_in("input/0/data_type", "TYPE_FP16"),
    "name is 'other', and the folder 'net'": set_in("name", "other"),
    "has no known kind, or no instance": set_in("instance_group/0/count", 0),
    "instance_group {'kind': 'KIND_TPU'": set_in("instance_group/0/kind", "KIND_TPU"),
    "says KIND_CPU, and a bundle for tensorrt is for KIND_GPU": set_in("instance_group/0/kind", "KIND_CPU"),
    "says KIND_GPU, and a bundle for onnxruntime is for KIND_CPU": set_in("backend", "onnxruntime"),
    "says KIND_GPU, and a bundle for openvino is for KIND_CPU": set_in("backend", "openvino"),
    "there is no file 1/lost.plan": set_in("cc_model_filenames", {"8.0": "lost.plan"}),
    "'../../model.plan' leaves the folder": set_in("cc_model_filenames", {"8.0": "../../model.plan"}),
    "'sm80' is no compute capability": set_in("cc_model_filenames", {"sm80": "model_t4.plan"}),
    "there is no file 1/model.onnx": set_in("backend", "onnxruntime"),
    "max_batch_size is 16, and Triton's openvino backend takes only": set_in("backend", "openvino"),
    "there is no file 1/model.xml": set_in("backend", "openvino"),
    "max_batch_size is 32, and the engines take [1, 8, 12, 12] to [16, 8, 12, 12]": set_in("max_batch_size", 32),
    "x is [99, 8, 12, 12], and the engines take": set_in("model_warmup/0/batch_size", 99),
    "batch_size 99 is not between 1 and 16": set_in("model_warmup/0/batch_size", 99),
    "its inputs are not the model's, see x": set_in("model_warmup/0/inputs", {}),
    "x is TYPE_INT8 [8, 12, 12], the input takes": set_in("model_warmup/0/inputs/x/data_type", "TYPE_INT8"),
    "x is TYPE_FP32 [8, 12, -1], the input takes": set_in("model_warmup/0/inputs/x/dims", [8, 12, -1]),
    "there is no file warmup/lost": set_in("model_warmup/0/inputs/x/input_data_file", "lost"),
    "has 3 bytes, x takes 4608": set_in("model_warmup/0/inputs/x/input_data_file", "short"),
    "x has no data": lambda config: config["model_warmup"][0]["inputs"]["x"].pop("input_data_file"),
}


@dataclass(frozen=True)
class Served:
    """A configuration without a problem, its folder, its model, and what lengths its engines take."""

    config: Config
    folder: Path
    model: ModelInfo
    ranges: Ranges


@pytest.fixture
def served(bundle_folder: Path, tmp_path: Path) -> Served:
    bundle = tensorrt(bundle_folder, tmp_path / "t4", "t4", built=True)
    folder = write_repository([bundle], tmp_path / "r", name="net", max_batch=16, preferred=(4,)).path / "net"
    (folder / "warmup" / "short").write_bytes(b"123")
    config = make_config(bundle, "net", {"7.5": "model_t4.plan"}, 16, (4,), 100, 1)
    config["model_warmup"] = warmup(config, [(1, 8, 12, 12)])
    found = Served(config, folder, bundle.manifest.model, ranges_of(engines_of([bundle])))
    assert problems(config, folder, found.model, found.ranges) == []
    assert (folder / "config.pbtxt").read_text().partition("\n")[2] == to_text(config)
    return found


@pytest.mark.parametrize("said", BROKEN)
def test_each_thing_that_triton_would_refuse_is_found(served: Served, said: str) -> None:
    broken = copy.deepcopy(served.config)
    BROKEN[said](broken)
    found = problems(broken, served.folder, served.model, served.ranges)
    assert any(said in line for line in found), found


def test_an_open_axis_without_a_profile(served: Served) -> None:
    found = problems(served.config, served.folder, served.model)
    assert found == ["x: an axis is open, and no profile says what lengths the engine takes"]


@pytest.mark.skipif(not triton_schema.ready(), reason="no schema: run tools/triton_schema.py")
def test_what_the_schema_reads(served: Served, tmp_path: Path) -> None:
    config = copy.deepcopy(served.config)
    name = 'a "quote" \\ \n\t\x01 ü 漢 {}'
    config["input"][0]["name"] = name
    for sample in config["model_warmup"]:
        sample["inputs"] = {name: sample["inputs"]["x"]}
    texts = [to_text(config), "max_batch_sizes: 1", "input { data_type: TYPE_FP8 }", "name: ", "max_batch_size: -5"]
    paths = [tmp_path / f"{number}.pbtxt" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    same, *refused, negative = triton_schema.read(paths)
    assert same == config and negative == {"max_batch_size": -5}  # which is why there are checks beside it
    assert all(isinstance(said, str) and said.startswith("DS401") for said in refused), refused
