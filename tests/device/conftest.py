from __future__ import annotations

import sys
from pathlib import Path

# The scripts find each other because Python puts their folder on the path; so do the tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
