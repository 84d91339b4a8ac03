"""A folder of images as samples, by a recipe. Streams: one image is in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsedge.data.batches import Source
from dsedge.data.boxes import Letterbox, read_boxes
from dsedge.data.files import class_indices, digest, list_files
from dsedge.data.recipe import ImageRecipe, LetterboxRecipe
from dsedge.errors import BuildError, LoadError
from dsedge.model import TensorSpec

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}

_LONGEST_SIDE = 1 << 16


def image_folder(
    folder: Path, inputs: Sequence[TensorSpec], recipe: ImageRecipe | LetterboxRecipe, labelled: bool
) -> Source:
    """The images of a folder; labels are subfolders, one a class, and for a letterbox recipe boxes (`data.boxes`).

    Raises:
        LoadError: DS121 for an image that cannot be decoded, DS122 for a model that takes no image, DS124 labels.
        BuildError: DS402 when Pillow is not installed.
    """
    where = str(folder)
    if len(inputs) != 1:
        raise LoadError("DS122", f"images are for a model with one input, this one has {len(inputs)}", where=where)
    spec = inputs[0]
    if spec.layout not in ("NCHW", "NHWC"):
        because = "no operator of the model says which of its axes are channels, and it is not guessed from the shape"
        hint = "give the samples as an .npz file, in the model's own layout"
        what = f"the layout of the input {spec} is {'not known' if spec.layout is None else 'not one of images'}"
        raise LoadError("DS122", what, where=where, because=because, hint=hint)
    layout, images = spec.layout, list_files(folder, _SUFFIXES)
    labels: Sequence[Any] = [None] * len(images)
    if isinstance(recipe, LetterboxRecipe):
        size = _frame(spec, layout, recipe.size)
        fitted = _letterboxed(recipe, size)
        if labelled:
            labels = read_boxes(images, size, _sizes(images))
    else:
        fitted = _cropped(_sized(spec, layout, recipe))
        if labelled:
            labels = class_indices(folder, images)

    def read() -> Iterator[tuple[dict[str, np.ndarray], Any]]:
        for path, label in zip(images, labels, strict=True):
            array = _open(path, fitted)
            yield {spec.name: array.transpose(2, 0, 1) if layout == "NCHW" else array}, label

    return Source(where, read, len(images), lambda: digest(folder, images, recipe))


def _frame(spec: TensorSpec, layout: str, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width that the model fixes, else the recipe's."""
    fixed = [(spec.shape or ())[layout.index(axis)] for axis in "HW"]
    height, width = (have if isinstance(have, int) else want for have, want in zip(fixed, size, strict=True))
    return height, width


def _sized(spec: TensorSpec, layout: str, recipe: ImageRecipe) -> ImageRecipe:
    """The recipe with the crop that the model fixes, and a resize in proportion to it."""
    crop = _frame(spec, layout, recipe.crop)
    resize = max(round(recipe.resize * max(crop) / max(recipe.crop)), *crop)
    return recipe.model_copy(update={"crop": crop, "resize": resize if crop != recipe.crop else recipe.resize})


def _open(path: Path, use: Callable[[Any], Any]) -> Any:
    try:
        import PIL.Image
    except ImportError as error:
        raise BuildError("DS402", "reading images needs Pillow", hint="pip install 'dsedge[images]'") from error
    try:
        with PIL.Image.open(path) as image:
            return use(image)
    except (OSError, ValueError, SyntaxError, EOFError, PIL.Image.DecompressionBombError) as error:
        raise LoadError("DS121", "the image cannot be read", where=str(path), because=str(error)) from error


def _sizes(images: list[Path]) -> list[tuple[int, int]]:
    """Height and width of each image, from its header."""
    return [_open(path, lambda image: (image.height, image.width)) for path in images]


def _cropped(recipe: ImageRecipe) -> Callable[[Any], np.ndarray]:
    """From a PIL image to float32 [H,W,C], resized and cropped as torchvision's Resize and CenterCrop do."""

    def fitted(image: Any) -> np.ndarray:
        shorter = min(image.size)
        size = (int(recipe.resize * image.height / shorter), int(recipe.resize * image.width / shorter))
        image = _resized(image, size, recipe)
        height, width = recipe.crop
        left, top = round((size[1] - width) / 2), round((size[0] - height) / 2)
        scaled = _channels(image.crop((left, top, left + width, top + height)), recipe)
        return (scaled - np.asarray(recipe.mean, np.float32)) / np.asarray(recipe.std, np.float32)

    return fitted


def _letterboxed(recipe: LetterboxRecipe, size: tuple[int, int]) -> Callable[[Any], np.ndarray]:
    """From a PIL image to float32 [H,W,C]: the whole image in the middle of a frame."""

    def fitted(image: Any) -> np.ndarray:
        box = Letterbox.of((image.height, image.width), size)
        inner = _channels(_resized(image, box.inner, recipe), recipe)
        frame = np.full((*size, inner.shape[2]), np.float32(recipe.fill) * np.float32(recipe.scale), np.float32)
        frame[box.top : box.top + box.inner[0], box.left : box.left + box.inner[1]] = inner
        return frame

    return fitted


def _resized(image: Any, size: tuple[int, int], recipe: ImageRecipe | LetterboxRecipe) -> Any:
    import PIL.Image

    if image.mode[0] in "IF":
        raise ValueError(f"its pixels are {image.mode!r}, only 8 bits a channel are read")
    if max(size) > _LONGEST_SIDE:
        raise ValueError(f"resized to {size[1]} x {size[0]} pixels it would be too large")
    image = image.convert("L" if recipe.color == "gray" else "RGB")
    return image.resize((size[1], size[0]), PIL.Image.Resampling[recipe.interpolation.upper()])


def _channels(image: Any, recipe: ImageRecipe | LetterboxRecipe) -> np.ndarray:
    """float32 [H,W,C] in the order of the recipe, scaled."""
    pixels = np.asarray(image)
    pixels = pixels[:, :, None] if recipe.color == "gray" else pixels
    pixels = pixels[:, :, ::-1] if recipe.color == "bgr" else pixels
    return pixels.astype(np.float32) * np.float32(recipe.scale)
