"""A folder of images as samples, by a recipe. Streams: one image is in memory at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dsedge.data.recipe import ImageRecipe
from dsedge.errors import BuildError, LoadError

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}

_LONGEST_SIDE = 1 << 16


def list_images(folder: Path) -> list[Path]:
    """The images below a folder in a fixed order: by the bytes of their path inside it. Hidden files are left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    return sorted((p for p in found if not p.name.startswith(".")), key=lambda p: p.relative_to(folder).as_posix())


def class_indices(folder: Path, images: list[Path]) -> list[int]:
    """The label of each image: the place of its subfolder among the sorted ones (torchvision's ImageFolder).

    Raises:
        LoadError: DS124 when an image lies in no subfolder.
    """
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    parts = [path.relative_to(folder).parts for path in images]
    if loose := [image for image, part in zip(images, parts, strict=True) if len(part) == 1]:
        hint = "put the images of each class into a subfolder of its own"
        raise LoadError("DS124", "the image has no label", where=str(loose[0]), hint=hint)
    return [classes.index(part[0]) for part in parts]


def digest(folder: Path, images: list[Path], recipe: ImageRecipe) -> str:
    """sha256, in hex, of the recipe and of the images' names and bytes."""
    total = hashlib.sha256(recipe.model_dump_json().encode())
    for path in images:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def read_images(images: list[Path], recipe: ImageRecipe, layout: str) -> Iterator[np.ndarray]:
    """Each image as float32 [C,H,W] or [H,W,C], as `layout` ("NCHW" or "NHWC") says.

    Raises:
        LoadError: DS121 for an image that cannot be decoded.
        BuildError: DS402 when Pillow is not installed.
    """
    try:
        import PIL.Image
    except ImportError as error:
        raise BuildError("DS402", "reading images needs Pillow", hint="pip install 'dsedge[images]'") from error
    for path in images:
        try:
            with PIL.Image.open(path) as image:
                pixels = _pixels(image, recipe)
        except (OSError, ValueError, SyntaxError, EOFError, PIL.Image.DecompressionBombError) as error:
            raise LoadError("DS121", "the image cannot be read", where=str(path), because=str(error)) from error
        scaled = pixels.astype(np.float32) * np.float32(recipe.scale)
        values = (scaled - np.asarray(recipe.mean, np.float32)) / np.asarray(recipe.std, np.float32)
        yield values.transpose(2, 0, 1) if layout == "NCHW" else values


def _pixels(image: Any, recipe: ImageRecipe) -> np.ndarray:
    """uint8 [H,W,C] of a PIL image, resized and cropped as torchvision's Resize and CenterCrop do."""
    import PIL.Image

    if image.mode[0] in "IF":
        raise ValueError(f"its pixels are {image.mode!r}, only 8 bits a channel are read")
    image = image.convert("L" if recipe.color == "gray" else "RGB")
    shorter = min(image.size)
    size = [int(recipe.resize * side / shorter) for side in image.size]
    if max(size) > _LONGEST_SIDE:
        raise ValueError(f"resized to {size[0]} x {size[1]} pixels it would be too large")
    image = image.resize(size, PIL.Image.Resampling[recipe.interpolation.upper()])
    height, width = recipe.crop
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    pixels = np.asarray(image.crop((left, top, left + width, top + height)))
    pixels = pixels[:, :, None] if recipe.color == "gray" else pixels
    return pixels[:, :, ::-1] if recipe.color == "bgr" else pixels
