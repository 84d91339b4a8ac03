"""Conditions on programs that say what nvpmodel and nvidia-smi say, and on a machine that has neither."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.backends.tensorrt.device.bundles import device, python, stand_in

SCRIPT = "import json, trt_conditions; print(json.dumps(trt_conditions.conditions()))"
SMI = "echo '1410 MHz, 1410 MHz, 1215 MHz, 41, 400.00 W, Enabled, P0, 535.104.05'"


@pytest.mark.parametrize(
    ("nvpmodel", "mode", "why"),
    [
        ("echo 'NV Power Mode: MAXN_SUPER'; echo 2", "MAXN_SUPER", None),
        ("echo 'no permission' >&2; exit 3", None, "nvpmodel ended with 3: no permission"),
        ("echo 2", None, "nvpmodel -q names no power mode"),
    ],
)
def test_a_power_mode_is_what_nvpmodel_says_or_the_reason(
    tmp_path: Path, nvpmodel: str, mode: str | None, why: str | None
) -> None:
    stand_in(tmp_path, "nvpmodel", f'[ "$*" = -q ] || exit 9\n{nvpmodel}')
    stand_in(tmp_path, "nvidia-smi", SMI)
    found = json.loads(python(SCRIPT, device(tmp_path)).stdout)
    assert found["power_mode"] == mode and found["missing"].get("power_mode") == why
    assert found["nvidia_smi"]["clocks.sm"] == "1410 MHz" and found["nvidia_smi"]["temperature.gpu"] == "41"


def test_what_is_not_there_has_a_reason(tmp_path: Path) -> None:
    environment = {**device(tmp_path), "PATH": str(tmp_path)}
    found = json.loads(python(SCRIPT, environment).stdout)
    assert found["power_mode"] is None and found["nvidia_smi"] is None
    assert {name for name, value in found.items() if value is None} == set(found["missing"])
