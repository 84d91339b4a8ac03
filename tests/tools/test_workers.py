from __future__ import annotations

from pathlib import Path

import numpy as np
from workers import run_worker

WORKER = """
import json, os, sys
sys.path.insert(0, {tools!r})
from workers import peak_rss_mb
open("litter", "w").close()
print("anything")
print(json.dumps(dict(peak=peak_rss_mb(), folder=os.getcwd(), job=sys.argv[1:])))
"""


def test_a_worker_is_charged_with_its_own_memory_only_and_leaves_nothing(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(tools=str(Path(__file__).resolve().parents[2] / "tools")))
    large = np.ones(40_000_000)  # 320 MB in this process
    result = run_worker(script, {"a": 1})
    assert large[-1] == 1
    assert 2 < result["peak"] < 100
    assert result["job"] == ["--job", '{"a": 1}']
    assert not Path(result["folder"]).exists()
    assert result["process_seconds"] > 0


def test_a_failing_worker_is_an_error_in_one_line(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text("raise ImportError('No module named nncf')")
    assert run_worker(script, {}) == {"error": "ImportError: No module named nncf"}
