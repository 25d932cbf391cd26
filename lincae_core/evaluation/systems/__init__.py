"""The systems that are compared, behind one small interface."""

from lincae_core.evaluation.systems.base import Latent, System
from lincae_core.evaluation.systems.choose import Options, choose_systems

__all__ = ["Latent", "Options", "System", "choose_systems"]
