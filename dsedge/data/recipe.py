"""A recipe: how raw samples of one domain become input tensors, and which range method suits them. Data, no code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator

from dsedge.errors import LoadError, did_you_mean
from dsedge.resources import data_folder, invalid, is_path, read_toml

Pixels = Annotated[int, Field(gt=0, le=1 << 14)]


class _Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    method: Literal["minmax", "percentile", "entropy", "mse"]
    why: str


class ArrayRecipe(_Recipe):
    """Samples are input tensors already; only the range method is said."""

    kind: Literal["array"]


class ImageRecipe(_Recipe):
    """Images become float32 tensors: resize, crop, (pixel * scale - mean) / std.

    Attributes:
        resize: the shorter side is brought to this length, the longer one in proportion.
        crop: height and width of the part in the middle that is kept; one number is a square.
        interpolation: how the resize samples pixels.
        color: channels and their order.
        scale: factor for pixel values, which are 0 to 255.
        mean: subtracted from each channel after `scale`, in the order of `color`.
        std: each channel is divided by it, in the order of `color`.
    """

    kind: Literal["image"]
    resize: Pixels
    crop: tuple[Pixels, Pixels]
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    color: Literal["rgb", "bgr", "gray"]
    scale: float = Field(gt=0, allow_inf_nan=False)
    mean: tuple[Annotated[float, Field(allow_inf_nan=False)], ...]
    std: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]

    @field_validator("crop", mode="before")
    @classmethod
    def _square(cls, crop: object) -> object:
        return (crop, crop) if isinstance(crop, int) else crop

    @field_validator("crop")
    @classmethod
    def _fits(cls, crop: tuple[int, int], info: ValidationInfo) -> tuple[int, int]:
        if max(crop) > info.data.get("resize", max(crop)):
            raise ValueError(f"larger than what resize leaves ({info.data['resize']})")
        return crop

    @field_validator("mean", "std")
    @classmethod
    def _one_per_channel(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        color = info.data.get("color")
        if color and len(values) != (expected := 1 if color == "gray" else 3):
            raise ValueError(f"has {len(values)} values, {color} has {expected} channels")
        return values


Recipe = ImageRecipe | ArrayRecipe
_ADAPTER: TypeAdapter[Recipe] = TypeAdapter(Annotated[Recipe, Field(discriminator="kind")])


def known_recipes() -> list[str]:
    """The recipes that travel with dsedge, sorted."""
    return sorted(path.stem for path in data_folder("calibration").glob("*.toml"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Reads a recipe: one that travels with dsedge by its name, or a TOML file.

    Raises:
        LoadError: DS127, unknown or invalid, with every problem of the file.
    """
    if is_path(name_or_path):
        path = Path(name_or_path)
    elif name_or_path in (known := known_recipes()):
        path = data_folder("calibration") / f"{name_or_path}.toml"
    else:
        name = str(name_or_path)
        raise LoadError("DS127", f"no recipe is called {name!r}", hint=did_you_mean(name, known))
    content = read_toml(path, "DS127")
    try:
        return _ADAPTER.validate_python({"name": path.stem, **content})
    except ValidationError as error:
        raise invalid(error, path, "DS127", set(ImageRecipe.model_fields)) from error
