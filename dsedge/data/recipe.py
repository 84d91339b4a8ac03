"""A recipe: how raw samples of one domain become input tensors, and which range method suits them. Data, no code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator

from dsedge.errors import LoadError, did_you_mean
from dsedge.resources import data_folder, invalid, is_path, read_toml

Pixels = Annotated[int, Field(gt=0, le=1 << 14)]
Points = Annotated[int, Field(gt=0, le=1 << 15)]
Real = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Column = str | Annotated[int, Field(ge=0)]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


class _Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    method: Literal["minmax", "percentile", "entropy", "mse"]
    why: str


class ArrayRecipe(_Recipe):
    """Samples are input tensors already; only the range method is said."""

    kind: Literal["array"]


def _square(side: object) -> object:
    return (side, side) if isinstance(side, int) else side


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
    interpolation: Interpolation = "bilinear"
    color: Literal["rgb", "bgr", "gray"]
    scale: Positive
    mean: tuple[Real, ...]
    std: tuple[Positive, ...]

    _square = field_validator("crop", mode="before")(_square)

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


class LetterboxRecipe(_Recipe):
    """Images become float32 tensors: resized whole into a frame, the rest filled, pixel * scale.

    Attributes:
        size: height and width of the frame where the model's input leaves them open; one number is a square.
        fill: value of the pixels around the image, 0 to 255.
        interpolation: how the resize samples pixels.
        color: channels and their order.
        scale: factor for pixel values, which are 0 to 255.
    """

    kind: Literal["letterbox"]
    size: tuple[Pixels, Pixels]
    fill: int = Field(ge=0, le=255)
    interpolation: Interpolation = "bilinear"
    color: Literal["rgb", "bgr", "gray"]
    scale: Positive

    _square = field_validator("size", mode="before")(_square)


class SpeechRecipe(_Recipe):
    """Sound becomes float32 log-mel features; `dsedge.data.mel` has the formula.

    Attributes:
        layout: what the axes of the model's input mean: N batch, T frames, F mel bands, 1 an axis of length one.
        sample_rate: in Hz; sound of another rate is resampled.
        n_fft: points of the Fourier transform.
        window: length of the Hann window in samples, at most `n_fft`.
        hop: samples from one frame to the next.
        center: whether frame i is centred on sample i * hop (with zeros around the sound) or begins there.
        power: 1 for magnitudes, 2 for power.
        n_mels: mel bands.
        fmin, fmax: in Hz, lower end of the first band and upper end of the last one.
        mel: the mel scale, HTK's or that of Slaney's Auditory Toolbox.
        norm: "none" leaves triangles of height one, "slaney" gives them equal areas.
        log: "ln" or "log10".
        floor: smallest value that goes into the logarithm.
        frames: length of the T axis where the model leaves it open; without it every sound keeps its own length.
        mean, std: (feature - mean) / std after the logarithm.
    """

    kind: Literal["speech"]
    layout: Literal["NTF", "NFT", "N1TF", "N1FT"]
    sample_rate: int = Field(ge=1000, le=384_000)
    n_fft: Points
    window: Points
    hop: Points
    center: bool = True
    power: Literal[1, 2] = 2
    n_mels: int = Field(gt=0, le=512)
    fmin: float = Field(ge=0, allow_inf_nan=False)
    fmax: Positive
    mel: Literal["htk", "slaney"]
    norm: Literal["none", "slaney"] = "none"
    log: Literal["ln", "log10"] = "ln"
    floor: Positive
    frames: Points | None = None
    mean: Real = 0.0
    std: Positive = 1.0

    @field_validator("window")
    @classmethod
    def _inside(cls, window: int, info: ValidationInfo) -> int:
        if window > info.data.get("n_fft", window):
            raise ValueError(f"longer than n_fft ({info.data['n_fft']})")
        return window

    @field_validator("fmax")
    @classmethod
    def _band(cls, fmax: float, info: ValidationInfo) -> float:
        if fmax > info.data.get("sample_rate", 2 * fmax) / 2:
            raise ValueError("above half of the sample rate")
        if fmax <= info.data.get("fmin", 0):
            raise ValueError("not above fmin")
        return fmax


class TokenRecipe(_Recipe):
    """Sequences of token ids, which the model's own tokenizer made, become integer tensors [T].

    Attributes:
        ids: input that takes the ids.
        mask: input that takes 1 for each token and 0 for padding.
        types: input that takes the segment of each token, 0 if the data does not say.
        pad: id that fills a sequence up where the model fixes the length.
        length: tokens that are kept at most where the model leaves the length open.
    """

    kind: Literal["tokens"]
    ids: str = "input_ids"
    mask: str = "attention_mask"
    types: str = "token_type_ids"
    pad: int = Field(ge=0, lt=1 << 31)
    length: int = Field(gt=0, le=1 << 16)


class TableRecipe(_Recipe):
    """Rows of a table become float32 tensors: [F] one row a sample, or [T, F] windows of T rows.

    Attributes:
        columns: those that are features, by name or by place from 0; all but the label without it.
        label: column of the label; a window has the label of its last row.
        window: rows of a window where the model leaves the length open.
        stride: rows from the start of one window to the next; without it windows do not overlap.
    """

    kind: Literal["table"]
    columns: tuple[Column, ...] | None = Field(default=None, min_length=1)
    label: Column | None = None
    window: int | None = Field(default=None, gt=0, le=1 << 16)
    stride: int | None = Field(default=None, gt=0)


Recipe = ImageRecipe | LetterboxRecipe | SpeechRecipe | TokenRecipe | TableRecipe | ArrayRecipe
_ADAPTER: TypeAdapter[Recipe] = TypeAdapter(Annotated[Recipe, Field(discriminator="kind")])
_FIELDS = {str(get_args(kind.model_fields["kind"].annotation)[0]): set(kind.model_fields) for kind in get_args(Recipe)}


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
        fields = _FIELDS.get(str(content.get("kind")), set())
        raise invalid(error, path, "DS127", fields) from error
