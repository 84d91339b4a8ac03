from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx_ir as ir
import PIL.Image
import pytest
import torch
from onnx import TensorProto, helper

from dsedge.data import ImageRecipe, known_recipes, load_recipe, open_data
from dsedge.errors import LoadError
from dsedge.model import Model

RECIPE = """
title = "Test"
kind = "image"
resize = 8
crop = 6
interpolation = "nearest"
color = "rgb"
scale = 0.00392156862745098
mean = [0.5, 0.25, 0.0]
std = [0.5, 0.5, 0.25]
method = "minmax"
why = "a test"
"""


def conv_model(channels: int = 3, size: int = 6, *, nhwc: bool = False) -> Model:
    shape: list[int | str | None] = ["n", size, size, channels] if nhwc else ["n", channels, size, size]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    nodes = [helper.make_node("Conv", ["t" if nhwc else "x", "w"], ["y"])]
    if nhwc:
        nodes.insert(0, helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]))
    w = helper.make_tensor("w", TensorProto.FLOAT, [1, channels, 1, 1], np.zeros(channels))
    proto = helper.make_model(helper.make_graph(nodes, "g", [x], [y], [w]), opset_imports=[helper.make_opsetid("", 20)])
    return Model(ir.from_proto(proto), "m", "0" * 64, "test", 20)


def flat_model() -> Model:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    proto = helper.make_model(helper.make_graph([helper.make_node("Flatten", ["x"], ["y"])], "g", [x], [y]))
    return Model(ir.from_proto(proto), "m", "0" * 64, "test", 20)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "test.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes, three images of different sizes and modes; each one colour, so that resizing changes nothing."""
    folder = tmp_path / "photos"
    for name, mode, size, color in (
        ("dog/b.png", "RGB", (8, 8), (255, 0, 51)),
        ("dog/a.JPG", "L", (20, 16), 102),
        ("cat/c.png", "RGBA", (9, 32), (10, 20, 30, 0)),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new(mode, size, color).save(folder / name)
    (folder / "cat" / "._c.png").write_bytes(b"resource fork")
    (folder / "notes.txt").write_text("no image")
    return folder


def refused(
    folder: Path, model: Model, recipe: Path | str | None, code: str, *words: str, labelled: bool = False
) -> None:
    with pytest.raises(LoadError) as caught:
        list(open_data(folder, model, recipe=recipe, labelled=labelled).batches())
    assert caught.value.code == code, str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_images_become_inputs(photos: Path, recipe: Path) -> None:
    data = open_data(photos, conv_model(), recipe=recipe, labelled=True)
    (batch,) = data.batches(8)
    assert (data.samples, batch.count, batch.feeds["x"].shape) == (3, 3, (3, 3, 6, 6))
    assert batch.feeds["x"].dtype == np.float32
    assert batch.labels is not None and batch.labels.tolist() == [0, 1, 1], "cat/c, dog/a, dog/b"
    colors = np.array([[10, 20, 30], [102, 102, 102], [255, 0, 51]]) / 255
    expected = (colors - [0.5, 0.25, 0.0]) / [0.5, 0.5, 0.25]
    np.testing.assert_allclose(batch.feeds["x"][..., 3, 3], expected, atol=1e-6)
    nhwc = next(open_data(photos, conv_model(nhwc=True), recipe=recipe).batches(8)).feeds["x"]
    np.testing.assert_array_equal(nhwc.transpose(0, 3, 1, 2), batch.feeds["x"])
    bgr = recipe.with_name("bgr.toml")
    bgr.write_text(
        RECIPE.replace('"rgb"', '"bgr"')
        .replace("[0.5, 0.25, 0.0]", "[0, 0, 0]")
        .replace("[0.5, 0.5, 0.25]", "[1, 1, 1]")
    )
    swapped = next(open_data(photos, conv_model(), recipe=bgr).batches()).feeds["x"]
    np.testing.assert_allclose(swapped[0, :, 3, 3] * 255, [30, 20, 10], atol=1e-4)


def test_gray(photos: Path, recipe: Path) -> None:
    recipe.write_text(
        RECIPE.replace('"rgb"', '"gray"').replace("[0.5, 0.25, 0.0]", "[0]").replace("[0.5, 0.5, 0.25]", "[1]")
    )
    assert next(open_data(photos, conv_model(1), recipe=recipe).batches(8)).feeds["x"].shape == (3, 1, 6, 6)


@pytest.mark.parametrize("size", [(300, 400), (401, 299), (256, 256)])
def test_imagenet_is_the_usual_preprocessing(tmp_path: Path, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(tmp_path / "noise.png")
    (batch,) = open_data(tmp_path, conv_model(size=224), recipe="imagenet").batches()
    width, height = size
    scaled = (256, int(256 * height / width)) if width < height else (int(256 * width / height), 256)
    image = PIL.Image.open(tmp_path / "noise.png").resize(scaled, PIL.Image.Resampling.BILINEAR)
    top, left = round((scaled[1] - 224) / 2.0), round((scaled[0] - 224) / 2.0)
    tensor = torch.from_numpy(np.array(image)[top : top + 224, left : left + 224]).permute(2, 0, 1).float().div(255)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (tensor - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(batch.feeds["x"][0], expected.numpy(), atol=1e-5)


def test_the_digest_is_that_of_names_and_bytes(photos: Path, recipe: Path) -> None:
    def digest() -> str | None:
        return open_data(photos, conv_model(), recipe=recipe).sha256()

    before = digest()
    assert before == digest() and before and len(before) == len(hashlib.sha256().hexdigest())
    (photos / "dog" / "b.png").rename(photos / "dog" / "z.png")
    assert digest() != before


def test_what_a_folder_must_have(photos: Path, recipe: Path, tmp_path: Path) -> None:
    refused(photos, conv_model(), None, "DS127", "needs a recipe", "--recipe imagenet")
    refused(photos, conv_model(), "tabular", "DS127", "needs a recipe")
    refused(
        photos, flat_model(), recipe, "DS122", "layout of the input x: float32[n, 3, 6, 6] is not known", "not guessed"
    )
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", conv_model(), recipe, "DS123", "no samples")
    PIL.Image.new("RGB", (8, 8)).save(photos / "loose.png")
    refused(photos, conv_model(), recipe, "DS124", "loose.png", "subfolder", labelled=True)


def test_images_that_cannot_be_read(photos: Path, recipe: Path) -> None:
    whole = (photos / "dog" / "b.png").read_bytes()
    for content in (b"", b"no image", whole[:-30]):
        (photos / "dog" / "b.png").write_bytes(content)
        refused(photos, conv_model(), recipe, "DS121", "b.png", "image cannot be read")
    PIL.Image.new("I;16", (8, 8)).save(photos / "dog" / "b.png")
    refused(photos, conv_model(), recipe, "DS121", "b.png", "8 bits")
    PIL.Image.new("L", (1, 60000)).save(photos / "dog" / "b.png")
    refused(photos, conv_model(), recipe, "DS121", "b.png", "too large")


def test_recipes() -> None:
    assert known_recipes() == ["imagenet", "speech", "tabular", "tokens", "yolo"]
    imagenet = load_recipe("imagenet")
    assert isinstance(imagenet, ImageRecipe) and imagenet.crop == (224, 224)
    assert load_recipe("tabular").kind == "table"
    for name in known_recipes():
        assert load_recipe(name).why
    with pytest.raises(LoadError, match="did you mean 'imagenet'") as caught:
        load_recipe("image-net")
    assert caught.value.code == "DS127"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("crop = 6", "crop = 9", ["crop", "larger than what resize leaves (8)"]),
        ("crop = 6", "crop = [6, 4, 2]", ["crop"]),
        ("resize = 8", "resize = 100000000", ["resize"]),
        ("[0.5, 0.25, 0.0]", "[0.5]", ["mean", "has 1 values, rgb has 3 channels"]),
        ("[0.5, 0.5, 0.25]", "[0.5, 0.5, 0.0]", ["std.2", "greater than 0"]),
        ('kind = "image"', 'kind = "video"', ["kind"]),
        ('"minmax"', '"best"', ["method"]),
        ("scale =", "scales =", ["scale", "did you mean 'scale'"]),
        ("why =", "why ", ["not valid TOML"]),
    ],
)
def test_invalid_recipes(recipe: Path, old: str, new: str, words: list[str]) -> None:
    assert old in RECIPE
    recipe.write_text(RECIPE.replace(old, new))
    with pytest.raises(LoadError) as caught:
        load_recipe(recipe)
    assert caught.value.code == "DS127"
    assert all(word in str(caught.value) for word in ["test.toml", *words]), str(caught.value)


def test_the_size_that_the_model_fixes_goes_before_the_recipes(photos: Path, recipe: Path) -> None:
    for size in (5, 9):
        batch = next(iter(open_data(photos, conv_model(size=size), recipe=recipe).batches()))
        assert batch.feeds["x"].shape == (1, 3, size, size)
