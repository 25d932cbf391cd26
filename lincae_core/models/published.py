"""The table of published models that can be downloaded: `lincae models pull`."""

from __future__ import annotations

from dataclasses import dataclass


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
