"""Calibration and evaluation data that does not fit, is damaged, or is a trap."""

from __future__ import annotations

import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attacks.hostile import BOARD, CALIBRATION, EVALUATION, MODEL, Ended, refused, run_apart

Attempt = Callable[..., Ended]
IMAGES: np.ndarray = np.load(CALIBRATION)["image"][:24]
LABELS: np.ndarray = np.load(EVALUATION)["labels"][:24]


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path("/nonexistent/pwned").touch, ())


def spoiled(index: int, value: float) -> np.ndarray:
    images = IMAGES.copy()
    images[index, 0, 3, 3] = value
    return images


CALIBRATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "other names": ("DS122", "inputs are image; found: a, b", {"a": IMAGES, "b": IMAGES}),
    "no arrays": ("DS122", "found: nothing", {}),
    "another shape": ("DS122", "[1, 7, 8]", {"image": IMAGES[:, :, :7]}),
    "another rank": ("DS122", "[8]", {"image": IMAGES[:, 0, 0]}),
    "0-d": ("DS122", "0-d", {"image": np.float32(1)}),
    "integers": ("DS122", "uint8", {"image": (IMAGES * 255).astype(np.uint8)}),
    "complex numbers": ("DS122", "complex64", {"image": IMAGES.astype(np.complex64)}),
    "text": ("DS122", "<U", {"image": np.array(["a", "b"])}),
    "no samples": ("DS123", "no samples", {"image": IMAGES[:0]}),
    "an empty axis": ("DS122", "", {"image": IMAGES[:, :, :, :0]}),
    "NaN in a late sample": ("DS128", "sample 20", {"image": spoiled(20, np.nan)}),
    "Inf": ("DS128", "sample 3", {"image": spoiled(3, np.inf)}),
    "what float32 cannot hold": ("DS128", "sample 0", {"image": IMAGES.astype(np.float64) + 1e300}),
    "objects": ("DS121", "objects", {"image": np.array([Evil()], dtype=object)}),
    "what the model overflows on": ("DS128", "", {"image": np.full_like(IMAGES, 3e38)}),
}


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_calibration(attempt: Attempt, tmp_path: Path, name: str) -> None:
    code, words, arrays = CALIBRATIONS[name]
    np.savez(tmp_path / "c.npz", **arrays)
    refused(attempt(calib=tmp_path / "c.npz"), code, words)


EVALUATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "too few labels": ("DS124", "23 labels for 24 samples", {"labels": LABELS[:-1]}),
    "too many labels": ("DS124", "24 labels for 23 samples", {"image": IMAGES[:-1], "labels": LABELS}),
    "no labels": ("DS124", "no labels", {}),
    "one label": ("DS124", "1 labels", {"labels": np.array(3)}),
    "empty labels": ("DS124", "0 labels", {"labels": LABELS[:0]}),
    "two labels a sample": ("DS124", "", {"labels": np.stack([LABELS, LABELS], axis=1)}),
    "fractions": ("DS124", "float64", {"labels": LABELS + 0.5}),
    "text": ("DS124", "<U", {"labels": LABELS.astype(str)}),
    "truth values": ("DS124", "bool", {"labels": LABELS > 4}),
    "classes that there are not": ("DS124", "10 classes", {"labels": LABELS + 100}),
    "negative classes": ("DS124", "10 classes", {"labels": LABELS - 10}),
    "NaN": ("DS128", "label", {"labels": np.full(24, np.nan)}),
    "objects": ("DS121", "objects", {"labels": LABELS.astype(object)}),
    "NaN images": ("DS128", "sample 5", {"image": spoiled(5, np.nan), "labels": LABELS}),
}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluation(attempt: Attempt, tmp_path: Path, name: str) -> None:
    code, words, arrays = EVALUATIONS[name]
    np.savez(tmp_path / "e.npz", **({"image": IMAGES} | arrays))
    refused(attempt("--eval", tmp_path / "e.npz"), code, words)


@pytest.mark.parametrize("metric", ["auc", "mae"])
def test_a_metric_that_does_not_fit_the_output(attempt: Attempt, metric: str) -> None:
    refused(attempt("--eval", EVALUATION, "--metric", metric), "DS124", metric)


def test_files_that_are_no_data(attempt: Attempt, tmp_path: Path) -> None:
    content = CALIBRATION.read_bytes()
    for name, data in {
        "cut.npz": content[:-500],
        "empty.npz": b"",
        "zip.npz": b"PK\x03\x04",
        "a.npy": b"\x93NUMPY",
    }.items():
        (tmp_path / name).write_bytes(data)
        refused(attempt(calib=tmp_path / name), "DS121", name)
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 255  # the checksum of the archive finds it
    (tmp_path / "damaged.npz").write_bytes(damaged)
    refused(attempt(calib=tmp_path / "damaged.npz"), "DS121")
    refused(attempt(calib=tmp_path / "missing.npz"), "DS121", "no such file")
    (tmp_path / "a.csv").touch()
    refused(attempt(calib=tmp_path / "a.csv"), "DS127", ".csv", "--recipe tabular")
    (tmp_path / "a.parquet").touch()
    refused(attempt(calib=tmp_path / "a.parquet"), "DS103", ".parquet")
    (tmp_path / "a.pkl").touch()
    refused(attempt(calib=tmp_path / "a.pkl"), "DS103", "pickles are refused")
    refused(attempt(calib=tmp_path), "DS121", "cut.npz")
    (tmp_path / "folder").mkdir()
    refused(attempt(calib=tmp_path / "folder"), "DS127", "--recipe imagenet")
    refused(attempt("--eval", "random"), "DS124", "random")


def header(count: int) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, 1, 8, 8), }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))


@pytest.mark.parametrize("declared", [2**31, 2**40, 2**62])
def test_a_header_that_lies(attempt: Attempt, tmp_path: Path, declared: int) -> None:
    with zipfile.ZipFile(tmp_path / "c.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", header(declared) + bytes(256))
    refused(attempt(calib=tmp_path / "c.npz"), "DS121", "declares")


def test_an_archive_that_unpacks_to_more_than_the_memory(tmp_path: Path) -> None:
    """It declares its 1.5 GiB truly, and they are packed into 7 MB; the process may have as much."""
    size, block = 3 << 29, bytes(1 << 24)
    with (
        zipfile.ZipFile(tmp_path / "c.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("image.npy", "w", force_zip64=True) as file,
    ):
        file.write(header(size // 256))
        for _ in range(size // len(block)):
            file.write(block)
    out = tmp_path / "out"
    ended = run_apart(
        "compile", MODEL, "-t", BOARD, "--calib", tmp_path / "c.npz", "-o", out / "b", before=limit_memory
    )
    refused(ended, "DS121", "c.npz")
    assert not out.exists()
