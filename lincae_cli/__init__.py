"""The `lincae` command: parses, checks, calls and reports. Arithmetic and models live elsewhere."""
