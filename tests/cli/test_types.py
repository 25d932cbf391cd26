"""The types of options and operands: what is printed is read back as the same."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lincae_cli import messages, options
from lincae_formats import UsageError, header


def read(kind, value):
    """What a type makes of a text."""
    return kind.convert(value, None, None)


seconds = st.floats(0, 1e8, allow_subnormal=False)
factors = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(st.characters(exclude_characters="\0/:", exclude_categories=["Cs"]), min_size=1)


@settings(deadline=None)
@given(seconds)
def test_a_time_is_read_back(value):
    assert read(options.TIME, messages.format_time(value)) == value


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_all_spellings_of_a_time_agree(h, m, s):
    spellings = (f"{h}:{m:02d}:{s:02d}", f"{h}h{m}m{s}s", f"{3600 * h + 60 * m + s}", f"{60 * h + m}m{s}s")
    assert {read(options.TIME, text) for text in spellings} == {3600.0 * h + 60 * m + s}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:23.5", 83.5),
        ("90s", 90),
        ("25m", 1500),
        ("1h", 3600),
        (".5", 0.5),
        ("0", 0),
        ("75:00", 4500),
        ("1h2m3s", 3723),
    ],
)
def test_times(text, value):
    assert read(options.TIME, text) == value


@pytest.mark.parametrize(
    "text", ["", "-1", "1:60", "1:2:3:4", "1:60:00", "s", "1m1h", "1e3", "nan", "inf", "5ms", "٣", "9" * 400]
)
def test_no_times(text):
    with pytest.raises(UsageError, match=r"is not a time|is too long"):
        read(options.TIME, text)


@given(factors)
def test_a_gain_is_read_back(value):
    assert read(options.GAIN, repr(value)) == value


@given(st.floats(-200, 200))
def test_decibels_are_read_as_an_amplitude(db):
    expected = 10 ** (db / 20)
    for text in (f"{db!r}dB", f"{db!r} DB"):
        assert math.isclose(read(options.GAIN, text), expected, rel_tol=1e-15)
    assert math.isclose(read(options.DECIBELS, repr(db)), expected, rel_tol=1e-15)


@pytest.mark.parametrize("text", ["", "loud", "nan", "inf", "1e999", "0x10", "6 dBm", "9999999dB", "--6"])
def test_no_gains(text):
    with pytest.raises(UsageError):
        read(options.GAIN, text)


@given(names, factors)
def test_an_operand_is_split_at_its_gain(name, factor):
    path = f"d:/{name}.lat"
    assert options.split_operand(f"{path}:{factor!r}") == (path, factor, 0.0)
    assert options.split_operand(path) == (path, 1.0, 0.0)


@pytest.mark.parametrize("text", [r"C:\stems\a.lat", "a:b.lat", "a.lat", ":", "-", "12:30 live.lat"])
def test_colons_belong_to_paths(text):
    assert options.split_operand(text) == (text, 1.0, 0.0)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a.lat", ("a.lat", 1.0, 0.0)),
        ("a.lat@1:23.5", ("a.lat", 1.0, 83.5)),
        ("a.lat:0.5@2", ("a.lat", 0.5, 2.0)),
        ("a.lat:-6dB@-0:30", ("a.lat", 10 ** (-6 / 20), -30.0)),
        ("-:2@90s", ("-", 2.0, 90.0)),
        ("-@1", ("-", 1.0, 1.0)),
        ("me@home.lat", ("me@home.lat", 1.0, 0.0)),
        ("me@home.lat:0.5", ("me@home.lat", 0.5, 0.0)),
        ("me@home.lat@3", ("me@home.lat", 1.0, 3.0)),
        ("a.lat:-inf", ("a.lat", 0.0, 0.0)),
    ],
)
def test_an_offset_follows_an_at(text, parts):
    assert options.split_operand(text) == parts


def test_a_file_with_an_at_in_its_name_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x@2", "y@1:30", "z"):
        (tmp_path / name).touch()
    assert options.split_operand("x@2") == ("x@2", 1.0, 0.0)
    assert options.split_operand("x@2:0.5") == ("x@2", 0.5, 0.0)  # and not x at 2 min 0.5 s
    assert options.split_operand("z@2:0.5") == ("z", 1.0, 120.5)
    assert options.split_operand("y@1:30@4") == ("y@1:30", 1.0, 4.0)
    assert options.split_operand("z:0.5@2") == ("z", 0.5, 2.0)


@pytest.mark.parametrize("text", ["a.lat@soon", "a.lat@", "-@x", "a.lat@2:-6dB", "a.lat@1:75"])
def test_no_offsets(text):
    with pytest.raises(UsageError, match=r"1:23\.5"):
        options.split_operand(text)


def test_curves():
    assert read(options.POINTS, "0:-inf 2:0dB, 1:58:0.5,60s:-1") == [(0, 0), (2, 1), (118, 0.5), (60, -1)]
    for text, says in {
        "": "no points",
        "3": "TIME:GAIN",
        "0:loud": "'loud' is not a gain",
        "soon:1": "'soon' is not a time",
        "0:9999dB": "too large",
    }.items():
        with pytest.raises(UsageError, match=says):
            read(options.POINTS, text)


@given(st.text(max_size=20))
@settings(deadline=None)
def test_no_text_is_more_than_refused(value):
    for kind in ("seconds", "offset", "gain", "decibels", "factor", "points"):
        message = ""
        try:
            getattr(header, f"parse_{kind}")(value)
        except ValueError as e:
            message = str(e)
        assert "\n" not in message


def test_the_last_colon_begins_the_gain():
    assert options.split_operand(r"C:\a.lat:-1") == (r"C:\a.lat", -1.0, 0.0)
    assert options.split_operand("a:1:0.5") == ("a:1", 0.5, 0.0)
    assert options.split_operand("-:2") == ("-", 2.0, 0.0)


@pytest.mark.parametrize(("text", "value"), [("44100", 44100), ("44.1k", 44100), ("48 kHz", 48000), ("8000Hz", 8000)])
def test_rates(text, value):
    assert read(options.RATE, text) == value


@pytest.mark.parametrize("text", ["0", "-1", "44.1", "fast", "1e6k", "99999999"])
def test_no_rates(text):
    with pytest.raises(UsageError, match="is not a sample rate"):
        read(options.RATE, text)


def test_settings_are_pairs():
    assert read(options.SETTING, "c=x=y") == options.Setting("c", "x=y")
    with pytest.raises(UsageError, match=r"is not KEY=VALUE; for example: .* data\.batch=8"):
        read(options.SETTING, "a")


def test_a_factor_that_looks_like_decibels_is_noted(capsys):
    assert read(options.OPERAND, "x.lat:-3") == ("x.lat", -3.0, 0.0)
    assert "write x.lat:-3dB for decibels" in capsys.readouterr().err
    for text in ("x.lat:-1", "x.lat:-3dB", "x.lat:-0.5", "x.lat:2", "x.lat:-inf"):
        read(options.OPERAND, text)
    assert capsys.readouterr().err == ""


def test_stdout_has_one_name():
    for name in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        assert read(options.PATH, name) == "-"
    assert read(options.PATH, "/dev/fd/12") == "/dev/fd/12"
