"""What a device reported is taken into the manifest and the report of its bundle, once and whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from flow import samples
from graphs import residual

import dsedge
from dsedge.backends.base import DeviceRun
from dsedge.bundle import Bundle, Latency
from dsedge.errors import BundleError
from dsedge.reported import take_in


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    data = [batch.feeds for batch in samples(residual(), 4)]
    return dsedge.compile(residual(), target="jetson", calibration=data, output=tmp_path / "out")


def row(precision: str, ms: float) -> Latency:
    return Latency(
        runtime="tensorrt",
        precision=precision,
        median_ms=ms,
        p90_ms=ms,
        iqr_ms=None,
        runs=9,
        threads=1,
        where="Orin",
        conditions={},
    )


RUN = DeviceRun("measured", ("it ran",), "10.3.0", (row("int8", 2.0), row("float16", 3.0), row("float32", 8.0)))


@pytest.mark.parametrize(("ms", "passed"), [(3.0, True), (1.0, False)])
def test_a_report_becomes_part_of_the_manifest(ms: float, passed: bool, bundle: Bundle) -> None:
    before = bundle.manifest
    take_in(bundle, replace(RUN, latency=(RUN.latency[0], row("float16", ms))))
    found = Bundle(bundle.path)
    found.check_files()
    assert (found.manifest.status, found.manifest.runtime.version) == ("measured", "10.3.0")
    assert [each.precision for each in found.manifest.latency] == ["int8", "float16"]
    gates = {gate.name: gate for gate in found.manifest.gates}
    assert gates["latency_vs_float"].value == pytest.approx(2.0 / ms)
    assert gates["latency_vs_float"].passed is passed
    assert gates["size"] == next(gate for gate in before.gates if gate.name == "size")
    assert "measured" in (bundle.path / "report.html").read_text(encoding="utf-8")
    assert not [path for path in bundle.path.iterdir() if path.name.startswith(".")]


def test_the_same_report_changes_nothing(bundle: Bundle) -> None:
    take_in(bundle, RUN)
    told = Bundle(bundle.path)
    written = (bundle.path / "manifest.json").stat()
    take_in(told, RUN)
    assert (bundle.path / "manifest.json").stat().st_ino == written.st_ino


def test_times_of_another_device_judge_nothing(bundle: Bundle) -> None:
    take_in(bundle, replace(RUN, status="verified"))
    found = Bundle(bundle.path).manifest
    assert (found.status, found.latency, found.gates) == ("verified", bundle.manifest.latency, bundle.manifest.gates)


def test_a_bundle_that_cannot_be_written_stays_as_it_is(bundle: Bundle) -> None:
    before = (bundle.path / "manifest.json").read_bytes()
    (bundle.path / "report.html").unlink()
    (bundle.path / "report.html" / "in the way").mkdir(parents=True)
    with pytest.raises(BundleError) as caught:
        take_in(bundle, RUN)
    assert caught.value.code == "DS802"
    assert (bundle.path / "manifest.json").read_bytes() == before
