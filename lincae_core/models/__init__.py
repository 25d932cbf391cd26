"""The models, and how their latents are rounded: what commands know of them without torch."""

from lincae_formats.header import Group

DEFAULT_QUALITY = "medium"
# Steps of the integers at each quality: relative steps of the lowest and the highest runs of the low band's groups
# (the others lie between, by equal ratios), of the probes, and the grid of the levels in steps of 1.5 dB. Probes at a
# step of 8 are all rounded to 0: then the levels alone tell of the bands.
LOW_NUMBERS, LOW_GROUPS, LOW_RUNS, PROBES = 384, 12, 4, 128
ROUNDING = {
    "low": (0.6, 1.8, 8.0, 4),
    "medium": (0.17, 1.3, 2.8, 2),
    "high": (0.12, 0.4, 0.7, 1),
    "exact": (0.12, 0.4, 0.7, 1),  # float32: the steps are those of results that are stored as integers
}
QUALITIES = tuple(ROUNDING)


def frame_groups(quality: str) -> tuple[Group, ...]:
    """How latents of the `frame` family are rounded to integers at a quality, see formats/SPEC.md."""
    first, last, probes, grid = ROUNDING[quality]
    steps = [round(first * (last / first) ** (i / (LOW_RUNS - 1)), 3) for i in range(LOW_RUNS)]
    low = [Group(LOW_GROUPS // LOW_RUNS, LOW_NUMBERS // LOW_GROUPS, step, 4) for step in steps]
    return (*low, Group(PROBES, 1, probes, grid, level=True, slots=8))
