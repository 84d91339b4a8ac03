"""What the runtimes of one board share."""

from __future__ import annotations

from pathlib import Path

import pytest
from flow import samples
from graphs import inverted_residual

import dsedge
from dsedge.bundle import Bundle, PassInfo
from dsedge.target import Target, load_target

pytest.importorskip("openvino")


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """All runtimes of the board are compiled, whatever this machine is."""
    monkeypatch.setattr(Target, "matches_host", lambda self: (True, "a test"))


def compiled(runtimes: tuple[str, ...], folder: Path) -> Bundle:
    board = load_target("pos-x86")
    listed = tuple(runtime for runtime in board.runtimes if runtime.name in runtimes)
    data = [batch.feeds for batch in samples(inverted_residual(), 24)]
    board = board.model_copy(update={"runtimes": listed})
    return dsedge.compile(inverted_residual(), target=board, calibration=data, output=folder)


def steps(bundle: Bundle) -> dict[str, PassInfo]:
    return {record.name: record for record in bundle.manifest.passes}


@pytest.mark.usefixtures("everywhere")
def test_what_one_runtime_observed_serves_the_next(tmp_path: Path) -> None:
    both = compiled(("openvino", "onnxruntime"), tmp_path / "both")
    assert not any("another artifact" in note for note in steps(both)["openvino: calibrate"].notes)
    [note] = steps(both)["onnxruntime: calibrate"].notes
    assert note.endswith("values were observed before, for another artifact") and int(note.split()[0]) > 2
    assert both.manifest.calibration is None or both.manifest.calibration.samples == 24
    # The ranges are those of all samples, as when the runtime is compiled for alone.
    alone = compiled(("onnxruntime",), tmp_path / "alone")
    [mine] = [row for row in alone.manifest.candidates if row.precision == "int8"]
    [its] = [row for row in both.manifest.candidates if row.runtime == mine.runtime and row.precision == "int8"]
    assert mine.sqnr_db is not None and its.sqnr_db == pytest.approx(mine.sqnr_db, abs=0.5)
