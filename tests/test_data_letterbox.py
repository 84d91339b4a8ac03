"""Letterbox: where the image lies in the frame, and that its boxes go with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from test_data_images import conv_model

from dsedge.data import Feeds, open_data
from dsedge.data.boxes import Letterbox
from dsedge.errors import LoadError
from dsedge.metrics import evaluate, find_metric
from dsedge.model import Model

RED, GREY = 1.0, 114 / 255


def dynamic() -> Model:
    source = conv_model()
    source.graph.graph.inputs[0].shape = type(source.graph.graph.inputs[0].shape)(["n", 3, "h", "w"])  # type: ignore
    return source.with_graph(source.graph)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A red image twice as wide as high, and a square one; their boxes as YOLO data sets hold them."""
    for name, size in (("wide", (40, 20)), ("square", (10, 10))):
        path = tmp_path / "set" / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", size, (255, 0, 0)).save(path)
    labels = tmp_path / "set" / "labels"
    labels.mkdir()
    (labels / "wide.txt").write_text("2 0.5 0.5 1.0 1.0\n\n0 0.25 0.25 0.5 0.5\n")
    return tmp_path / "set" / "images"


def first(folder: Path, model: Model, **options: bool) -> dict[str, np.ndarray]:
    batches = open_data(folder, model, recipe="yolo", **options).batches()
    return {name: batch.feeds["x"][0] for name, batch in zip(("square", "wide"), batches, strict=True)}


def test_the_whole_image_lies_in_the_middle_of_a_grey_frame(photos: Path) -> None:
    wide = first(photos, conv_model(size=16))["wide"]
    assert wide.shape == (3, 16, 16) and wide.dtype == np.float32
    assert (wide[0, 4:12] == RED).all() and (wide[1:, 4:12] == 0).all()
    np.testing.assert_allclose(wide[:, [0, 3, 12, 15]], GREY, rtol=1e-6)
    np.testing.assert_array_equal(first(photos, conv_model(size=16, nhwc=True))["wide"], wide.transpose(1, 2, 0))
    assert first(photos, dynamic())["wide"].shape == (3, 640, 640), "the recipe's size, where the model says nothing"


@pytest.mark.parametrize(
    ("image", "frame", "inner", "place"),
    [
        ((20, 40), (16, 16), (8, 16), (4, 0)),
        ((480, 640), (640, 640), (480, 640), (80, 0)),
        ((333, 500), (320, 416), (277, 416), (21, 0)),
        ((1, 9000), (64, 64), (1, 64), (31, 0)),
    ],
)
def test_sizes(image: tuple[int, int], frame: tuple[int, int], inner: tuple[int, int], place: tuple[int, int]) -> None:
    box = Letterbox.of(image, frame)
    assert (box.inner, (box.top, box.left)) == (inner, place)


def test_boxes_go_with_their_image(photos: Path) -> None:
    data = open_data(photos, conv_model(size=16), recipe="yolo", labelled=True)
    (batch,) = data.batches(8)
    assert batch.labels is not None and batch.labels.shape == (2, 2, 5)
    assert (batch.labels[0] == -1).all(), "no file, no objects"
    np.testing.assert_allclose(batch.labels[1], [[2, 0, 4, 16, 12], [0, 0, 4, 8, 8]])
    (photos / "square.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (batch,) = open_data(photos, conv_model(size=16), recipe="yolo", labelled=True).batches(8)
    assert batch.labels is not None
    np.testing.assert_allclose(batch.labels[0], [[1, 4, 4, 12, 12], [-1] * 5])


def test_a_detector_that_finds_all_boxes_of_a_folder_has_a_map_of_100(photos: Path) -> None:
    data = open_data(photos, conv_model(size=16), recipe="yolo", labelled=True)
    truth = [[], [(8, 8, 16, 8, 2), (4, 6, 8, 4, 0)]]  # centre, size and class, in pixels of the frame

    def predict(feeds: Feeds) -> list[np.ndarray]:
        found = np.zeros((len(feeds["x"]), 9, 8), np.float32)
        for image, objects in zip(found, truth, strict=True):
            for row, (*box, kind) in zip(image, objects, strict=False):
                row[:5], row[5 + kind] = (*box, 0.9), 0.9
        return [found]

    value, samples = evaluate(predict, data, find_metric("map"))
    assert value == pytest.approx(100) and samples == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1 0.5 0.5 0.5", "four fractions"),
        ("1 0.5 0.5 0.5 1.5", "four fractions"),
        ("1 0.5 0.5 0.5 nan", "four fractions"),
        ("-1 0.5 0.5 0.5 0.5", "a class"),
        ("inf 0.5 0.5 0.5 0.5", "a class"),
        ("1.5 0.5 0.5 0.5 0.5", "a class"),
        ("cat 0.5 0.5 0.5 0.5", "'cat'"),
        ("1 0.5 0.5 0.5 0.5\n" * 10_001, "more than 10000"),
    ],
)
def test_lines_that_are_no_objects(photos: Path, line: str, words: str) -> None:
    (photos / "wide.txt").write_text(line)
    with pytest.raises(LoadError, match=words) as caught:
        open_data(photos, conv_model(size=16), recipe="yolo", labelled=True)
    assert caught.value.code == "DS124" and "wide.txt" in str(caught.value)


def test_a_folder_without_boxes(photos: Path) -> None:
    (photos.parent / "labels" / "wide.txt").unlink()
    with pytest.raises(LoadError, match="no image has a file of boxes"):
        open_data(photos, conv_model(size=16), recipe="yolo", labelled=True)
