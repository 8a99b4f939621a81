"""Anyone's wav files: windows, classes and splits, what is skipped, and what is refused in one line."""

import logging

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from genlab.core.errors import UserError
from genlab.core.spec import Field
from genlab.core.units import to_levels
from genlab.data.audio import coded, wav
from genlab.data.audio_folder import AudioFolder

NAMES = ("train", "validation", "test")


def sound(path, v, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav(v, rate))


def fill(folder, count, length=10):
    for i in range(count):
        sound(folder / f"{i:03d}.wav", torch.full((length,), 0.001 * (i + 1)))


def whole(data):
    """The batches of all splits."""
    return {name: data.split(name).batch(torch.arange(len(data.split(name)))) for name in NAMES}


def test_windows_follow_on_each_other_and_the_last_is_filled_up(tmp_path):
    v = torch.linspace(-0.9, 0.9, 25)
    for i in range(3):
        sound(tmp_path / f"{i}.wav", v)
    data = AudioFolder(str(tmp_path), length=10)
    assert data.spec == {"x": Field((1, 10), levels=256, rate=8000)}
    x = data.split("train").batch(torch.arange(3))["x"]
    assert x.shape == (3, 1, 10)
    assert to_levels(x, 256).flatten().tolist() == [*coded(v).tolist(), *5 * [128]]
    assert len(AudioFolder(str(tmp_path), length=10, rest="drop").split("train")) == 2
    with pytest.raises(UserError, match=r"data\.length=30: no train sound is so long"):
        AudioFolder(str(tmp_path), length=30, rest="drop").split("test")


def test_folders_are_classes_and_no_file_is_in_two_splits(tmp_path):
    fill(tmp_path / "bark", 30)
    fill(tmp_path / "meow" / "deep", 30, length=25)
    data = AudioFolder(str(tmp_path), length=10)
    assert data.classes == ("bark", "meow")
    sizes = {name: batch["label"].bincount(minlength=2).tolist() for name, batch in whole(data).items()}
    assert sum(counts[0] for counts in sizes.values()) == 30
    assert sum(counts[1] for counts in sizes.values()) == 90
    assert all(counts[1] % 3 == 0 for counts in sizes.values())


def test_spoken_digits_are_known_by_their_names(tmp_path):
    for digit in range(10):
        for speaker in ("ann", "bob"):
            for take in range(9):
                sound(tmp_path / "recordings" / f"{digit}_{speaker}_{take}.wav", torch.full((5,), 0.1 * digit))
    data = AudioFolder(str(tmp_path), length=5)
    batches = whole(data)
    assert data.spec["label"].classes == len(data.classes) == 10
    assert {name: len(batch["x"]) for name, batch in batches.items()} == {"train": 40, "validation": 40, "test": 100}
    for batch in batches.values():
        levels = to_levels(batch["x"], 256)[:, 0, 0]
        assert levels.tolist() == coded(0.1 * batch["label"]).tolist()
    for take in range(5):
        (tmp_path / "recordings" / f"3_bob_{take}.wav").unlink()
    with pytest.raises(UserError, match="of the digit 3 by bob there is no test take"):
        AudioFolder(str(tmp_path), length=5).split("test")


def test_a_broken_sound_is_named_and_skipped_and_many_are_refused(tmp_path, caplog):
    fill(tmp_path, 200)
    (tmp_path / "007.wav").write_bytes(b"no sound")
    with caplog.at_level(logging.WARNING):
        data = AudioFolder(str(tmp_path), length=10)
        assert sum(len(data.split(name)) for name in NAMES) == 199
    assert "skipped a broken sound" in caplog.text
    assert "007.wav" in caplog.text
    for i in range(10, 13):
        (tmp_path / f"{i:03d}.wav").write_bytes(b"")
    with pytest.raises(UserError, match="4 of 200 sounds are broken, more than 1%; one is"):
        AudioFolder(str(tmp_path), length=10).split("train")


def test_rates_and_channels_are_brought_together_or_refused(tmp_path):
    fill(tmp_path / "own", 5, length=40)
    sound(tmp_path / "own" / "more.wav", torch.zeros(80), 16_000)
    assert sum(len(AudioFolder(str(tmp_path / "own"), length=40).split(name)) for name in NAMES) == 6
    with pytest.raises(UserError, match=r"data\.rate=8000: .*more\.wav has 16000 values a second; set"):
        AudioFolder(str(tmp_path / "own"), length=40, resample=False).split("train")

    (tmp_path / "two").mkdir()
    for i in range(3):
        wavfile.write(tmp_path / "two" / f"{i}.wav", 8000, np.array([[8000, 2000]] * 4, np.int16))
    x = AudioFolder(str(tmp_path / "two"), length=4).split("train").batch(torch.arange(1))["x"]
    assert to_levels(x, 256).flatten().tolist() == coded(torch.full((4,), 5000 / 2**15)).tolist()
    with pytest.raises(UserError, match=r"data\.mix=false: .* has 2 channels; data\.mix=true"):
        AudioFolder(str(tmp_path / "two"), length=4, mix=False).split("train")


def test_a_folder_must_be_there_and_hold_sounds(tmp_path, monkeypatch):
    monkeypatch.setenv("GENLAB_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"fsdd: there is no such folder; name your folder of wav files"):
        _ = AudioFolder().spec
    with pytest.raises(UserError, match=r"has no \.wav files"):
        _ = AudioFolder(str(tmp_path)).spec
    fill(tmp_path, 2)
    with pytest.raises(UserError, match="has 2 sounds: a sound is needed for each of three splits"):
        _ = AudioFolder(str(tmp_path)).spec
