"""Whether a device is the one that a bundle is for. dsedge asks the same of what a device reports.

NVIDIA's A30 has the compute capability of an A100, and all Jetsons of a generation call their GPU alike ("Orin"). So a
Jetson is told by the model in its device tree, another GPU by its own name, and both by their memory too.
"""

import operator
import pathlib
import re

MODEL = pathlib.Path("/proc/device-tree/model")
LEAST, MOST = 0.7, 1.1
"""Of the memory that a data sheet says, what the system leaves: less than half of it is another module, or a slice."""

_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}


def board_model(path=MODEL):
    """What the device tree calls the board, None where there is none (Docker hides it)."""
    try:
        return path.read_bytes().rstrip(b"\0").decode("utf-8", "replace")
    except OSError:
        return None


def differences(target, gpu, tensorrt):
    """Why a latency from here says nothing about the target, nothing where it is the target.

    Args:
        target: as in build.json.
        gpu: {"name", "compute_capability", "model", "memory_mib"}.
        tensorrt: the version that ran the engine.
    """
    here = " / ".join(filter(None, (gpu["name"], gpu["model"])))
    found = []
    if gpu["compute_capability"] != target["compute_capability"]:
        numbers = gpu["compute_capability"], target["compute_capability"]
        found.append("its compute capability is {}, and the target's {}".format(*numbers))
    wanted = target["device_name"]
    if wanted is None:
        found.append("the target's file does not say what the device calls itself (accelerator.device_name)")
    elif not re.search(r"(?<!\w)" + re.escape(wanted) + r"(?!\w)", here, re.IGNORECASE):
        found.append(f"it calls itself {here}, and the target {wanted}")
    memory = target["memory_mib"]
    if memory is not None and not LEAST * memory <= gpu["memory_mib"] <= MOST * memory:
        found.append("it has {} MiB of memory, and the target {}".format(gpu["memory_mib"], memory))
    if target["tensorrt"] is not None and not within(tensorrt, target["tensorrt"]):
        found.append("TensorRT {} ran the engine, and the target has {}".format(tensorrt, target["tensorrt"]))
    return found


def within(version, wanted):
    """Whether a version such as "10.3.0.26" lies in a range such as ">=10.3,<10.4" (PEP 440)."""
    return all(_holds(version, *re.match(r"([<>=!~]=?)(.*)", part).groups()) for part in wanted.split(","))


def _holds(version, sign, other):
    if sign == "~=":
        return _holds(version, ">=", other) and _holds(version, "==", other.rpartition(".")[0] + ".*")
    if sign == "!=":
        return not _holds(version, "==", other)
    mine, wanted = ([int(part) for part in re.findall(r"\d+", text)] for text in (version, other))
    length = len(wanted) if other.endswith(".*") else max(len(mine), len(wanted))
    mine, wanted = ((numbers + [0] * length)[:length] for numbers in (mine, wanted))
    return _COMPARE[sign](mine, wanted)
