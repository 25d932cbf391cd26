"""The schema of a training recipe (YAML)."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from lincae_core.models.frame64 import Frame64Config
from lincae_core.models.unet import UnetConfig
from lincae_core.yaml_values import WRONG_VALUE
from lincae_formats.errors import LincaeError


class Section(BaseModel):
    """A part of a recipe: strict, an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _family(model: Any) -> Any:
    """The family of a recipe's `model` section; `frame64` where it is missing."""
    return model.get("family", "frame64") if isinstance(model, dict) else getattr(model, "family", "frame64")


FAMILIES: dict[str, type] = {"frame64": Frame64Config, "unet": UnetConfig}
ModelSection = Annotated[
    Annotated[Frame64Config, Tag("frame64")] | Annotated[UnetConfig, Tag("unet")], Discriminator(_family)
]


class Folder(Section):
    """A folder of audio and the share of draws that it gets."""

    path: Path
    fraction: float = Field(1.0, gt=0)


class DataSection(Section):
    """Training audio: any rate and channel count, made 44.1 kHz mono."""

    folders: list[Folder] = Field(min_length=1)
    held_out: float = Field(0.02, ge=0, lt=1, description="share of the files kept for validation")
    loudness: Literal["reference", "original"] = Field(
        "reference", description="bring every file to model.reference_rms, or leave it as it is"
    )
    crop_frames: int = Field(64, ge=8, le=4096, multiple_of=8, description="STFT frames in a crop")
    batch: int = Field(16, ge=1, le=8192, description="crops in a step, before mixing doubles them")
    batch_gpu: int | None = Field(None, ge=1, le=8192, description="the same on a GPU, where it is another")


class AugmentSection(Section):
    """Filters that crops get before they are mixed; what is done to the audio leaves linearity true."""

    equalise: float = Field(0.0, ge=0, le=24, description="strength of a random smooth curve, dB")
    low_pass: float = Field(0.0, ge=0, le=1, description="chance of a random low-pass")
    speed: float = Field(1.0, ge=1, le=2, description="crops are played up to so many times faster or slower")


class LinearitySection(Section):
    """The paper's two tricks. `mixtures: latent` and `gains: latent` is Lin-CAE, `audio` the baseline.

    Mixtures join the batch and double it; with `replace` they take the place of crops instead, by chance, in the audio.
    """

    mixtures: Literal["latent", "audio", "replace", "none"] = "latent"
    mixture_probability: float = Field(0.5, ge=0, le=1, description="chance of a mixture where they replace")
    sources: int = Field(2, ge=2, le=8, description="crops in a mixture, at most; the paper mixes 2")
    differences: float = Field(
        0.0, ge=0, le=1, description="share of the crops whose latents are a mixture's less those of its other sources"
    )
    agreement: float = Field(
        0.0, ge=0, description="weight of an extra loss: squared relative error of the encoder's latents of mixtures"
    )
    gains: Literal["latent", "audio", "none"] = "latent"
    gain_low: float = Field(0.0, ge=0)
    gain_high: float = Field(3.0, gt=0)
    gain_probability: float = Field(0.8, ge=0, le=1)
    shrink_gains: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> LinearitySection:
        if self.gain_low > self.gain_high:
            raise ValueError("gain_low must not be above gain_high")
        if self.differences and (self.mixtures, self.gains) != ("latent", "latent"):
            raise ValueError("differences need mixtures: latent and gains: latent")
        if self.agreement and not self.differences:
            raise ValueError("agreement is measured on the mixtures that differences start from: raise differences")
        return self


class ConsistencySection(Section):
    """Noise levels, the step between student and teacher, and the loss."""

    draw: Literal["sigma", "index"] = Field("sigma", description="ln sigma is normal, or its density per unit of index")
    log_sigma_mean: float = -1.1
    log_sigma_std: float = Field(2.0, gt=0)
    step_exponent_start: float = Field(1.0, ge=0, le=4)
    step_exponent_end: float = Field(2.0, ge=0, le=4)
    weighting: Literal["step", "relative"] = "step"
    share: float = Field(1.0, ge=0, le=1, description="share of the items that are trained so")
    weight: float = Field(1.0, ge=0, description="of this loss")


class DecodedSection(Section):
    """Losses on what one decoding step gives, from noise at model.sigma_max; 0 is none.

    The paper has none of these: its decoder learns from consistency alone.
    """

    spectral: float = Field(0.0, ge=0, description="weight of the multi-resolution mel distance of the audio")
    frames: float = Field(0.0, ge=0, description="weight of the relative distance of the compressed frames")


class OptimiserSection(Section):
    """AdamW or RAdam, warm-up, cosine, moving average of the weights."""

    name: Literal["adamw", "radam"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    final_learning_rate: float = Field(1e-6, ge=0)
    warmup: float = Field(0.02, ge=0, lt=1, description="share of training")
    weight_decay: float = Field(0.01, ge=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    clip_norm: float | None = Field(1.0, gt=0, description="gradients are clipped to this times their running norm")
    ema: float = Field(0.999, ge=0, lt=1)


class BudgetSection(Section):
    """How long to train; progress is time where `time` is given, else steps."""

    time: str | None = None
    steps: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one(self) -> BudgetSection:
        if (self.time is None) == (self.steps is None):
            raise ValueError("give either `time` (25m) or `steps`")
        if self.time is not None:
            parse_duration(self.time)
        return self

    @property
    def seconds(self) -> float | None:
        """The budget in s, None when it counts steps."""
        return None if self.time is None else parse_duration(self.time)


class ReportSection(Section):
    """What is written while training runs."""

    checkpoint_every: str = "5m"
    validate_times: int = Field(4, ge=0, le=1000, description="validations on the way; one more at the end")
    validation_seconds: float = Field(8.0, gt=0.5, description="s of each held-out file")
    validation_files: int = Field(6, ge=1)

    @field_validator("checkpoint_every")
    @classmethod
    def _time(cls, text: str) -> str:
        parse_duration(text)
        return text


class Recipe(Section):
    """A whole training, from data to export."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)
    version: str = "0.1"
    license: str = "unknown"
    seed: int = Field(0, ge=0, lt=2**31)
    model: ModelSection = Frame64Config()
    data: DataSection
    augment: AugmentSection = AugmentSection()
    linearity: LinearitySection = LinearitySection()
    consistency: ConsistencySection = ConsistencySection()
    decoded: DecodedSection = DecodedSection()
    optimiser: OptimiserSection = OptimiserSection()
    budget: BudgetSection
    report: ReportSection = ReportSection()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"

    @field_validator("compile", mode="before")
    @classmethod
    def _yaml_on_and_off(cls, value: Any) -> Any:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value  # YAML 1.1's booleans

    @model_validator(mode="after")
    def _something_to_learn(self) -> Recipe:
        consistency = self.consistency.share * self.consistency.weight
        if not (consistency or self.decoded.spectral or self.decoded.frames):
            raise ValueError("nothing to learn: consistency and decoded have no weight")
        return self


MAX_BYTES = 1 << 20
_UNITS = {"s": 1, "m": 60, "h": 3600}


def parse_duration(text: str) -> float:
    """A time such as `90`, `90s`, `25m` or `1h30m` in s; ValueError when it is none."""
    match = re.fullmatch(r"\s*(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?\s*", str(text))
    if not match or not any(match.groups()):
        raise ValueError(f"{text!r} is no time; write 90s, 25m or 1h30m")
    seconds = sum(float(g) * u for g, u in zip(match.groups(), (3600, 60, 1), strict=True) if g)
    if seconds <= 0:
        raise ValueError(f"{text!r} is no time above zero")
    return seconds


def load_recipe(path: Path, overrides: dict[str, str] | None = None, budget: str | None = None) -> Recipe:
    """Reads and checks a recipe.

    Relative data folders are looked up from the recipe's own folder.

    Args:
        path: YAML file.
        overrides: dotted keys and YAML values that replace the file's (`model.width: "256"`).
        budget: time that replaces the file's budget.

    Raises:
        LincaeError: the file cannot be read, is no mapping, or a key or value is wrong (named with its nearest
            neighbour).
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise LincaeError(f"{path}: a recipe of more than {MAX_BYTES >> 10} KiB", "is it the right file?")
        raw = yaml.safe_load(data.decode())
    except OSError as e:
        raise LincaeError(f"{path}: cannot read the recipe ({e.strerror})") from None
    except (yaml.YAMLError, RecursionError, *WRONG_VALUE) as e:
        raise LincaeError(f"{path}: not valid YAML ({' '.join(str(e).split())[:200]})") from None
    if not isinstance(raw, dict):
        raise LincaeError(f"{path}: a recipe is a mapping with `name`, `data`, `budget`", "see recipes/smoke.yaml")
    for key, value in (overrides or {}).items():
        _override(raw, key, value, path)
    if budget is not None:
        raw["budget"] = {"time": budget}
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as e:
        raise LincaeError(f"{path}: {_explain(e)}") from None
    folders = [
        f.model_copy(update={"path": (path.parent / f.path.expanduser()).resolve()}) for f in recipe.data.folders
    ]
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"folders": folders})})


def _override(raw: dict[str, Any], key: str, value: str, path: Path) -> None:
    *parents, last = key.split(".")
    node: Any = raw
    for name in parents:
        if isinstance(node, list) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
            continue
        if not isinstance(node, dict):
            raise LincaeError(f"{path}: --set {key}: {name} is no section")
        node = node.setdefault(name, {})
    try:
        parsed = yaml.safe_load(value)
    except (yaml.YAMLError, RecursionError, *WRONG_VALUE):
        raise LincaeError(f"{path}: --set {key}={value}: not a YAML value") from None
    if isinstance(parsed, str):
        parsed = _number(parsed)
    if isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = parsed
    elif isinstance(node, dict):
        node[last] = parsed
    else:
        raise LincaeError(f"{path}: --set {key}: no such place in the recipe")


def _number(text: str) -> str | float:
    """YAML reads 1e-3 as a string; people mean the number."""
    try:
        return float(text)
    except ValueError:
        return text


def _explain(error: ValidationError) -> str:
    """The first problem of a validation as one line, with the nearest known key."""
    first = error.errors()[0]
    location = first["loc"]
    in_model = location[:1] == ("model",)
    family = str(location[1]) if len(location) > 1 and in_model else "frame64"
    if in_model:  # pydantic names the family after the section
        location = (location[0], *location[2:])
    where = ".".join(str(p) for p in location)
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _keys_beside(location, family)
        near = difflib.get_close_matches(str(location[-1]), known, 1, 0.4)
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
        return f"unknown key `{where}`; {hint}"
    if first["type"].startswith("union_tag"):
        return f"`model.family`: must be one of {', '.join(FAMILIES)}"
    message = first["msg"].removeprefix("Value error, ")
    more = error.error_count() - 1
    return f"`{where or 'recipe'}`: {message}" + (f" (and {more} more)" if more else "")


def _keys_beside(location: tuple[int | str, ...], family: str) -> list[str]:
    section: Any = Recipe
    for part in location[:-1]:
        if section is Recipe and part == "model":
            section = FAMILIES[family]
        else:
            section = Folder if isinstance(part, int) else section.model_fields[part].annotation
    return list(getattr(section, "model_fields", None) or getattr(section, "__dataclass_fields__", {}))
