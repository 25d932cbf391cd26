"""lincae channels: what each operation does to the latents of every channel."""

import math

import numpy as np
import pytest
from cli_helpers import make_lat

from lincae_formats import read_lat
from lincae_formats.channels import matrix_builder, pan


@pytest.fixture
def stereo(cli):
    """Two channels in `s.lat`, one in `m.lat`."""
    make_lat(cli.folder / "m.lat", 2)
    return make_lat(cli.folder / "s.lat", 1, channels=2)


@pytest.mark.parametrize(
    ("options", "matrix"),
    [
        (("--mono",), [[0.5, 0.5]]),
        (("--swap",), [[0, 1], [1, 0]]),
        (("--pick", "2"), [[0, 1]]),
        (("--pick", "2,1,1"), [[0, 1], [1, 0], [1, 0]]),
        (("--gains", "0dB,-1"), [[1, 0], [0, -1]]),
        (("--balance", "0.25"), [[0.75, 0], [0, 1]]),
        (("--balance", "-1"), [[1, 0], [0, 0]]),
        (("--pan", "1"), [[0, 0], [1, 1]]),
        (("--pan", "0"), [[1, 0], [0, 1]]),
        (("--mid-side",), [[0.5, 0.5], [0.5, -0.5]]),
        (("--left-right",), [[1, 1], [1, -1]]),
        (("--remix", "1,2"), [[0.5, 0.5]]),
        (("--remix", "2 1"), [[0, 1], [1, 0]]),
        (("--remix", "-"), [[0.5, 0.5]]),
        (("--remix", "1v0.5,2v0.25 2i 0"), [[0.5, 0.25], [0, -1], [0, 0]]),
        (("--remix", "1p-6"), [[10**-0.3, 0]]),
        (("--remix", "1-2v2"), [[2, 2]]),
    ],
)
def test_each_output_channel_is_the_sum_that_was_asked_for(cli, stereo, options, matrix):
    cli.ok("channels", "s.lat", *options, "-o", "out.lat")
    found = read_lat("out.lat")
    wanted = np.einsum("oi,idk->odk", np.array(matrix, np.float64), stereo.data)
    assert found.header.channels == len(matrix)
    assert found.num_samples == stereo.num_samples
    np.testing.assert_allclose(found.data, wanted, rtol=1e-3, atol=1e-3)
    assert found.history[-1]["op"] == "channels"


def test_pan_keeps_the_power(cli, stereo):
    mono = read_lat("m.lat")
    cli.ok("channels", "m.lat", "--pan", "-0.5", "-o", "left.lat")
    left, right = read_lat("left.lat").data
    np.testing.assert_allclose(left**2 + right**2, mono.data[0] ** 2, rtol=5e-3, atol=1e-4)
    assert np.square(left).sum() > 5 * np.square(right).sum()
    for place in np.linspace(-1, 1, 9):
        (a,), (b,) = pan(place)
        assert math.hypot(a, b) == pytest.approx(1)


def test_mid_and_side_give_left_and_right_back(cli, stereo):
    cli.ok("channels", "s.lat", "--mid-side", "-o", "ms.lat")
    cli.ok("channels", "ms.lat", "--left-right", "-o", "lr.lat")
    np.testing.assert_allclose(read_lat("lr.lat").data, stereo.data, atol=4e-3)


def test_folders_are_changed_file_by_file(cli, stereo):
    make_lat(cli.folder / "in" / "a.lat", 3, channels=2)
    make_lat(cli.folder / "in" / "x" / "b.lat", 4, channels=2)
    cli.ok("channels", "in", "--swap", "-o", "out")
    for name in ("a.lat", "x/b.lat"):
        assert np.array_equal(read_lat(f"out/{name}").data, read_lat(f"in/{name}").data[::-1])
    cli.ok("channels", "out", "--swap", "-o", "back")
    assert np.array_equal(read_lat("back/x/b.lat").data, read_lat("in/x/b.lat").data)


@pytest.mark.parametrize(
    ("line", "code", "remedy"),
    [
        ("channels s.lat -o x.lat", 2, "--mono"),
        ("channels s.lat --mono --swap -o x.lat", 2, "cannot be combined"),
        ("channels m.lat --swap -o x.lat", 1, "m.lat has 1 channel, not two"),
        ("channels s.lat --pick 3 -o x.lat", 1, "none with number 3"),
        ("channels s.lat --pick one -o x.lat", 2, "not a list of channels"),
        ("channels s.lat --gains 0dB -o x.lat", 1, "has 2 channels, not 1: give a gain for each"),
        ("channels s.lat --pan 2 -o x.lat", 2, "from -1 (left) to 1 (right)"),
        ("channels s.lat --remix 1,x -o x.lat", 2, "which is not a channel"),
        ("channels s.lat --remix 5 -o x.lat", 1, "none with number 5"),
        ("channels s.lat --remix 2-1 -o x.lat", 1, "not a range"),
        ("channels s.lat --swap", 2, "-o out.lat"),
    ],
)
def test_one_line_that_names_the_remedy(cli, stereo, line, code, remedy):
    assert remedy in cli.refused(code, *line.split())
    assert sorted(p.name for p in cli.folder.iterdir()) == ["m.lat", "s.lat"]


@pytest.mark.parametrize("text", ["", "1,", "v1", "1v", "--", "1-2-3", "1w2", "1 " * 65, "1p9999"])
def test_remix_takes_no_other_notation(text):
    if text == "1v":
        assert matrix_builder("remix", text)(1) == [[1.0]]
        return
    with pytest.raises(ValueError, match=r"."):
        matrix_builder("remix", text)(2)
