from .algebra import check_compatible  # noqa: F401
