"""The conditions of a latency: power mode, clocks, temperatures. What cannot be read is None, with the reason."""

import pathlib
import subprocess

_QUERY = (
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "temperature.gpu",
    "power.limit",
    "persistence_mode",
    "pstate",
    "driver_version",
)


def conditions():
    """The conditions now; `missing` holds the reason for each one that is None."""
    found, missing = {}, {}
    for name, read in (
        ("power_mode", _power_mode),
        ("gpu_clock_mhz", _gpu_clock),
        ("temperatures_c", _temperatures),
        ("nvidia_smi", _nvidia_smi),
        ("driver", _driver),
        ("clocks_locked", _clocks_locked),
    ):
        try:
            found[name] = read()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            found[name], missing[name] = None, f"{error}"
    return dict(found, missing=missing)


def _said(*command):
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20
    )
    text = ended.stdout.decode("utf-8", "replace").strip()
    if ended.returncode:
        raise ValueError(f"{command[0]} ended with {ended.returncode}: {text[:200]}")
    return text


def _power_mode():
    """As `nvpmodel -q` says it, on a Jetson: "MAXN"."""
    lines = [line for line in _said("nvpmodel", "-q").splitlines() if "NV Power Mode:" in line]
    if not lines:
        raise ValueError("nvpmodel -q names no power mode")
    return lines[0].split("NV Power Mode:")[1].strip()


def _gpu_clock():
    """Of a Jetson's GPU; `locked` when least and greatest are the same, as after jetson_clocks."""
    chips = ("gpu", "gv11b", "ga10b", "gp10b")
    folders = [p for p in pathlib.Path("/sys/class/devfreq").glob("*") if any(chip in p.name for chip in chips)]
    if not folders:
        raise ValueError("no GPU in /sys/class/devfreq: this is no Jetson")
    read = {key: int((folders[0] / (key + "_freq")).read_text()) // 10**6 for key in ("cur", "min", "max")}
    return dict(read, locked=read["min"] == read["max"])


def _clocks_locked():
    """Of a Jetson; nvidia-smi does not tell: compare the clocks before and after."""
    try:
        return _gpu_clock()["locked"]
    except (OSError, ValueError):
        raise ValueError("no tool tells whether a GPU's clocks are locked but on a Jetson: compare them") from None


def _temperatures():
    found = {}
    for zone in sorted(pathlib.Path("/sys/class/thermal").glob("thermal_zone*")):
        try:
            kind = (zone / "type").read_text().strip()
            found[kind] = int((zone / "temp").read_text()) / 1000
        except (OSError, ValueError):  # a zone that is switched off
            continue
    if not found:
        raise ValueError("no readable zone in /sys/class/thermal")
    return found


def _nvidia_smi():
    values = _said("nvidia-smi", "-i", "0", "--query-gpu=" + ",".join(_QUERY), "--format=csv,noheader").split(",")
    if len(values) != len(_QUERY):
        raise ValueError(f"nvidia-smi answers {len(values)} fields instead of {len(_QUERY)}")
    return dict(zip(_QUERY, (value.strip() for value in values)))


def _driver():
    """The release of Jetson Linux, or the driver's own line."""
    for path in ("/etc/nv_tegra_release", "/proc/driver/nvidia/version"):
        if pathlib.Path(path).is_file():
            return pathlib.Path(path).read_text().splitlines()[0].strip()
    raise ValueError("neither /etc/nv_tegra_release nor /proc/driver/nvidia/version is there")
