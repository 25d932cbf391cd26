from .reader import Pool, Pooled  # noqa: F401
