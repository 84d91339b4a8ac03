"""Opens the engine of a bundle and runs it: TensorRT's Python module, and the CUDA runtime by ctypes.

Engines are run by tensor names and `execute_async_v3`, which TensorRT has from 8.5 to 11. Names and meanings: TensorRT
Python API reference, ICudaEngine and IExecutionContext.
"""

import hashlib
import json
import pathlib

import numpy as np
import trt_conditions
import trt_rules
from trt_cuda import TO_DEVICE, TO_HOST, Cuda
from trt_files import sha256

DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
"""Types of inputs and outputs; trt.nptype is not asked, because that of 8.5 fails with numpy 1.24 and later."""


WARMUP = 5
"""Runs that `run.py` makes before it takes the time."""


def load(model, threads=None):
    """Open the engine that `build.py` built beside a graph.

    Args:
        model: path of a graph of the bundle, or of an engine (a name that ends in .plan).
        threads: not used; a GPU has none to choose.

    Raises:
        OSError, RuntimeError: no engine, one that is not the one that was recorded, one of another bundle, or one that
            cannot be opened here.
    """
    model = pathlib.Path(model)
    plan = model if model.suffix == ".plan" else model.parent / "engine.plan"
    if not plan.is_file() or not plan.with_suffix(".json").is_file():
        raise OSError(f"{plan.name} is not built yet: run python3 build.py on this device first")
    if not is_current(plan):
        raise RuntimeError(f"{plan.name} was built for another bundle that lay here: run python3 build.py again")
    data = plan.read_bytes()
    record = json.loads(plan.with_suffix(".json").read_text(encoding="utf-8"))
    if hashlib.sha256(data).hexdigest() != record["engine"]["sha256"]:
        raise RuntimeError(f"{plan.name} is not the engine that was built last: run python3 build.py again")
    settings = json.loads((plan.parent / "build.json").read_text(encoding="utf-8"))
    engine = Engine(data, settings["outputs"], record["tensorrt"])
    engine.is_exact = record["precision"] == "fp32" and not record["tf32"]
    engine.graph_db = graph_db(settings, record)
    return engine


def graph_db(settings, record):
    """What the graph that an engine was built from reached; None where the manifest says it."""
    key = record["graph"]["file"], record["precision"]
    return next((g["golden_sqnr_db"] for g in settings["graphs"] if (g["file"], g["precision"]) == key), None)


def is_current(plan):
    """Whether an engine was built with the settings, and so from the graphs, that lie beside it."""
    record = plan.with_suffix(".json")
    if not plan.is_file() or not record.is_file():
        return False
    built_with = json.loads(record.read_text(encoding="utf-8")).get("settings")
    return built_with == sha256(plan.with_name("build.json"))


def import_tensorrt():
    """TensorRT's Python module."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise ImportError(
            f"Python's tensorrt does not load ({error}). On a Jetson: sudo apt install python3-libnvinfer, and use the "
            "system's python3; elsewhere: pip install tensorrt of the version that built the engine"
        ) from None
    return tensorrt


class Engine:
    """An engine on the first GPU: call it with {input: array} to get a list of arrays, in the order of `outputs`.

    Integers and floats of another width than the engine's are converted where no number changes its meaning: TensorRT
    before 10 has no int64.
    """

    def __init__(self, data, outputs, built_with):
        self._cuda = Cuda()
        self.gpu = self._cuda.gpu()
        trt = import_tensorrt()
        self.tensorrt = trt.__version__
        logger = trt.Logger(trt.Logger.ERROR)
        trt.init_libnvinfer_plugins(logger, "")
        self._keep = trt.Runtime(logger)  # an engine lives no longer than its runtime
        self._engine = self._keep.deserialize_cuda_engine(data)
        if self._engine is None:
            why = "the memory may not be enough, or the GPU is another one: see its own message above"
            if trt.__version__ != built_with:
                why = f"TensorRT {built_with} built it, and an engine is bound to its version: run python3 build.py"
            raise RuntimeError(f"TensorRT {trt.__version__} cannot open the engine: {why}")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise RuntimeError("no execution context: the GPU's memory is not enough for this engine")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self.inputs = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self.outputs = list(outputs)
        if sorted(self.inputs + self.outputs) != sorted(names):
            raise RuntimeError(f"the engine's tensors are {names}, the bundle's outputs {self.outputs}")
        self._types = {n: np.dtype(DTYPES[self._engine.get_tensor_dtype(n).name]) for n in names}
        self._on_host = {n for n in names if self._engine.get_tensor_location(n) == trt.TensorLocation.HOST}
        self._buffers = {}
        self._stream = self._cuda.handle("cudaStreamCreate")
        self._events = [self._cuda.handle("cudaEventCreate") for _ in range(2)]
        self._allocator = _allocator(trt, self._memory)
        self.device_ms = []
        self.is_exact = False  # nothing but float32 products
        self.graph_db = None

    def __call__(self, feeds):
        """Run once; ValueError where the inputs are not the engine's."""
        if feeds.keys() != set(self.inputs):
            raise ValueError(f"the model takes the inputs {sorted(self.inputs)}, not {sorted(feeds)}")
        held = [self._feed(name, feeds[name]) for name in self.inputs]  # alive until the stream is through
        shapes = {name: tuple(self._context.get_tensor_shape(name)) for name in self.outputs}
        for name, shape in shapes.items():
            if min(shape, default=0) < 0:  # it depends on data: the allocator hears of it as it runs
                self._context.set_output_allocator(name, self._allocator)
            else:
                size = int(np.prod(shape, dtype=np.int64)) * self._types[name].itemsize
                self._context.set_tensor_address(name, self._memory(name, size))
        start, end = self._events
        self._cuda.call("cudaEventRecord", start, self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise RuntimeError("TensorRT could not start the engine; its own message stands above")
        self._cuda.call("cudaEventRecord", end, self._stream)
        self._cuda.call("cudaStreamSynchronize", self._stream)
        self.device_ms.append(self._cuda.milliseconds(start, end))
        del held
        return [self._fetch(name, self._allocator.shapes.get(name, shape)) for name, shape in shapes.items()]

    def expected(self, recorded_db):
        """The SQNR to come near, of each output in dB; `recorded_db` is the manifest's."""
        return trt_rules.expected(self.graph_db, recorded_db, self.is_exact)

    @property
    def conditions(self):
        """What a benchmark adds: GPU time of the runs by CUDA events, those of the warm-up left out; and how it was."""
        return {"device": percentiles(self.device_ms[WARMUP:] or self.device_ms), **trt_conditions.conditions()}

    def _feed(self, name, array):
        array, wanted = np.asarray(array), self._types[name]
        converted = np.ascontiguousarray(array.astype(wanted, copy=False)).reshape(array.shape)
        if array.dtype.kind != wanted.kind or (wanted.kind in "iu" and np.any(converted != array)):
            raise ValueError(f"input {name!r}: the engine takes {wanted}, not {array.dtype}")
        if not self._context.set_input_shape(name, array.shape):
            limits = list(self._engine.get_tensor_shape(name))
            raise ValueError(
                f"input {name!r}: the shape {list(array.shape)} is not within what the engine was built for: {limits}, "
                "and for open axes the profile in build.json"
            )
        if name in self._on_host:
            self._context.set_tensor_address(name, converted.ctypes.data)
        else:
            address = self._memory(name, converted.nbytes)
            self._cuda.copy(address, converted.ctypes.data, converted.nbytes, TO_DEVICE, self._stream)
            self._context.set_tensor_address(name, address)
        return converted

    def _fetch(self, name, shape):
        array = np.empty(shape, self._types[name])
        self._cuda.copy(array.ctypes.data, self._buffers[name][0], array.nbytes, TO_HOST, self._stream)
        self._cuda.call("cudaStreamSynchronize", self._stream)
        return array

    def _memory(self, name, size):
        """Address of at least `size` bytes on the GPU; kept for the next run."""
        address, held = self._buffers.get(name, (None, 0))
        if held < max(size, 1):
            if address:
                self._cuda.call("cudaFree", address)
            self._buffers.pop(name, None)
            self._buffers[name] = (self._cuda.handle("cudaMalloc", max(size, 1)), max(size, 1))
        return self._buffers[name][0]


def percentiles(times_ms):
    """Median, 90th, 99th percentile and least of times in milliseconds."""
    median, p90, p99 = (float(np.percentile(times_ms, q)) for q in (50, 90, 99))
    least = float(np.min(times_ms))
    return {"median_ms": median, "p90_ms": p90, "p99_ms": p99, "min_ms": least, "runs": len(times_ms)}


def _allocator(trt, memory):
    """Gives memory for outputs whose shape depends on data, and keeps the shapes."""

    class Allocator(trt.IOutputAllocator):
        def __init__(self):
            trt.IOutputAllocator.__init__(self)
            self.shapes = {}

        def reallocate_output(self, name, address, size, alignment):
            return memory(name, size)

        def reallocate_output_async(self, name, address, size, alignment, stream):
            return memory(name, size)

        def notify_shape(self, name, shape):
            self.shapes[name] = tuple(shape)

    return Allocator()
