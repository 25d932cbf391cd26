"""The scripts of recipes/examples, as cron would run them: on small files, again, with odd names, with bad files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from lincae_formats import Header, Latents, read_lat, write_lat

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "recipes" / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.sh"))
ODD = ["two words", "-n", "new\nline", "a:b@2", "$(touch gone)", "'\"*?[x]"]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A folder with the command `lincae` in it."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "lincae").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lincae_cli "$@"\n')
    (folder / "lincae").chmod(0o755)
    return folder


@pytest.fixture
def script(program, tmp_path, monkeypatch):
    """Runs a script in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    path = os.pathsep.join([str(ROOT), str(ROOT / "formats"), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "PATH": f"{program}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    env |= {"XDG_CACHE_HOME": str(tmp_path / ".cache"), "LINCAE_DEBUG": ""}

    def run(name, *arguments):
        done = subprocess.run([EXAMPLES / name, *arguments], env=env, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout, done.stderr

    return run


def lat(path, seed=0, *, level=1.0, num_samples=20_000, fingerprint="sha256:" + "cd" * 32):
    """Random latents in a file."""
    header = Header(44100, num_samples, "m", fingerprint, latent_dim=8)
    data = np.random.default_rng(seed).standard_normal(header.shape).astype(np.float16).astype(np.float32)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_lat(Latents(level * data, header, history=({"op": "encode", "source": "x.wav"},)), path)
    return read_lat(path).data


@pytest.fixture
def measured(tiny_model, tmp_path_factory, monkeypatch):
    """The fingerprint of an installed model by whose table the mean square of latents is their K-weighted power."""
    from safetensors.torch import load_file

    from lincae_core.models.store import read_info, save_weights

    folder = tmp_path_factory.mktemp("measured")
    weights = {"numbers": [1.0], "levels": [1.0]}
    save_weights(
        load_file(tiny_model), read_info(tiny_model).config, folder / "m.safetensors", name="m", version="1",
        license="CC0-1.0", loudness={"weighted": weights, "flat": weights},
    )  # fmt: skip
    monkeypatch.setenv("LINCAE_MODELS", str(folder))
    return read_info(folder / "m.safetensors").fingerprint


def audio(path, seed, seconds=0.4):
    """Noise in a file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.02 * np.random.default_rng(seed).standard_normal(round(44100 * seconds)), 44100)


def contents(folder):
    """Relative path -> bytes of every file that is not hidden."""
    files = (p for p in Path(folder).rglob("*") if p.is_file() and not p.name.startswith("."))
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def times(folder):
    """Relative path -> time of change of every file that is not hidden."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in Path(folder).rglob("[!.]*.*") if p.is_file()}


def test_all_of_them_can_be_run():
    assert SCRIPTS == [
        "align-album.sh", "encode-parallel.sh", "extract-stems.sh", "minus-one.sh", "read-faders.sh",
        "remix-library.sh", "reopen-mix.sh",
    ]  # fmt: skip
    for name in SCRIPTS:
        text = (EXAMPLES / name).read_text()
        assert os.access(EXAMPLES / name, os.X_OK)
        assert text.startswith("#!/usr/bin/env bash\n")
        assert "set -euo pipefail" in text


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="there is no shellcheck")
@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_has_nothing_to_say(name):
    done = subprocess.run(["shellcheck", EXAMPLES / name], capture_output=True, text=True)
    assert done.stdout == ""


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_and_wrong_usage(script, name, tmp_path):
    code, out, err = script(name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: {name} ")
    code, nothing, err = script(name)
    assert (code, nothing, err) == (2, "", out)
    folders = {"extract-stems.sh": ["none", "none"]}.get(name, ["none"])
    more = {"remix-library.sh": ["a=1"]}.get(name, [])
    code, _, err = script(name, *folders, "out", *more)
    assert (code, err) == (2, f"{name}: none: no such folder\n")
    assert list(tmp_path.iterdir()) == []
    if name == "encode-parallel.sh":
        return
    # The results would be taken for sources the next time.
    Path("in").mkdir()
    code, _, err = script(name, *("in" for _ in folders), "in/out", *more)
    assert (code, err) == (2, f"{name}: in/out lies in in; name another OUT\n")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("extract-stems.sh", ["in", "in", "out", "mp4"]),
        ("remix-library.sh", ["in", "out", "drums"]),
        ("remix-library.sh", ["in", "out", "drums=loud"]),
        ("align-album.sh", ["in", "out", "1;reboot"]),
        ("minus-one.sh", ["in", "out", "-f"]),
        ("encode-parallel.sh", ["in", "out", "none"]),
    ],
)
def test_wrong_values_are_answered_by_the_usage(script, name, arguments):
    Path("in").mkdir()
    code, out, err = script(name, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"usage: {name} ")


@pytest.mark.slow
def test_stems_from_audio_to_audio(script):
    for i, name in enumerate(("a", "album/b")):
        audio(f"mixes/{name}.wav", i)
        audio(f"karaoke/{name}.flac", 10 + i)
    assert script("extract-stems.sh", "mixes", "karaoke", "out", "flac") == (0, "", "")
    assert sorted(contents("out")) == [
        "audio/a.flac", "audio/album/b.flac", "latents/accompaniments/a.lat", "latents/accompaniments/album/b.lat",
        "latents/mixes/a.lat", "latents/mixes/album/b.lat", "stems/a.lat", "stems/album/b.lat",
    ]  # fmt: skip
    for name in ("a", "album/b"):
        parts = [read_lat(f"out/latents/{k}/{name}.lat").data for k in ("mixes", "accompaniments")]
        error = read_lat(f"out/stems/{name}.lat").data - (parts[0] - parts[1])
        assert np.square(error).mean() < 3e-3 * np.square(parts[0]).mean()  # sums are rounded to integers
        assert sf.info(f"out/audio/{name}.flac").frames == sf.info(f"mixes/{name}.wav").frames
    before, changed = contents("out"), times("out")
    for gone in ("stems/a.lat", "audio/a.flac", "audio/album/b.flac"):
        (Path("out") / gone).unlink()
    code, out, err = script("extract-stems.sh", "mixes/", "karaoke/", "out/", "flac")
    assert (code, out) == (0, ""), err
    assert all("were finished already" in line for line in err.splitlines())
    assert contents("out") == before
    again = {k for k, v in times("out").items() if v != changed[k]}
    assert again == {"stems/a.lat", "audio/a.flac", "audio/album/b.flac"}


def test_stems_of_odd_names_from_lats_and_files_that_fail(script):
    wholes = {name: lat(f"-m/{name}.lat", i) for i, name in enumerate(ODD)}
    parts = {name: lat(f"-p/{name}.lat", 50 + i) for i, name in enumerate(ODD)}
    lat("-m/alone.lat")
    Path("-m/bad.lat").write_bytes(b"no lat")
    lat("-p/bad.lat")
    code, out, err = script("extract-stems.sh", "-m", "-p", "-o")
    assert (code, out) == (1, "")
    assert "-p/alone.lat: no such file" in err
    assert "-m/bad.lat: not a .lat file" in err
    assert "2 of 8 files failed; the others are done" in err
    assert sorted(contents("-o/stems")) == sorted(f"{name}.lat" for name in ODD)
    for name in ODD:
        np.testing.assert_allclose(read_lat(f"./-o/stems/{name}.lat").data, wholes[name] - parts[name], atol=6e-3)
    assert not Path("gone").exists()


def encoded_whole(names=("a", "b", "c d", "album/e")):
    """Folder `in` with audio, and `whole` with what one run makes of it."""
    for i, name in enumerate(names):
        audio(f"in/{name}.wav", i)
    subprocess.run([sys.executable, "-m", "lincae_cli", "encode", "in", "-o", "whole"], check=True)
    return contents("whole")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("parallel") is None, reason="there is no GNU parallel")
def test_a_folder_is_encoded_by_parallel(script):
    wanted = encoded_whole()
    code, out, err = script("encode-parallel.sh", "in/", "out", "3")
    assert (code, out) == (0, "")
    assert len([line for line in err.splitlines() if ": note: shard " in line]) == 3
    assert contents("out") == wanted
    Path("in/bad.wav").write_bytes(b"no audio")
    (Path("out") / "a.lat").unlink()
    code, _, err = script("encode-parallel.sh", "in", "out", "2")
    assert code == 1
    assert "in/bad.wav is not audio" in err
    assert contents("out") == wanted


@pytest.mark.slow
def test_a_folder_is_encoded_by_a_slurm_array(script, program, monkeypatch):
    """The script of the array, with srun stood in for: Slurm itself is not here."""
    wanted = encoded_whole()
    (program / "srun").write_text('#!/bin/sh\nexec "$@"\n')
    (program / "srun").chmod(0o755)
    path = os.pathsep.join([str(ROOT), str(ROOT / "formats")])
    slurm = {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_CPUS_PER_TASK": "1"}
    env = {**os.environ, **slurm, "PYTHONPATH": path, "PATH": f"{program}:{os.environ['PATH']}"}
    array = EXAMPLES / "encode-array.sbatch"
    assert "#SBATCH --array=1-16\n" in array.read_text()
    for task in ("2", "1", "1"):
        subprocess.run(["bash", array, "in", "out"], env={**env, "SLURM_ARRAY_TASK_ID": task}, check=True)
    assert contents("out") == wanted
    env |= {"PARTS": "4", "SLURM_ARRAY_TASK_ID": "3"}
    done = subprocess.run(["bash", array, "in", "more"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents("more").items() <= wanted.items()
    assert subprocess.run(["bash", array, "in"], env=env, capture_output=True).returncode == 2


@pytest.mark.slow
def test_audio_that_cannot_be_encoded_stops_nothing(script):
    for name in ("a", "b"):
        audio(f"mixes/{name}.wav", 1)
        audio(f"karaoke/{name}.wav", 2)
    Path("mixes/a.wav").write_bytes(b"no audio")
    code, _, err = script("extract-stems.sh", "mixes", "karaoke", "out", "wav")
    assert code == 1
    assert "mixes/a.wav" in err
    assert sorted(contents("out/audio")) == ["b.wav"]


def test_a_library_is_remixed(script):
    names = [*ODD, "album/song", ".hidden"]
    stems = {n: {k: lat(f"-lib/{n}/{k}.lat", 10 * i + j) for j, k in enumerate("bdv")} for i, n in enumerate(names)}
    lat("-lib/drums only/d.lat", 99)
    arguments = ("remix-library.sh", "-lib/", "-out/", "v=-6dB", "d=0.5")
    assert script(*arguments) == (0, "", "")
    assert sorted(contents("-out")) == sorted(f"{name}.lat" for name in [*names[:-1], "drums only"])
    for name in names[:-1]:
        s = stems[name]
        wanted = s["b"] + 0.5 * s["d"] + 10 ** (-6 / 20) * s["v"]
        np.testing.assert_allclose(read_lat(f"./-out/{name}.lat").data, wanted, atol=1e-2)
    before, changed = contents("-out"), times("-out")
    Path("-out/two words.lat").unlink()
    lat("-lib/drums only/d.lat.new", 98)
    os.replace("-lib/drums only/d.lat.new", "-lib/drums only/d.lat")
    assert script(*arguments) == (0, "", "")
    assert {k for k, v in times("-out").items() if changed[k] != v} == {"two words.lat", "drums only.lat"}
    assert {k for k, v in contents("-out").items() if before[k] != v} == {"drums only.lat"}
    assert not Path("gone").exists()


def test_a_remix_tells_what_is_wrong(script):
    lat("lib/good/a.lat")
    lat("lib/mixed/a.lat")
    lat("lib/mixed/b.lat", fingerprint="sha256:" + "ef" * 32)
    code, _, err = script("remix-library.sh", "lib", "out", "a=2", "choir=0")
    assert code == 1
    assert "lib/mixed/b.lat" in err
    assert "no track has a stem for choir=0" in err
    assert sorted(contents("out")) == ["good.lat"]
    code, _, err = script("remix-library.sh", "lib", "out", "a=3")
    assert (code, err) == (2, "remix-library.sh: out was made with other gains; name another OUT\n")
    Path("empty").mkdir()
    code, _, err = script("remix-library.sh", "empty", "other", "a=3")
    assert (code, err) == (1, "remix-library.sh: empty contains no folder with stems\n")


def lufs(path):
    """Loudness of latents whose K-weighted power is their mean square."""
    return 10 * np.log10(np.square(read_lat(path).data, dtype=np.float64).mean()) - 0.691


@pytest.mark.slow
def test_an_album_gets_one_loudness(measured, script):
    names = [*ODD, "cd 2/last"]
    for i, name in enumerate(names):
        lat(f"-album/{name}.lat", i, level=2.0**-i, fingerprint=measured)
    lat("-album/silence.lat", level=0.0, fingerprint=measured)
    softest = lufs("./-album/cd 2/last.lat")
    assert script("align-album.sh", "-album", "-out") == (0, "", "")
    assert sorted(contents("-out")) == sorted([*(f"{name}.lat" for name in names), "silence.lat"])
    assert [lufs(f"./-out/{name}.lat") for name in names] == pytest.approx([softest] * len(names), abs=0.5)
    assert not read_lat("./-out/silence.lat").data.any()
    # A track is added that is softer still: the others stay.
    changed = times("-out")
    lat("-album/softer.lat", 30, level=2e-2, fingerprint=measured)
    assert script("align-album.sh", "-album/", "-out/") == (0, "", "")
    assert lufs("./-out/softer.lat") == pytest.approx(softest, abs=0.5)
    assert {k for k, v in times("-out").items() if changed.get(k) != v} == {"softer.lat"}
    assert not Path("gone").exists()


@pytest.mark.slow
def test_an_album_gets_the_loudness_asked_for(measured, script):
    lat("album/a.lat", 1, fingerprint=measured)
    lat("album/b.lat", 2, level=0.3, fingerprint=measured)
    Path("album/bad.lat").write_bytes(b"no lat")
    code, out, err = script("align-album.sh", "album", "out", "-12.5")
    assert (code, out) == (1, "")
    assert "album/bad.lat" in err
    assert [lufs(f"out/{name}.lat") for name in "ab"] == pytest.approx([-12.5] * 2, abs=0.5)
    code, _, err = script("align-album.sh", "album", "out", "-6")
    assert code == 2
    assert err.splitlines()[-1] == "align-album.sh: out was made at -12.5 LUFS; name another OUT"


def test_loudness_is_not_the_level_of_the_latents(measured, script):
    """A track that is loud for a moment only is not loud: quiet blocks are gated, as BS.1770 says."""
    lat("album/even.lat", 1, num_samples=441_000, fingerprint=measured)
    z = lat("album/moment.lat", 2, num_samples=441_000, fingerprint=measured)
    header = read_lat("album/moment.lat").header
    z = np.concatenate([z[:, :, :20], 1e-3 * z[:, :, 20:]], axis=2)
    write_lat(Latents(z, header, dtype="float32"), "album/moment.lat", overwrite=True)
    assert script("align-album.sh", "album", "out", "-20") == (0, "", "")
    loud = np.square(read_lat("out/moment.lat").data[:, :, :20], dtype=np.float64).mean()
    assert 10 * np.log10(loud) - 0.691 == pytest.approx(-20, abs=1)


@pytest.mark.slow
def test_an_album_has_one_loudness_after_decoding(script, tmp_path):
    """Of what the shipped model decodes, measured by BS.1770."""
    from lincae_core.audio import AudioReader
    from lincae_core.measure import measure_audio

    stems = ROOT / "lincae_core" / "demo" / "stems"
    lincae = [sys.executable, "-m", "lincae_cli"]
    subprocess.run([*lincae, "encode", stems, "-o", "album/"], check=True, timeout=300)
    code, _, err = script("align-album.sh", "album", "out", "-23")
    assert (code, err) == (0, "")
    subprocess.run([*lincae, "decode", "out", "-o", "wav/", "--subtype", "FLOAT"], check=True, timeout=300)
    found = {}
    for path in sorted(Path("wav").rglob("*.wav")):
        with AudioReader(path) as reader:
            found[path.name] = measure_audio(reader).integrated
    assert len(found) >= 3
    assert all(abs(loudness + 23) < 1 for loudness in found.values()), found


def test_each_stem_is_left_out_once(script):
    names = [*ODD[:3], "album/song"]
    stems = {n: {k: lat(f"-lib/{n}/{k}.lat", 10 * i + j) for j, k in enumerate("bdv")} for i, n in enumerate(names)}
    assert script("minus-one.sh", "-lib", "-out") == (0, "", "")
    assert sorted(contents("-out")) == sorted(f"{name}/minus-{k}.lat" for name in names for k in "bdv")
    for name in names:
        for k in "bdv":
            wanted = sum(stems[name][other] for other in "bdv" if other != k)
            np.testing.assert_allclose(read_lat(f"./-out/{name}/minus-{k}.lat").data, wanted, atol=1e-2)
    changed = times("-out")
    Path("-out/two words/minus-d.lat").unlink()
    assert script("minus-one.sh", "-lib/", "-out/") == (0, "", "")
    assert {k for k, v in times("-out").items() if changed[k] != v} == {"two words/minus-d.lat"}


MUSDB = ("bass", "drums", "other", "vocals")


def musdb(folder, seed=0):
    """A track as MUSDB has it: four stems and their sum, mixture.lat. Returns their latents."""
    stems = {name: lat(f"{folder}/{name}.lat", seed + i) for i, name in enumerate(MUSDB)}
    header = read_lat(f"{folder}/bass.lat").header
    stems["mixture"] = sum(stems.values())
    write_lat(Latents(stems["mixture"], header, dtype="float32"), f"{folder}/mixture.lat")
    return stems


def test_the_mixture_is_no_stem_of_minus_one_tracks(script):
    tracks = {name: musdb(f"lib/{name}", 10 * i) for i, name in enumerate(("a", "b c"))}
    assert script("minus-one.sh", "lib", "out") == (0, "", "")
    assert sorted(contents("out")) == sorted(f"{name}/minus-{stem}.lat" for name in tracks for stem in MUSDB)
    for name, stems in tracks.items():
        for stem in MUSDB:
            rest = stems["mixture"] - (read_lat(f"out/{name}/minus-{stem}.lat").data + stems[stem])
            residual = 10 * np.log10(np.square(rest).mean() / np.square(stems["mixture"]).mean())
            assert residual < -60


def test_the_mixture_is_no_stem_of_a_remix(script):
    stems = musdb("lib/song")
    assert script("remix-library.sh", "lib", "out", "vocals=-inf", "drums=0.5") == (0, "", "")
    wanted = stems["bass"] + 0.5 * stems["drums"] + stems["other"]
    np.testing.assert_allclose(read_lat("out/song.lat").data, wanted, atol=1e-2)


def test_mixes_are_turned_back_into_faders(script):
    stems = {name: lat(f"lib/album/song/{name}.lat", i, num_samples=441_000) for i, name in enumerate(MUSDB)}
    header = read_lat("lib/album/song/bass.lat").header
    mixture = sum(gain * data for gain, data in zip((1, 0.5, 0.25, 2), stems.values(), strict=True))
    write_lat(Latents(mixture, header, dtype="float32"), "lib/album/song/mixture.lat")
    code, out, err = script("read-faders.sh", "lib/", "out/")
    assert (code, out) == (0, "")
    assert sorted(contents("out")) == ["album/song.csv", "album/song.yaml"]
    lincae = [sys.executable, "-m", "lincae_cli"]
    again = ["render", "out/album/song.yaml", "-o", "again.lat", "--allow-outside"]
    subprocess.run([*lincae, *again], check=True, timeout=60, capture_output=True)
    np.testing.assert_allclose(read_lat("again.lat").data, mixture, atol=2e-2)
    changed = times("out")
    assert script("read-faders.sh", "lib", "out") == (0, "", "")
    assert times("out") == changed
    lat("lib/album/song/wrong.lat", 77, num_samples=441_000)
    code, _, err = script("read-faders.sh", "lib", "out")
    assert code == 1
    assert "wrong.lat does not seem to be part of lib/album/song/mixture.lat" in err


def test_a_mix_is_opened_again_on_the_desk(script, program, tmp_path):
    stems = {name: lat(f"lib/song/{name}.lat", i, num_samples=441_000) for i, name in enumerate(MUSDB)}
    header = read_lat("lib/song/bass.lat").header
    write_lat(Latents(sum(stems.values()) / 2, header, dtype="float32"), "lib/song/mixture.lat")
    code, _, err = script("reopen-mix.sh", "lib/song/", "out/", "--no-browser")
    assert code == 1  # these latents have no model
    assert "gain: 0.5" in Path("out/song.yaml").read_text()
    assert "is not installed" in err.splitlines()[-1]
    assert script("reopen-mix.sh", "lib", "out")[2] == "reopen-mix.sh: lib has no mixture.lat with stems\n"


def test_minus_one_as_audio_beside_a_track_of_one_stem(script):
    audio("wav/song/a.wav", 1)
    audio("wav/song/b.wav", 2)
    audio("wav/solo/a.wav", 3)
    subprocess.run([sys.executable, "-m", "lincae_cli", "encode", "wav", "-o", "lib"], check=True)
    code, out, err = script("minus-one.sh", "lib", "out", "wav")
    assert (code, out, err) == (1, "", "minus-one.sh: lib/solo has only one stem\n")
    assert sorted(contents("out/song")) == ["minus-a.lat", "minus-a.wav", "minus-b.lat", "minus-b.wav"]
    assert sf.info("out/song/minus-a.wav").frames == sf.info("wav/song/b.wav").frames
