"""The CUDA runtime by ctypes: what JetPack and the driver install is enough, no cuda-python and no pycuda.

Functions, signatures and attribute numbers: CUDA Runtime API reference (driver_types.h for the enumerations).
"""

import ctypes
import pathlib
import sys

from trt_target import board_model

SONAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so.10.2", "libcudart.so")
FOLDERS = ("/usr/local/cuda/lib64", "/usr/local/cuda/lib")
WHEELS = ("nvidia/cuda_runtime/lib", "nvidia/cu13/lib")

TO_DEVICE, TO_HOST = 1, 2  # cudaMemcpyKind
_MAJOR, _MINOR = 75, 76  # cudaDeviceAttr: of the compute capability
_PROPERTIES = 16384  # bytes; cudaDeviceProp is under 2 KiB in CUDA 10 to 13, and begins with char name[256]

_P, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_OUT, _INT_OUT = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int)
SIGNATURES = {
    "cudaGetDeviceCount": (_INT_OUT,),
    "cudaDeviceGetAttribute": (_INT_OUT, ctypes.c_int, ctypes.c_int),
    "cudaGetDeviceProperties": (_P, ctypes.c_int),
    "cudaRuntimeGetVersion": (_INT_OUT,),
    "cudaDriverGetVersion": (_INT_OUT,),
    "cudaMalloc": (_OUT, _SIZE),
    "cudaFree": (_P,),
    "cudaMemGetInfo": (ctypes.POINTER(_SIZE), ctypes.POINTER(_SIZE)),
    "cudaMemcpyAsync": (_P, _P, _SIZE, ctypes.c_int, _P),
    "cudaStreamCreate": (_OUT,),
    "cudaStreamSynchronize": (_P,),
    "cudaEventCreate": (_OUT,),
    "cudaEventRecord": (_P, _P),
    "cudaEventSynchronize": (_P,),
    "cudaEventElapsedTime": (ctypes.POINTER(ctypes.c_float), _P, _P),
}

ADVICE = {
    2: "free memory of the GPU: close other programs, or build with a smaller workspace",
    35: "the driver is older than this CUDA runtime: update the driver or JetPack",
    46: "another program holds the GPU for itself",
    100: "no GPU is visible: on a Jetson the container needs --runtime nvidia, elsewhere look at nvidia-smi",
    209: "the engine was built for another GPU: run python3 build.py on this device",
    700: "a kernel read or wrote outside of its memory; build the engine again on this device",
    719: "a kernel failed; build the engine again on this device",
    802: "the GPU is not ready yet: try again in a minute",
    999: "the driver failed; see dmesg, and restart the device",
}


class CudaError(RuntimeError):
    """A call of the CUDA runtime failed; `code` is its cudaError_t, None where the library is missing."""

    def __init__(self, message, code=None):
        super().__init__(message)
        self.code = code


class Cuda:
    """The loaded libcudart; every call checks the code that comes back.

    Raises:
        CudaError: when no libcudart can be loaded, and from every call that fails.
    """

    def __init__(self):
        self._library = _open()
        for name, arguments in SIGNATURES.items():
            try:
                getattr(self._library, name).argtypes = arguments
            except AttributeError:
                raise CudaError(f"the CUDA runtime {self._library._name} lacks {name}") from None
        for name in ("cudaGetErrorName", "cudaGetErrorString"):
            getattr(self._library, name).argtypes = (ctypes.c_int,)
            getattr(self._library, name).restype = ctypes.c_char_p

    def call(self, name, *arguments):
        """Call a function that gives back a cudaError_t."""
        code = getattr(self._library, name)(*arguments)
        if code:
            what = self._library.cudaGetErrorName(code) or b"unknown error"
            why = self._library.cudaGetErrorString(code) or b""
            message = f"{name} failed: {what.decode()} ({code}): {why.decode()}"
            raise CudaError(message + (". " + ADVICE[code] if code in ADVICE else ""), code)

    def handle(self, name, *arguments):
        """Call a function whose first argument is where it writes a pointer; returns that as an integer."""
        made = ctypes.c_void_p()
        self.call(name, ctypes.byref(made), *arguments)
        return made.value

    def number(self, name, *arguments):
        """Call a function whose first argument is where it writes an integer."""
        found = ctypes.c_int()
        self.call(name, ctypes.byref(found), *arguments)
        return found.value

    def copy(self, to, source, size, kind, stream):
        """Copy bytes between host and device, in the order of a stream."""
        self.call("cudaMemcpyAsync", to, source, size, kind, stream)

    def milliseconds(self, start, end):
        """Time between two recorded events."""
        found = ctypes.c_float()
        self.call("cudaEventElapsedTime", ctypes.byref(found), start, end)
        return found.value

    def gpu(self, device=0):
        """Name, compute capability ("8.7"), memory and versions of the first GPU, and the board's model."""
        if not self.number("cudaDriverGetVersion"):  # 0 where there is none, as the reference of the function says
            raise CudaError(
                "this machine has no NVIDIA driver: run this on the device that the bundle is for (in a container with "
                "--gpus all, on a Jetson --runtime nvidia)"
            )
        if not self.number("cudaGetDeviceCount"):
            raise CudaError("no GPU: " + ADVICE[100], 100)
        properties = ctypes.create_string_buffer(_PROPERTIES)
        self.call("cudaGetDeviceProperties", properties, device)
        free, memory = _SIZE(), _SIZE()
        self.call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(memory))
        major, minor = (self.number("cudaDeviceGetAttribute", which, device) for which in (_MAJOR, _MINOR))
        return {
            "name": properties.raw[:256].split(b"\0")[0].decode("utf-8", "replace"),
            "compute_capability": f"{major}.{minor}",
            "model": board_model(),
            "memory_mib": memory.value >> 20,
            "cuda_runtime": _version(self.number("cudaRuntimeGetVersion")),
            "cuda_driver": _version(self.number("cudaDriverGetVersion")),
        }


def _version(number):
    return f"{number // 1000}.{number % 1000 // 10}"


def _open():
    folders = [*FOLDERS, *(pathlib.Path(path, wheel) for path in sys.path for wheel in WHEELS)]
    found = [str(path) for folder in folders for path in sorted(pathlib.Path(folder).glob("libcudart.so*"))]
    for candidate in (*SONAMES, *found):
        try:
            return ctypes.CDLL(candidate)
        except OSError:
            continue
    raise CudaError(
        "the CUDA runtime is missing: none of {} is found by the loader, in {} or among Python's packages. "
        "On a Jetson: sudo apt install nvidia-jetpack. Elsewhere: pip install nvidia-cuda-runtime-cu12, or set "
        "LD_LIBRARY_PATH".format(", ".join(SONAMES), ", ".join(FOLDERS))
    )
