"""What a caller in Python is told: errors of this package, with hints that a program can follow."""

import numpy as np
import pytest

from lincae_formats import Header, Latents, LincaeError, concat, gain, mix, subtract, write_lat
from lincae_formats.errors import TargetExistsError

HEADER = Header(44100, 20_000, "m", "sha256:" + "cd" * 32, latent_dim=8)


@pytest.fixture
def z():
    return Latents(np.ones(HEADER.shape, np.float32), HEADER)


@pytest.mark.parametrize("by", ["x", "2", None, [1.0, 2.0], {}])
def test_a_gain_that_is_no_number_is_told_so(z, by):
    for call in (lambda: gain(z, by), lambda: mix([z, z], [by, 1])):
        with pytest.raises(LincaeError, match=r"the gain is .*; use a factor such as 0.5, or a Curve"):
            call()


@pytest.mark.parametrize("other", ["a.lat", 3, None])
def test_what_is_no_latents_is_told_so(z, other):
    for call in (lambda: mix([z, other]), lambda: concat([z, other]), lambda: subtract(z, [other])):
        with pytest.raises(LincaeError, match="is not latents; give what read_lat"):
            call()


def test_hints_name_arguments_in_python_and_options_on_the_command_line(z, here, lincae):
    write_lat(z, "z.lat")
    with pytest.raises(TargetExistsError, match=r"z\.lat exists; pass overwrite=True to replace it"):
        write_lat(z, "z.lat")
    write_lat(z, "a.lat")
    code, _, (line,) = lincae("gain", "a.lat", "--db", "1", "-o", "z.lat")
    assert code == 1
    assert line == "lincae: error: z.lat exists already; add --force to overwrite"
