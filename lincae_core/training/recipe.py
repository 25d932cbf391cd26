"""The training recipe: the schema of the YAML file, and messages for what is wrong in it."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lincae_core.models.frame import FrameConfig
from lincae_core.models.frame64 import Frame64Config
from lincae_core.models.store import FAMILIES, config_class
from lincae_core.models.unet import UnetConfig
from lincae_formats import text as grammar
from lincae_formats.errors import LincaeError

MAX_BYTES = 1 << 20  # of a recipe
PACKAGE = Path(__file__).parents[1]
INSIDE = "lincae:"  # a data folder that comes with the package: `lincae:demo/stems`
# PyYAML raises these, beside its own errors, for `!!timestamp x`, `!!int ''` or a date such as 2001-99-99.
YAML_ERRORS = (
    yaml.YAMLError, RecursionError, ValueError, OverflowError, AttributeError, KeyError, IndexError, TypeError,
)  # fmt: skip

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
            raise ValueError(f"gain_low ({self.gain_low:g}) is above gain_high ({self.gain_high:g})")
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

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)
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
            raise ValueError(f"`{min(given)}` is not used for models of the family {self.model.family}; leave it out")
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
        seconds = grammar.seconds(str(text).strip())
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
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as e:
        raise LincaeError(f"{path}: cannot read the recipe ({e.strerror})") from None
    return parse_recipe(data, str(name_or_path), base, overrides, budget, folders)


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
    if len(data) > MAX_BYTES:
        raise LincaeError(f"{name}: larger than {MAX_BYTES >> 10} KiB", "is it a recipe?")
    try:
        raw = yaml.safe_load(data.decode())
    except YAML_ERRORS as e:
        raise LincaeError(f"{name}: not valid YAML ({' '.join(str(e).split())[:200]})") from None
    if not isinstance(raw, dict):
        hint = "see: lincae train smoke --dry-run"
        raise LincaeError(f"{name}: a recipe is a mapping with `name`, `model`, `data`, `budget`", hint)
    try:
        _place_folders(raw.get("data"), base)
        for key, value in (overrides or {}).items():
            _override(raw, key, value, name)
    except RecursionError:
        raise LincaeError(f"{name}: nested too deeply") from None
    if folders and isinstance(section := raw.setdefault("data", {}), dict):
        section["folders"] = [{"path": str(Path(f).expanduser().absolute())} for f in folders]
    if budget is not None:
        raw["budget"] = {"time": budget}
    try:
        return Recipe.model_validate(raw)
    except ValidationError as e:
        raise LincaeError(f"{name}: {explain(e)}") from None


def _place_folders(data: Any, base: Path) -> None:
    """Makes the relative folders of a recipe's raw `data` section absolute, in place."""
    folders = data.get("folders") if isinstance(data, dict) else data
    for folder in folders if isinstance(folders, list) else []:
        if isinstance(folder, dict) and isinstance(folder.get("path"), str):
            folder["path"] = _placed(folder["path"], base)


def _placed(path: str, base: Path) -> str:
    if path.startswith(INSIDE):
        return str(PACKAGE / path.removeprefix(INSIDE))
    try:
        return str((base / Path(path).expanduser()).resolve())
    except (OSError, RuntimeError, ValueError):  # no such user, a NUL: found when the folder is read
        return path


def _override(raw: dict[str, Any], key: str, value: str, name: str) -> None:
    *parents, last = key.split(".")
    node: Any = raw
    for parent in parents:
        if isinstance(node, list) and parent.isdecimal() and int(parent) < len(node):
            node = node[int(parent)]
        elif isinstance(node, dict):
            node = node.setdefault(parent, {})
        else:
            raise LincaeError(f"{name}: --set {key}: {parent} is not a section of a recipe")
    try:
        parsed = yaml.safe_load(value)
    except YAML_ERRORS:
        raise LincaeError(f"{name}: --set {key}={value}: not a YAML value") from None
    if isinstance(parsed, str):
        with suppress(ValueError):
            parsed = float(parsed)  # YAML reads 1e-3 as a string
    if key.startswith("data.folders.") and last == "path" and isinstance(parsed, str):
        parsed = _placed(parsed, Path.cwd())
    elif key in ("data", "data.folders"):
        _place_folders(parsed, Path.cwd())
    if isinstance(node, list) and last.isdecimal() and int(last) < len(node):
        node[int(last)] = parsed
    elif isinstance(node, dict):
        if parents == ["budget"] and last in ("time", "steps") and parsed is not None:
            node.clear()  # the one replaces the other
        node[last] = parsed
    else:
        raise LincaeError(f"{name}: --set {key}: no such place in the recipe")


def explain(error: ValidationError) -> str:
    """The first problem that pydantic found, as one line with the key and the value."""
    first = error.errors()[0]
    kind, context, location, family = first["type"], first.get("ctx") or {}, list(first["loc"]), ""
    if location[:1] == ["model"] and len(location) > 1:  # pydantic puts the family after the section
        family = str(location.pop(1))
    where = ".".join(map(str, location))
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return _unknown_key(location, family)
    value = _shown(first.get("input"))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        problem = f"`model.family` is missing or unknown; it must be one of {', '.join(FAMILIES)}"
    elif kind == "missing":
        problem = f"`{where}` is missing; for a whole recipe see: lincae train smoke --dry-run"
    elif kind == "value_error":
        problem = f"`{where or 'recipe'}`: {context.get('error', first['msg'])}"
    elif kind == "string_pattern_mismatch":
        problem = f"`{where}` is {value}; it may only have lower-case letters, digits, `.`, `_` and `-`"
    else:
        words, bound = _BOUNDS.get(kind, ("", ""))
        wanted = f"{words} {context[bound]}" if words else _KINDS.get(kind.partition("_")[0], first["msg"])
        problem = f"`{where or 'recipe'}` is {value}; it must be {wanted}"
    more = error.error_count() - 1
    return problem + (f" (and {more} more)" if more else "")


_BOUNDS = {  # pydantic's kinds of errors: words, and which entry of the context follows them
    "greater_than": ("above", "gt"), "greater_than_equal": ("at least", "ge"), "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"), "multiple_of": ("a multiple of", "multiple_of"),
    "literal_error": ("one of", "expected"),
    "too_short": ("a list of at least", "min_length"), "too_long": ("a list of at most", "max_length"),
    "string_too_long": ("a text whose length is at most", "max_length"),
}  # fmt: skip
_KINDS = {
    "int": "a whole number", "float": "a number", "finite": "a finite number", "bool": "true or false",
    "string": "a text", "path": "a path", "list": "a list", "tuple": "a list", "model": "a mapping",
    "dataclass": "a mapping", "dict": "a mapping",
}  # fmt: skip


def _shown(value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = "empty" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown_key(location: list[Any], family: str) -> str:
    """Names the nearest key: the same name elsewhere in the recipe, else a similar one in the same section."""
    key, where = str(location[-1]), ".".join(map(str, location))
    elsewhere = [dotted for dotted in _all_keys() if dotted.rpartition(".")[2] == key]
    beside = _keys(_section(location[:-1], family))
    near = difflib.get_close_matches(key, beside, 1, 0.6 if elsewhere else 0.4) or elsewhere
    hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(beside)}"
    return f"unknown key `{where}`; {hint}"


def _section(location: Sequence[Any], family: str) -> Any:
    """The class that describes the section at a place in the recipe."""
    if location[:1] == ["model"]:
        return config_class(family)
    if location[:2] == ["data", "folders"]:
        return Folder
    return Recipe.model_fields[location[0]].annotation if location else Recipe


def _keys(section: Any) -> list[str]:
    if dataclasses.is_dataclass(section):
        return [f.name for f in dataclasses.fields(section)]
    return list(getattr(section, "model_fields", {}))


def _all_keys() -> Iterator[str]:
    """Every dotted key of a recipe."""
    for name, field in Recipe.model_fields.items():
        yield name
        sections = [config_class(family) for family in FAMILIES] if name == "model" else [field.annotation]
        yield from (f"{name}.{key}" for section in sections for key in _keys(section))
