"""The demo: bundled stems are mixed, turned down and separated as latents."""

from lincae_core.demo.demonstration import Result, Summary, run_demo

__all__ = ["Result", "Summary", "run_demo"]
