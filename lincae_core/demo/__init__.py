"""The demo: bundled stems mixed, turned down and pulled apart in latent space."""

from lincae_core.demo.run import Row, run_demo

__all__ = ["Row", "run_demo"]
