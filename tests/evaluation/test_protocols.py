"""The paper's protocols on systems whose errors are known in closed form."""

import math

import numpy as np
import pytest
from eval_helpers import RATE, STEMS, Affine, Counting, stems

from lincae_core.evaluation.dataset import Audio
from lincae_core.evaluation.metrics import LIMIT_DB
from lincae_core.evaluation.protocols import GAINS, Session, measure_track, relative_error, stereo_leaks
from lincae_core.evaluation.references import Identity


def track(names=STEMS, seconds=0.6):
    signals = stems(seconds, names)
    return Audio(signals, np.sum(list(signals.values()), axis=0, dtype=np.float32))


def measured(system, audio, **kwargs):
    """Mean values by (measure, metric, target)."""
    found = measure_track(Session(system, audio), **kwargs)
    return {(m.measure, m.metric, m.target): float(np.mean(m.values)) for m in found}


@pytest.fixture(scope="module")
def audio():
    return track()


@pytest.fixture(scope="module")
def affine(audio):
    return measured(Affine(), audio)


@pytest.fixture(scope="module")
def offset(audio):
    return Affine().offset[: len(audio.mixture)].astype(np.float64)


def energy(x):
    return float(np.sum(np.asarray(x, np.float64) ** 2))


def db(signal, error):
    return 10 * math.log10(energy(signal) / energy(error))


def test_identity_is_perfect(audio):
    found = measured(Identity(), audio)
    best = {"mss": 0, "sdr": LIMIT_DB, "si_sdr": LIMIT_DB, "error": 0, "tone": 1, "octaves": 0}
    for (measure, metric, target), value in found.items():
        assert value == pytest.approx(best[metric], abs=1e-3), (measure, metric, target)
    waves = [("recon", "mixture"), ("hom", "mixture"), ("add", "mixture"), *(("recon", s) for s in STEMS)]
    waves += [*((f"add{k}", "sum") for k in (2, 3, 4)), *(("sep", s) for s in STEMS)]
    expected = {(a, metric, b) for a, b in waves for metric in ("mss", "sdr", "si_sdr")}
    expected |= {(a, metric, b) for a, b in waves if a in ("recon", "sep") for metric in ("tone", "octaves")}
    assert set(found) == expected | {("enc_hom", "error", "mixture"), ("enc_add", "error", "mixture")}


def test_identity_in_16_bits_is_nearly_perfect(audio):
    """What is left is the rounding, and the clipping of what a gain brings beyond full scale."""
    quiet = Audio(audio.stems, audio.mixture)
    assert np.abs(1.5 * quiet.mixture).max() < 1
    found = {
        (m.measure, m.metric): np.mean(m.values) for m in measure_track(Session(Identity(), quiet, "cpu", "PCM_16"))
    }
    for measure in ("recon", "hom", "add", "sep"):
        assert 50 < found[measure, "sdr"] < LIMIT_DB
        assert 0 < found[measure, "mss"] < 0.05


def test_reconstruction(affine):
    for target in ("mixture", *STEMS):
        assert affine["recon", "sdr", target] > 90
        assert affine["recon", "mss", target] < 1e-3


def test_homogeneity(affine, audio, offset):
    """``D(a E(m)) - a m = (a - 1) b``; a segment's figure is its mean over the gains."""
    wanted = np.mean([db(a * audio.mixture, (a - 1) * offset) for a in GAINS])
    assert affine["hom", "sdr", "mixture"] == pytest.approx(wanted, abs=0.01)


def test_homogeneity_at_chosen_gains(audio, offset):
    found = measured(Affine(), audio, gains=(0.5, -1.0))
    wanted = np.mean([db(0.5 * audio.mixture, 0.5 * offset), db(audio.mixture, 2 * offset)])
    assert found["hom", "sdr", "mixture"] == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_additivity_of_some_sources(affine, audio, offset, k):
    """``D(E(s_1) + ... + E(s_k))`` is off by ``(k - 1) b``."""
    truth = np.sum([audio.stems[s] for s in STEMS[:k]], axis=0)
    assert affine[f"add{k}", "sdr", "sum"] == pytest.approx(db(truth, (k - 1) * offset), abs=0.01)


def test_additivity_of_all_is_against_the_mixture(affine, audio, offset):
    for metric in ("mss", "sdr", "si_sdr"):
        assert affine["add", metric, "mixture"] == affine["add4", metric, "sum"]
    three = track(("drums", "other", "vocals"))
    found = measured(Affine(), three)
    assert found["add", "sdr", "mixture"] == pytest.approx(db(three.mixture, 2 * offset), abs=0.01)
    assert ("add4", "sdr", "sum") not in found


@pytest.mark.parametrize("stem", STEMS)
def test_separation(affine, audio, offset, stem):
    """``D(E(m) - E(m - s)) = s - b``."""
    assert affine["sep", "sdr", stem] == pytest.approx(db(audio.stems[stem], offset), abs=0.01)


def test_encoder_errors(affine, audio, offset):
    m = audio.mixture.astype(np.float64)
    errors = [abs(1 - a) * np.linalg.norm(offset) / np.linalg.norm(a * (m + offset)) for a in GAINS]
    assert affine["enc_hom", "error", "mixture"] == pytest.approx(np.mean(errors), rel=1e-3)
    wanted = 3 * np.linalg.norm(offset) / np.linalg.norm(m + 4 * offset)
    assert affine["enc_add", "error", "mixture"] == pytest.approx(wanted, rel=1e-3)


def test_an_encoder_of_degree_two_is_off_by_the_gain(audio):
    class Square(Identity):
        def encode(self, audio):
            return audio * np.abs(audio)

    found = measured(Square(), audio)
    assert found["enc_hom", "error", "mixture"] == pytest.approx(np.mean([abs(a - 1) for a in GAINS]), rel=1e-4)


def test_mss_agrees_with_auraloss(affine, audio):
    import auraloss
    import torch

    metric = auraloss.freq.MultiResolutionSTFTLoss(
        fft_sizes=[512, 2048, 4096], hop_sizes=[220, 551, 1102], win_lengths=[441, 1102, 2205], scale="mel",
        n_bins=80, sample_rate=RATE,
    )  # fmt: skip
    system = Affine()
    estimate = system.decode(sum(system.encode(x) for x in audio.stems.values()), len(audio.mixture))
    with torch.no_grad():
        wanted = float(metric(torch.from_numpy(estimate)[None, None], torch.from_numpy(audio.mixture)[None, None]))
    assert affine["add", "mss", "mixture"] == pytest.approx(wanted, rel=1e-4)
    assert wanted > 0.1


def test_stereo_is_measured_where_the_files_are_stereo(audio):
    both = np.stack([audio.mixture, 0.5 * audio.stems["vocals"]])
    found = measured(Identity(), Audio(audio.stems, audio.mixture, both))
    assert found["stereo", "image", "mixture"] == 0
    for case in ("dual_mono", "hard_panned", "antiphase"):
        assert found["stereo", case, "mixture"] == -LIMIT_DB
    assert not [key for key in measured(Identity(), audio) if key[0] == "stereo"]


def test_a_noise_of_its_own_in_each_channel_is_heard_in_every_case(audio):
    """The kind of decoder that makes dual mono wide, fills an empty channel and adds a middle to antiphase."""

    class Noisy(Identity):
        draw = np.random.default_rng(0)

        def decode(self, latent, num_samples):
            return latent[:num_samples] + 0.01 * self.draw.standard_normal(num_samples).astype(np.float32)

    found = stereo_leaks(Noisy(), audio.mixture)
    assert all(-40 < level < -10 for level in found.values()), found


def test_mid_side_decoding_leaks_between_hard_panned_channels(audio):
    """Half the volume of the side alone: dual mono and antiphase stay exact, the empty channel does not."""

    class Sides(Identity):
        def roundtrip(self, audio):
            middle, side = (audio[0] + audio[1]) / 2, (audio[0] - audio[1]) / 4
            return np.stack([middle + side, middle - side])

    found = stereo_leaks(Sides(), audio.mixture)
    assert found["dual_mono"] == found["antiphase"] == -LIMIT_DB
    assert found["hard_panned"] == pytest.approx(20 * math.log10(0.25 / 0.75), abs=0.01)


def test_a_decoder_that_repeats_its_frames_is_told_by_tone_and_not_by_octaves(audio):
    """A buzz at 86 Hz with about the right spectrum, in reconstruction and in separation."""

    class Buzzing(Identity):
        def decode(self, latent, num_samples):
            frames = np.resize(latent, (num_samples // 2048 + 1, 2048))
            return np.tile(frames[:, :512], 4).ravel()[:num_samples]

    found = measured(Buzzing(), track(seconds=2.0))
    honest = measured(Identity(), track(seconds=2.0))
    for measure, target in (("recon", "mixture"), ("sep", "drums")):
        assert found[measure, "tone", target] > 4
        assert honest[measure, "tone", target] == pytest.approx(1, abs=0.01)
        assert found[measure, "octaves", target] < 6


class Praise:
    """A judge who says what it was asked about."""

    def __init__(self):
        self.asked = []

    def scores(self, estimate, target, sample_rate, *, speech=False):
        self.asked.append((len(target), speech))
        return {"visqol": 5.0, "notes": math.nan, **({"stoi": 1.0} if speech else {})}


def test_judges_hear_mixtures_vocals_and_separated_vocals(audio):
    judges = Praise()
    found = measure_track(Session(Identity(), audio, judges=judges))
    judged = {(m.measure, m.metric, m.target): m.values for m in found if m.metric in ("visqol", "notes", "stoi")}
    assert judged == {
        ("recon", "visqol", "mixture"): [5], ("recon", "visqol", "vocals"): [5], ("recon", "stoi", "vocals"): [1],
        ("sep", "visqol", "vocals"): [5], ("sep", "stoi", "vocals"): [1],
    }  # fmt: skip
    assert judges.asked == [(len(audio.mixture), False), (len(audio.mixture), True), (len(audio.mixture), True)]


def test_si_sdr_forgives_the_volume(audio):
    class Half(Identity):
        def decode(self, latent, num_samples):
            return np.float32(0.5) * latent[:num_samples]

    found = measured(Half(), audio)
    assert found["recon", "sdr", "mixture"] == pytest.approx(20 * math.log10(2), abs=1e-3)
    assert found["recon", "si_sdr", "mixture"] == LIMIT_DB
    assert found["sep", "mss", "vocals"] == pytest.approx(0.5 + math.log(2), abs=0.05)


def test_a_codec_without_arithmetic_is_reconstructed_only(audio):
    class Codec(Identity):
        linear = False

    assert {key[0] for key in measured(Codec(), audio)} == {"recon"}


def test_a_track_without_stems():
    found = measured(Affine(), Audio({}, track().mixture))
    assert {key[0] for key in found} == {"recon", "hom", "enc_hom"}
    found = measured(Affine(), track(("vocals",)))
    assert {key[0] for key in found} == {"recon", "hom", "enc_hom"}


def test_silence_has_no_figures():
    audio = track()
    audio.stems["bass"][:] = 0
    found = measured(Affine(), Audio(audio.stems, np.sum(list(audio.stems.values()), axis=0)))
    assert ("sep", "mss", "bass") not in found
    assert ("sep", "mss", "drums") in found


def test_every_segment_has_a_value():
    audio = track(("drums", "vocals"), 16)
    audio.stems["drums"][: 10 * RATE] = 0
    found = measure_track(Session(Identity(), audio), gains=(0.5,))
    values = {(m.measure, m.target): len(m.values) for m in found if m.metric == "mss"}
    assert (values["recon", "mixture"], values["sep", "drums"]) == (2, 1)


def test_nothing_is_encoded_twice(audio):
    system = Counting()
    measure_track(Session(system, audio))
    # the warm-up, the mixture, the stems, the mixture at every gain, every accompaniment
    assert system.count == 1 + 1 + 4 + len(GAINS) + 4


def test_what_is_kept_to_listen_to(audio):
    session = Session(Identity(), audio)
    measure_track(session)
    heard = session.heard
    assert [(operation, target) for operation, target, *_ in heard] == [
        ("recon", "mixture"), ("half", "mixture"), ("sum", "mixture"), ("sep", "vocals"),
    ]  # fmt: skip
    for operation, target, estimate, truth in heard:
        assert np.allclose(estimate, truth, atol=1e-5)
        wanted = audio.stems["vocals"] if target == "vocals" else audio.mixture
        assert np.allclose(truth, 0.5 * wanted if operation == "half" else wanted, atol=1e-5)


def test_relative_error_of_nothing():
    assert relative_error(np.zeros(3), np.zeros(3)) == 0
    assert relative_error(np.ones(4), np.ones(4)) == 0
    assert relative_error(np.array([2.0, 0]), np.array([1.0, 0])) == 1


def test_a_silent_mixture_says_nothing():
    """Not of its distances, and not of the encoder: its latents are no reference."""
    silence = np.zeros(RATE, np.float32)
    assert measured(Affine(), Audio({"bass": silence, "drums": silence}, silence)) == {}
    loud = stems(1.0, ("bass",))["bass"]
    found = measured(Affine(), Audio({"bass": loud, "drums": -loud}, silence))  # stems that cancel
    assert {(measure, target) for measure, _, target in found} >= {("recon", "bass"), ("sep", "drums")}
    assert not {measure for measure, _, _ in found} & {"enc_hom", "enc_add"}
