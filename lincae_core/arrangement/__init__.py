"""Mixes of `.lat` files described in YAML: `lincae render`."""
