"""Models on disk: where weights are found, what they say of themselves, how they are read and written.

Only `build`, `save_weights`, `load_weights`, `choose_device` and `load` import torch.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lincae_core.models import QUALITIES, frame_groups
from lincae_formats.errors import LincaeError, TargetExistsError, UsageError
from lincae_formats.files import atomic_path

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lincae_core.models.codec import Autoencoder, Encoder
    from lincae_formats.header import Group

DEFAULT_MODEL = "frame"
FAMILIES = {  # module, config class, model class
    "frame": ("frame", "FrameConfig", "FrameModel"),
    "frame64": ("frame64", "Frame64Config", "Frame64Model"),
    "unet": ("unet", "UnetConfig", "UnetModel"),
}
SHIPPED = Path(__file__).parent.parent / "weights"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MAX_HEADER = 16 << 20  # bytes


@dataclass(frozen=True)
class Published:
    """Weights on the Hugging Face hub.

    Args:
        repo: repository.
        files: files to download; the weights come first.
        license: of the weights, for the model card.
        label: name in tables and figures.
        scale: factor that gives the latents of typical music unit variance; None where lincae does not load the model.
    """

    repo: str
    files: tuple[str, ...]
    license: str
    label: str
    scale: float | None = None


KWARGS = ("frontend", "generator", "diffusion")  # the Lin-CAE authors' files `<part>_kwargs_last.yaml`


def _lin_cae(folder: str, label: str, scale: float) -> Published:
    files = ["autoencoder_inference_model_last.pth", *(f"{part}_kwargs_last.yaml" for part in KWARGS)]
    repo = "BernardoTorres/linear_consistency_autoencoders"
    paths = tuple(f"{folder}_weights/{f}" for f in files)
    return Published(repo, paths, f"see https://huggingface.co/{repo}", label, scale)


PUBLISHED = {
    "lin-cae": _lin_cae("0a3afbec", "Lin-CAE", 33.0),
    "lin-cae-2": _lin_cae("2f4c6d21", "Lin-CAE 2", 40.0),
    "m2l": _lin_cae("1511f18a", "Music2Latent, retrained", 15.0),
    "music2latent": Published(
        "SonyCSLParis/music2latent", ("music2latent.pt",), "CC-BY-NC-4.0", "Music2Latent, public weights", 1 / 0.06
    ),
    "stable-audio-vae": Published(
        "stabilityai/stable-audio-open-1.0",
        ("vae/diffusion_pytorch_model.safetensors", "vae/config.json"),
        "Stability AI Community License",
        "Stable Audio VAE",
    ),
}


@dataclass(frozen=True)
class ModelInfo:
    """Metadata of a weights file.

    Args:
        name: name of the model.
        version: version of the weights.
        path: the weights file.
        fingerprint: `sha256:<hex>` over weights and config.
        family: network family, a key of `FAMILIES`.
        config: fields of the family's config, with the family.
        license: SPDX name of the weights' licence.
        card_path: model card (Markdown) beside the weights.
        parameters: number of parameters.
        size_bytes: size of the file.
        loudness: from which `lincae stats` estimates the loudness of latents.
    """

    name: str
    version: str
    path: Path
    fingerprint: str
    family: str
    config: dict[str, Any]
    license: str
    card_path: Path | None
    parameters: int
    size_bytes: int
    loudness: dict[str, Any] | None

    @property
    def qualities(self) -> dict[str, tuple[Group, ...]]:
        """Groups of latent dimensions by quality; empty for models that store floats only."""
        return {quality: frame_groups(quality) for quality in QUALITIES} if self.family == "frame" else {}


def read_info(path: Path) -> ModelInfo:
    """Reads the metadata of a weights file, not the weights.

    Raises:
        LincaeError: the file cannot be read, or is not a lincae weights file.
    """
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MAX_HEADER:
                raise ValueError
            info = json.loads(json.loads(file.read(length))["__metadata__"]["lincae"])
        config, card = dict(info["config"]), path.with_suffix(".md")
        return ModelInfo(
            name=str(info["name"]), version=str(info["version"]), path=path, fingerprint=str(info["fingerprint"]),
            family=str(config["family"]), config=config, license=str(info["license"]),
            card_path=card if card.exists() else None, parameters=int(info["parameters"]),
            size_bytes=path.stat().st_size, loudness=info.get("loudness"),
        )  # fmt: skip
    except OSError as e:
        raise LincaeError(f"{path}: cannot read the weights ({e.strerror})", "see lincae models list") from None
    except (ValueError, KeyError, TypeError, struct.error):
        raise LincaeError(f"{path}: not a lincae weights file", "see lincae models list") from None


def user_models() -> Path:
    """Folder of downloaded and imported models.

    ``$LINCAE_MODELS``, else ``lincae/models`` under ``$XDG_DATA_HOME`` or ``~/.local/share``.
    """
    if chosen := os.environ.get("LINCAE_MODELS"):
        return Path(chosen)
    root = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(root) / "lincae" / "models"


def shipped() -> list[ModelInfo]:
    """The models that come with the package, by name."""
    return sorted((read_info(p) for p in SHIPPED.glob("*.safetensors")), key=lambda m: m.name)


def ships(name: str) -> bool:
    """Whether a model of that name comes with the package."""
    return any(name == m.name for m in shipped())


def check_target(name: str, force: bool) -> Path:
    """The file in which a user's model of this name is kept.

    Raises:
        LincaeError: the name cannot be used, or is taken.
    """
    if not _NAME.fullmatch(name):
        raise LincaeError(f"{name!r} cannot be a model's name", "lower-case letters, digits, . _ -: --name my-model")
    if name == DEFAULT_MODEL or ships(name):
        raise LincaeError(f"{name} is the name of a model that ships", "choose another: --name my-model")
    target = user_models() / f"{name}.safetensors"
    if target.exists() and not force:
        raise TargetExistsError(f"{name} is installed already ({target})", "add --force to replace it")
    return target


def available() -> list[ModelInfo]:
    """The models that ship, then the user's, by name; a user's model cannot take a shipped name."""
    found = shipped()
    names = {m.name for m in found}
    try:
        own = sorted(user_models().glob("*.safetensors"))
    except OSError:
        own = []  # the shipped models work whatever that folder's permissions are
    for path in own:
        try:
            info = read_info(path)
        except LincaeError:
            continue  # an unrelated file in this folder
        if info.name not in names:
            found.append(info)
            names.add(info.name)
    return found


def resolve(name_or_path: str | Path) -> ModelInfo:
    """Finds a model by name, or by the path of its weights file.

    Raises:
        LincaeError: there is no such model.
    """
    text = os.fspath(name_or_path)
    models = {m.name: m for m in available()}
    if text in models:
        return models[text]
    if Path(text).is_file():
        return read_info(Path(text))
    if text in PUBLISHED:
        raise LincaeError(f"model {text!r} is not installed", f"download it: lincae models pull {text}")
    near = difflib.get_close_matches(text, [*models, *PUBLISHED], 1)
    guess = f"did you mean --model {near[0]}?" if near else "see lincae models list"
    raise LincaeError(f"no model {text!r}", guess)


def find_fingerprint(fingerprint: str, name: str, file: str) -> ModelInfo:
    """Finds the model that a `.lat` file was made with: an installed one, or a weights file that was used before.

    Args:
        fingerprint: of the weights.
        name: of the model, for messages.
        file: the `.lat` file, for messages.

    Raises:
        LincaeError: it is not installed.
    """
    for model in available():
        if model.fingerprint == fingerprint:
            return model
    try:
        info = read_info(Path(_note(fingerprint).read_text(encoding="utf-8")))
        if info.fingerprint == fingerprint:
            return info
    except (OSError, LincaeError, ValueError):
        pass
    raise LincaeError(
        f"{file}: its model {name!r} ({fingerprint[:15]}...) is not installed",
        "name its weights file: --model PATH",
    )


def remember(info: ModelInfo) -> None:
    """Notes in the cache where a weights file lies, so that `find_fingerprint` finds it; failures are ignored."""
    if info.path.parent in (SHIPPED, user_models()):
        return
    note = _note(info.fingerprint)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(note, overwrite=True) as temporary:
            Path(temporary).write_text(str(info.path.resolve()), encoding="utf-8")
    except (OSError, LincaeError):
        pass


def _note(fingerprint: str) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "lincae" / "models" / fingerprint.replace(":", "-")


def qualities(name_or_fingerprint: str) -> dict[str, tuple[Group, ...]]:
    """The groups of latent dimensions for every quality of a model, without torch; empty for models of floats.

    Args:
        name_or_fingerprint: a name, a weights file, or the `sha256:...` that a `.lat` file holds.

    Raises:
        LincaeError: there is no such model.
    """
    if name_or_fingerprint.startswith("sha256:"):
        return find_fingerprint(name_or_fingerprint, "?", "the file").qualities
    return resolve(name_or_fingerprint).qualities


# What follows imports torch.


def config_class(family: str) -> Any:
    """The config class of a family; called without arguments it makes the defaults."""
    module, name, _ = FAMILIES[family]
    return getattr(import_module(f"lincae_core.models.{module}"), name)


def build(config: Mapping[str, Any]) -> Any:
    """A model with fresh random weights.

    Args:
        config: `family`, a key of `FAMILIES`, and fields of its config; the rest take their defaults.

    Raises:
        KeyError: unknown family.
        TypeError: unknown field.
        ValueError: a value that the config refuses.
    """
    module, _, name = FAMILIES[config["family"]]
    return getattr(import_module(f"lincae_core.models.{module}"), name)(config_class(config["family"])(**config))


def choose_device(name: str = "auto") -> torch.device:
    """`auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.

    Raises:
        UsageError: an unknown name.
        LincaeError: there is no such GPU.
    """
    import torch

    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        raise UsageError(f"unknown device {name!r}", "use --device auto, cpu, cuda or cuda:N")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu":
        count, number = torch.cuda.device_count() if torch.cuda.is_available() else 0, int(name[5:] or 0)
        if not count:
            raise LincaeError("no CUDA device is available", "use --device cpu")
        if number >= count:
            raise LincaeError(f"there is no device {name}: there are {count}", f"use --device cuda:{count - 1}")
    return torch.device(name)


def fingerprint(tensors: dict[str, Tensor], config: dict[str, Any]) -> str:
    """SHA-256 over the canonical config and every tensor's name, dtype, shape and bytes: `sha256:<hex>`."""
    import torch

    digest = hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{list(tensor.shape)}".encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes() if tensor.ndim else tensor.numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def save_weights(
    tensors: dict[str, Tensor], config: dict[str, Any], path: Path, *, name: str, version: str, license: str,
    dtype: torch.dtype | None = None, overwrite: bool = True, loudness: dict[str, Any] | None = None,
) -> str:  # fmt: skip
    """Writes weights atomically; returns their fingerprint.

    Args:
        tensors: the state dict.
        config: the family and the fields of its config.
        path: target.
        name: name of the model.
        version: version of the weights.
        license: SPDX name of the weights' licence.
        dtype: type in which the weights are stored; float16 by default.
        overwrite: whether an existing file is replaced.
        loudness: from which `lincae stats` estimates the loudness of latents; not part of the fingerprint.

    Raises:
        TargetExistsError: the file exists and ``overwrite`` is false.
    """
    import torch
    from safetensors.torch import save

    half = {k: v.detach().to("cpu", dtype or torch.float16).contiguous() for k, v in tensors.items()}
    mark = fingerprint(half, config)
    info: dict[str, Any] = {"name": name, "version": version, "license": license, "config": config, "fingerprint": mark}
    info["parameters"] = sum(v.numel() for v in half.values())
    if loudness is not None:
        info["loudness"] = loudness
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, overwrite=overwrite) as temporary:
        Path(temporary).write_bytes(save(half, {"lincae": json.dumps(info, sort_keys=True)}))
    return mark


def load_weights(path: Path, *, check: bool = True) -> tuple[Any, dict[str, Any]]:
    """Reads weights as a float32 model in evaluation mode, and their metadata.

    Raises:
        LincaeError: the file is not lincae weights, of an unknown family, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            info = json.loads((file.metadata() or {})["lincae"])
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        family = dict(info["config"])["family"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as e:
        raise LincaeError(f"{path}: not a lincae weights file ({type(e).__name__})", "see lincae models list") from None
    if family not in FAMILIES:
        raise LincaeError(f"{path}: weights of family {family!r}, which this version does not know", "upgrade lincae")
    if check and fingerprint(tensors, info["config"]) != info["fingerprint"]:
        raise LincaeError(f"{path}: the weights do not match their fingerprint", "get the file again")
    try:
        model = build(info["config"])
        model.load_state_dict({k: v.float() for k, v in tensors.items()})
    except (TypeError, RuntimeError, ValueError) as e:
        raise LincaeError(f"{path}: weights and config do not fit ({str(e).splitlines()[0][:120]})") from None
    return model.eval(), info


def load(name_or_path: str | Path | ModelInfo = DEFAULT_MODEL, device: str = "auto") -> Autoencoder:
    """Loads a model.

    Args:
        name_or_path: name of an installed model, a weights file, or what `resolve` returned.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        LincaeError: no such model, a damaged file, or no such device.
    """
    from lincae_core.models.codec import Autoencoder

    info = name_or_path if isinstance(name_or_path, ModelInfo) else resolve(name_or_path)
    where = choose_device(device)
    model, metadata = load_weights(info.path)
    return Autoencoder(model, {**metadata, "name": info.name}, where)


def load_encoder(info: ModelInfo, device: str = "auto") -> Encoder:
    """Loads what encoding needs: of a `frame` model neither weights nor torch, unless a GPU is asked for.

    Args:
        info: from `resolve`.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        LincaeError: a damaged file, or no such device.
    """
    from lincae_core.models.codec import FrameEncoder

    if info.family == "frame" and device in ("auto", "cpu"):
        return FrameEncoder({"name": info.name, "version": info.version, "fingerprint": info.fingerprint})
    return load(info, device)
