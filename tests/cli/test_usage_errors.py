"""Whatever is typed wrong is answered by one line that says what to type instead."""

import click
import pytest
from cli_helpers import make_lat

from lincae_cli.app import COMMANDS, root

WRONG = [
    # command line, exit code, what the line must say
    ("encod a.wav", 2, "did you mean: lincae encode"),
    ("qqqqqq", 2, "lincae --help"),
    ("models lst", 2, "did you mean: lincae models list"),
    ("--versio", 2, "did you mean --version"),
    ("mix", 2, "LAT[:GAIN][@TIME] is missing; for example: lincae mix"),
    ("gain a.lat --gain -6dB", 2, "did you mean --db"),
    ("gain a.lat --treshold 3", 2, "see: lincae gain --help"),
    ("gain a.lat --forc", 2, "did you mean --force"),
    ("decode a.lat --rate 48000", 2, "did you mean --sample-rate"),
    ("decode a.lat --out x.wav", 2, "did you mean --output"),
    ("decode a.lat --bits 24", 2, "did you mean --subtype"),
    ("encode a.wav --gpu", 2, "did you mean --device"),
    ("encode a.wav --threads 4", 2, "did you mean --jobs"),
    ("help gian", 2, "did you mean: lincae gain"),
    ("mix a.lat", 2, "-o out.lat"),
    ("mix a.lat --ouput x.lat", 2, "did you mean --output"),
    ("mix a.lat -o", 2, "requires an argument"),
    ("mix a.lat -o out.wav", 2, "lincae decode out.lat -o out.wav"),
    ("mix a.lat -o out.lat --length longst", 2, "did you mean --length longest"),
    ("mix a.lat -o out.lat --sample-rate fast", 2, "--sample-rate 48000"),
    ("mix a.lat:0.5x -o out.lat", 2, "a.lat:0.5"),
    ("mix a.lat: -o out.lat", 2, "a.lat:-6dB"),
    ("mix a.lat:1e999 -o out.lat", 2, "smaller number"),
    ("mix - - -o out.lat", 2, "only once"),
    ("mix missing.lat -o out.lat", 1, "missing.lat: no such file"),
    ("mix b.lat -o out.lat", 1, "did you mean a.lat"),
    ("mix folder -o out.lat", 1, "folder/*.lat"),
    ("mix a.lat -o none/out.lat", 1, "mkdir -p"),
    ("mix note.txt -o out.lat", 1, "note.txt"),
    ("gain a.lat -o out.lat", 2, "--db -6"),
    ("gain a.lat --db -6 --factor 0.5 -o out.lat", 2, "keep one"),
    ("gain a.lat --db loud -o out.lat", 2, "--db -6"),
    ("gain a.lat --factor -6dB -o out.lat", 2, "--db -6"),
    ("gain a.lat --factor nan -o out.lat", 2, "--factor 0.5"),
    ("gain a.lat --db 1 --lines db -o out.lat", 2, "--curve"),
    ("gain a.lat a.lat --db 1 -o out.lat", 2, "-o out/"),
    ("subtract a.lat -o out.lat", 2, "PART is missing"),
    ("info", 2, "LAT is missing"),
    ("info folder", 1, "no .lat files"),
    ("info a.lat -x", 2, "lincae info --help"),
    ("verify missing.lat", 1, "missing.lat: no such file"),
    ("encode a.lat", 2, "did you mean: lincae decode a.lat"),
    ("encode a.wav --dtype float61", 2, "did you mean --dtype float16"),
    ("encode a.wav --quality lossless", 2, "use one of low, medium, high, exact"),
    ("encode a.wav --quality low --dtype float16", 2, "keep --quality low"),
    ("encode a.wav --jobs 0", 2, "--jobs 1"),
    ("encode a.wav --device gpu", 2, "--device auto, cpu, cuda or cuda:0"),
    ("encode a.wav -o a.flac", 2, "write -o a.lat"),
    ("encode a.wav b.wav -o -", 2, "-o FOLDER/"),
    ("encode a.wav b.wav -o note.txt", 2, "is a file"),
    ("encode a.wav b.wav -o x.lat", 2, "give a folder: -o x/"),
    ("decode a.lat b.lat -o x.flac", 2, "give a folder: -o x/"),
    ("encode a.wav a.flac", 2, "would both be written to a.lat"),
    ("encode a.wav", 1, "--force"),
    ("encode - -o folder", 2, "folder/name.lat"),
    ("decode a.wav", 2, "did you mean: lincae encode a.wav"),
    ("decode a.lat --start soon", 2, "--start 1:23.5"),
    ("decode a.lat --start 5 --end 3", 2, "later --end"),
    ("decode a.lat --end 5 --duration 3", 2, "keep one"),
    ("decode a.lat --start -3 --end -5", 2, "later --end"),
    ("decode a.lat --duration 0", 2, "--duration 25m"),
    ("decode a.lat -o out", 2, "or a slash for a folder: -o out/"),
    ("decode a.lat --steps 0", 2, "--steps 1"),
    ("decode a.lat --format MPEG", 2, "WAV"),
    ("decode a.lat -o out.xyz", 2, ".wav"),
    ("train missing.yaml", 1, "missing.yaml"),
    ("train note.txt --budget now", 2, "--budget"),
    ("train note.txt --set lr", 2, "KEY=VALUE"),
    ("models show", 2, "lincae models show"),
]


@pytest.fixture
def folder(cli):
    """A working folder with a .lat file, a text file and a folder."""
    make_lat(cli.folder / "a.lat")
    (cli.folder / "note.txt").write_text("no latents")
    (cli.folder / "folder").mkdir()
    return cli.folder


@pytest.mark.parametrize(("line", "code", "remedy"), WRONG, ids=[row[0] for row in WRONG])
def test_one_line_that_names_the_remedy(folder, cli, line, code, remedy):
    before = sorted(folder.rglob("*"))
    assert remedy in cli.refused(code, *line.split())
    assert sorted(folder.rglob("*")) == before


def commands(text):
    """The commands that a help lists."""
    return [line.split()[0] for line in text.split("Commands:\n")[1].split("\n\n")[0].splitlines()]


def test_alone_it_prints_its_help(cli):
    text = cli.ok()
    assert text == cli.ok("--help") == cli.ok("-h") == cli.ok("help")
    assert commands(text) == list(COMMANDS)


@pytest.mark.parametrize("command", [*COMMANDS, *(f"models {name}" for name in ("list", "show", "pull", "import")), ""])
def test_help_ends_with_an_example(cli, command):
    text = cli.ok(*command.split(), "--help")
    assert text == cli.ok(*command.split(), "-h") == cli.ok("help", *command.split())
    assert text.rstrip().split("Example:\n")[1].strip().startswith(f"lincae {command}".strip())


SHORT = {"-o": "--output", "-j": "--jobs", "-f": "--force", "-u": "--update", "-h": "--help", "-0": "--null"}


@pytest.mark.parametrize("command", COMMANDS)
def test_one_thing_has_one_spelling(command):
    found = root.get_command(click.Context(root), command)
    for param in found.params:
        for short in (name for name in param.opts if not name.startswith("--") and name.startswith("-")):
            assert SHORT[short] in param.opts
        assert not {"--rate", "--json-output", "--overwrite"} & set(param.opts)
    names = {name for param in found.params for name in param.opts}
    assert "--out" not in names or command == "fade", "where results go is called --output"


def test_version(cli):
    from lincae_formats import __version__

    assert cli.ok("--version") == f"lincae {__version__}\n"
