"""Measures of quality and pictures."""
