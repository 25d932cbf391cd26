"""The one version number of lincae."""

__version__ = "0.1.0"
