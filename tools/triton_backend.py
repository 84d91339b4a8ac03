"""ONNX Runtime as a backend of Triton, for the server that `triton_server.py` brings, which has none but Python's.

It stands in for Triton's own onnxruntime backend in tests: Triton's core reads and checks the configuration, warms up
and queues requests; ONNX Runtime computes. Each execution is a line in $EXECUTIONS: the rows of each of its requests.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = os.environ["SITE_PACKAGES"].split(os.pathsep)

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import triton_python_backend_utils as triton  # type: ignore[import-not-found]  # noqa: E402


class TritonPythonModel:
    """What Triton's Python backend looks for."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Nothing is completed: the configuration stands as it was written."""
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Open the model file of the version."""
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.stacked = config["max_batch_size"] > 0
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """All requests in one run where they are stacked, else one by one."""
        # By DLPack, because this release's as_numpy was made for numpy 1 and gives arrays without bytes in numpy 2.
        feeds = [{n: np.from_dlpack(triton.get_input_tensor_by_name(r, n)) for n in self.inputs} for r in requests]
        rows = [next(iter(feed.values())).shape[0] if self.stacked else 1 for feed in feeds]
        with Path(os.environ["EXECUTIONS"]).open("a") as log:
            log.write(json.dumps(rows) + "\n")
        if not self.stacked:
            return [self._response(self.session.run(self.outputs, feed)) for feed in feeds]
        whole = self.session.run(self.outputs, {n: np.concatenate([feed[n] for feed in feeds]) for n in self.inputs})
        parts = [np.split(output, np.cumsum(rows)[:-1]) for output in whole]
        return [self._response(list(outputs)) for outputs in zip(*parts, strict=True)]

    def _response(self, outputs: list[np.ndarray]) -> Any:
        named = zip(self.outputs, outputs, strict=True)
        return triton.InferenceResponse([triton.Tensor.from_dlpack(name, array.copy()) for name, array in named])
