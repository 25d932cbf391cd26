"""Arrangements: a mix described in YAML, evaluated in latent space. Nothing here imports torch."""
