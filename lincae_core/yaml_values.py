"""Values in YAML that are none."""

# What PyYAML lets through beside its own errors, for `!!timestamp x`, `!!int ''` or a date such as 2001-99-99.
WRONG_VALUE = (ValueError, OverflowError, AttributeError, KeyError, IndexError, TypeError)
