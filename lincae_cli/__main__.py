"""`python -m lincae_cli`."""

from .app import run

run()
