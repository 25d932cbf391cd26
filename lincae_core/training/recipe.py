"""The training recipe: the schema of the YAML file, where recipes lie, and settings of the command line in them."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from lincae_core.models.frame import FrameConfig
from lincae_core.models.frame64 import Frame64Config
from lincae_core.models.unet import UnetConfig
from lincae_core.yaml_schema import ConflictError, Document, made_of, read
from lincae_formats.errors import LincaeError
from lincae_formats.header import parse_seconds

PACKAGE = Path(__file__).parents[1]
INSIDE = "lincae:"  # a data folder that comes with the package: `lincae:demo/stems`
HINT = "for a whole recipe see: lincae train smoke --dry-run"

ModelConfig = Annotated[FrameConfig | Frame64Config | UnetConfig, Field(discriminator="family")]


class Section(BaseModel):
    """A part of a recipe. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Folder(Section):
    """A folder of audio and the share of the crops that come from it."""

    path: Path
    fraction: float = Field(1.0, gt=0)


class DataSection(Section):
    """Training audio. Any sample rate and channel count; converted to 44.1 kHz mono."""

    folders: list[Folder] = Field(min_length=1)
    held_out: float = Field(0.02, ge=0, lt=1, description="share of the files kept for validation")
    loudness: Literal["reference", "original"] = Field(
        "reference", description="scale every file to an RMS of model.reference_rms (0.1), or leave it as it is"
    )
    crop_frames: int = Field(64, ge=8, le=4096, multiple_of=8, description="length of a crop in STFT frames of 512")
    batch: int = Field(16, ge=1, le=8192, description="crops in a step, before the mixtures are added")
    batch_gpu: int | None = Field(None, ge=1, le=8192, description="the same on a GPU; default: as `batch`")


class AugmentSection(Section):
    """Augmentation of the crops, before they are mixed and scaled."""

    equalise: float = Field(0.0, ge=0, le=24, description="strength of a random smooth filter, dB")
    low_pass: float = Field(0.0, ge=0, le=1, description="probability of a random low-pass filter")
    speed: float = Field(1.0, ge=1, le=2, description="largest change of speed (and pitch), as a factor")


class LinearitySection(Section):
    """The two tricks of Lin-CAE. Lin-CAE is `mixtures: latent` with `gains: latent`.

    mixtures: `latent` adds the mixtures to the batch and replaces their latents by the mixtures of the latents (the
    first trick); `audio` adds the mixtures and encodes them; `replace` encodes mixtures in place of some of the crops.
    gains: `latent` multiplies the latents and the target (the second trick); `audio` multiplies input and target.
    """

    mixtures: Literal["latent", "audio", "replace", "none"] = "latent"
    mixture_probability: float = Field(0.5, ge=0, le=1, description="with mixtures: replace")
    gains: Literal["latent", "audio", "none"] = "latent"
    gain_low: float = Field(0.0, ge=0)
    gain_high: float = Field(3.0, gt=0)
    gain_probability: float = Field(0.8, ge=0, le=1)
    shrink_gains: bool = Field(False, description="shrink the range to 1 between 20 and 90 % of training")

    @model_validator(mode="after")
    def _ordered(self) -> LinearitySection:
        if self.gain_low > self.gain_high:
            raise ConflictError("gain_low", f"{self.gain_low:g} is above gain_high, {self.gain_high:g}")
        return self


class ConsistencySection(Section):
    """Consistency training: noise levels, step between student and teacher, weight of the loss."""

    draw: Literal["sigma", "index"] = Field(
        "sigma", description="ln sigma is normal (sigma), or has the normal's density per unit of index (index)"
    )
    log_sigma_mean: float = -1.1
    log_sigma_std: float = Field(2.0, gt=0)
    step_exponent_start: float = Field(1.0, ge=0, le=4, description="the step is 0.1 to this power; 0: regression")
    step_exponent_end: float = Field(2.0, ge=0, le=4)
    weighting: Literal["step", "relative"] = Field(
        "step", description="1 / (sigma_s - sigma_t), or that times sigma_s / c_out(sigma_s)"
    )


class OptimiserSection(Section):
    """AdamW or RAdam; linear warm-up, then a cosine; moving average of the weights."""

    name: Literal["adamw", "radam"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    final_learning_rate: float = Field(1e-6, ge=0)
    warmup: float = Field(0.02, ge=0, lt=1, description="share of training")
    weight_decay: float = Field(0.01, ge=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    clip_norm: float | None = Field(1.0, gt=0, description="clip gradients to this times their running mean norm")
    ema: float = Field(0.999, ge=0, lt=1)


def _check_duration(text: str) -> str:
    parse_duration(text)
    return text


Duration = Annotated[str, AfterValidator(_check_duration)]


class BudgetSection(Section):
    """Length of the training, as `time` (wall clock: 25m, 1h30m) or as `steps`."""

    time: Duration | None = None
    steps: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one(self) -> BudgetSection:
        if (self.time is None) == (self.steps is None):
            raise ValueError("give either `time` (25m) or `steps`")
        return self

    @property
    def seconds(self) -> float | None:
        """The budget in s; None where it counts steps."""
        return None if self.time is None else parse_duration(self.time)


class ReportSection(Section):
    """Checkpoints and validation."""

    checkpoint_every: Duration = "5m"
    validate_times: int = Field(4, ge=0, le=1000, description="validations during training; one more at its end")
    validation_seconds: float = Field(8.0, gt=0.5, description="length used of each held-out file, s")
    validation_files: int = Field(6, ge=1)


class Recipe(Section):
    """A whole training, from data to exported weights."""

    name: Annotated[
        str, Field(max_length=64), made_of(r"[a-z0-9][a-z0-9._-]*", "lower-case letters, digits, `.`, `_` and `-`")
    ]
    version: str = "0.1"
    license: str = "unknown"
    seed: int = Field(0, ge=0, lt=2**31)
    model: ModelConfig
    data: DataSection
    augment: AugmentSection = AugmentSection()
    linearity: LinearitySection = LinearitySection()
    consistency: ConsistencySection = ConsistencySection()
    optimiser: OptimiserSection = OptimiserSection()
    budget: BudgetSection
    report: ReportSection = ReportSection()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"

    @property
    def reference_rms(self) -> float | None:
        """RMS that every file is scaled to; None where files stay as they are."""
        return getattr(self.model, "reference_rms", 0.1) if self.data.loudness == "reference" else None

    @property
    def unused(self) -> set[str]:
        """Sections that a model of this family does not learn by."""
        return {"linearity", "consistency"} if self.model.family == "frame" else set()

    @model_validator(mode="after")
    def _all_used(self) -> Recipe:
        if given := self.unused & self.model_fields_set:
            raise ConflictError(min(given), f"is not used for models of the family {self.model.family}; leave it out")
        return self

    @field_validator("compile", mode="before")
    @classmethod
    def _yaml_on_and_off(cls, value: Any) -> Any:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value  # YAML 1.1 reads on as true


def as_yaml(recipe: Recipe) -> str:
    """A recipe with every default filled in; loading it gives the same recipe."""
    unused = dict.fromkeys(recipe.unused, True)
    content = recipe.model_dump(mode="json", exclude={"model": {"latent_scale"}, **unused})  # type: ignore[arg-type]
    return yaml.safe_dump(content, sort_keys=False)


def parse_duration(text: str) -> float:
    """Seconds, above 0, from `90`, `90s`, `25m` or `1h30m`; ValueError for anything else."""
    try:
        seconds = parse_seconds(str(text).strip())
    except ValueError:
        raise ValueError(f"{text!r} is not a duration; write 90s, 25m or 1h30m") from None
    if not 0 < seconds < math.inf:
        raise ValueError(f"{text!r} is not a duration above 0")
    return seconds


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = PACKAGE / "recipes"
    if not folder.is_dir():  # a checkout: they lie at its top, the wheel has them inside the package
        folder = PACKAGE.parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name_or_path: str | Path) -> tuple[Path, Path]:
    """A recipe's file, by path or by the name of one that comes with the package; and the folder of its relative paths.

    That is the file's own folder; for a recipe that comes with the package it is the working folder.

    Raises:
        LincaeError: no such recipe.
    """
    name, path = str(name_or_path), Path(name_or_path)
    if os.path.exists(path):  # unlike Path.exists, False for names that are too long
        return path, path.parent
    recipes = shipped_recipes()
    if name in recipes:
        return recipes[name], Path.cwd()
    near = difflib.get_close_matches(path.stem, recipes, 1)
    hint = f"did you mean: lincae train {near[0]}" if near else f"recipes by name: {', '.join(recipes)}"
    raise LincaeError(f"{name}: no such recipe", hint)


def load_recipe(
    name_or_path: str | Path, overrides: dict[str, str] | None = None, budget: str | None = None,
    folders: Sequence[Path] = (),
) -> Recipe:  # fmt: skip
    """Reads a recipe and checks it with `parse_recipe`.

    Raises:
        LincaeError: there is no such recipe, it cannot be read, or it is wrong.
    """
    path, base = find_recipe(name_or_path)
    return parse_recipe(read(path), str(name_or_path), base, overrides, budget, folders)


def parse_recipe(
    data: bytes, name: str, base: Path, overrides: dict[str, str] | None = None, budget: str | None = None,
    folders: Sequence[Path] = (),
) -> Recipe:  # fmt: skip
    """Checks the text of a recipe.

    Args:
        data: YAML.
        name: what messages call the recipe.
        base: folder that relative data folders in it are looked up from.
        overrides: dotted keys with YAML values that replace the recipe's (`model.width: "256"`). Relative data folders
            among them belong to the working folder.
        budget: duration that replaces the recipe's budget.
        folders: data folders that replace the recipe's, each with the same share.

    Raises:
        LincaeError: not YAML, not a mapping, or a key or value is wrong. An unknown key is named with the nearest one.
    """
    document = Document(data, name, HINT)
    raw = document.values
    if not isinstance(raw, dict):
        raise LincaeError(f"{name}: a recipe is a mapping with `name`, `model`, `data`, `budget`", HINT)
    _place_folders(raw, base)
    for key, value in (overrides or {}).items():
        _override(document, key, value)
    if folders and isinstance(section := raw.setdefault("data", {}), dict):
        section["folders"] = [{"path": str(folder)} for folder in folders]
    if budget is not None:
        raw["budget"] = {"time": budget}
        document.replaced(("budget",))
    _place_folders(raw, Path.cwd())
    return document.validate(Recipe)


def _place_folders(raw: dict[str, Any], base: Path) -> None:
    """Makes the relative data folders of a recipe absolute, in place."""
    data = raw.get("data")
    folders = data.get("folders") if isinstance(data, dict) else None
    for folder in folders if isinstance(folders, list) else []:
        path = folder.get("path") if isinstance(folder, dict) else None
        if isinstance(path, str):
            with suppress(OSError, RuntimeError, ValueError):  # no such user, a NUL: found when the folder is read
                inside = path.startswith(INSIDE)
                place = PACKAGE / path.removeprefix(INSIDE) if inside else (base / Path(path).expanduser()).resolve()
                folder["path"] = str(place)


def _override(document: Document, key: str, value: str) -> None:
    """Puts a value of `--set` into a recipe."""
    name, path, node = f"{document.name}: --set {key}", key.split("."), document.values
    parsed = Document(value, f"{name}={value}", "write a YAML value").values
    if isinstance(parsed, str):
        with suppress(ValueError):
            parsed = float(parsed)  # YAML reads 1e5 as text
    for depth, part in enumerate(path, 1):
        last = depth == len(path)
        if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            at: Any = int(part)
        elif isinstance(node, dict):
            at = part
        else:
            raise LincaeError(f"{name}: {part} is not a section of a recipe", HINT)
        if last and path[:-1] == ["budget"] and part in ("time", "steps") and parsed is not None:
            node.clear()  # the one replaces the other
        if last:
            node[at] = parsed
        else:
            node = node[at] if isinstance(node, list) else node.setdefault(at, {})
    document.replaced(tuple(int(p) if p.isdecimal() else p for p in path))
