"""Flows, autoregressive models and their data: what cannot be done is said in one line, and nothing is written."""

import wave
from pathlib import Path

import numpy as np
import pytest
from program import Program, entries
from test_bad_input import assert_one_line

SMALL = ("trainer=debug", "trainer.validate_every=0", "trainer.preview_every=0")

TRAINING = {
    "sides that do not squeeze": (
        ("model=glow", "data=mnist", "data.pad=30", "transform.width=8", "transform.levels=3"),
        ("transform", "30"),
    ),
    "sides that do not squeeze twice": (
        ("model=realnvp", "transform.scales=5", "transform.width=8"),
        ("scales", "8x8"),
    ),
    "one number cannot be split": (
        ("model=nice", "data=tabular", "data.file=one.csv", "preprocess=none"),
        ("transform: 1 dimensions have no two halves",),
    ),
    "a window of a broken rate": (
        ("model=wavenet", "data=audio_folder", "data.root=slow", "data.resample=false"),
        ("data.rate", "4000"),
    ),
    "two channels": (
        ("model=wavenet", "data=audio_folder", "data.root=stereo", "data.mix=false"),
        ("data.mix", "2 channels"),
    ),
    "sounds that are none": (("model=wavenet", "data=audio_folder", "data.root=broken"), ("4 of 4 sounds are broken",)),
    "a character that was not there": (
        ("model=markov_chain", "data=text_file", "data.root=.", "data.path=some.txt", "data.alphabet=ab"),
        ("alphabet", "'c'"),
    ),
    "a text that is too short": (
        ("model=markov_chain", "data=text_file", "data.root=.", "data.path=some.txt", "data.length=5000"),
        ("a window has 5000",),
    ),
    "rows that do not sum to one": (
        ("model=markov_chain", "data=daily_states", "model.matrix=[[0.2,0.7,0.2],[0.5,0.1,0.4],[0.2,0.3,0.5]]"),
        ("model.matrix", "sum"),
    ),
    "a table that is not there": (("model=maf", "data=tabular", "data.file=none.csv"), ("data.file=none.csv",)),
    "patches of no folder": (("model=maf", "data=patches", "data.root=none"), ("data.root=none does not exist",)),
    "a Bernoulli of grey levels": (
        ("model=pixelcnn", "data=digits"),
        ("output=bernoulli is for data of two levels, and these have 17",),
    ),
    "a causal network of another kind of data": (("model=wavenet", "data=digits"), ("causal=wavenet", "sequences")),
}


@pytest.fixture
def folder(here: Path) -> Path:
    """Tables, texts and sounds that are not as they should be."""
    (here / "one.csv").write_text("\n".join(str(i) for i in range(50)))
    (here / "some.txt").write_text("abcabc" * 300)
    for name, rate, channels in (("slow", 4000, 1), ("stereo", 8000, 2)):
        (here / name).mkdir()
        for number in range(4):
            with wave.open(str(here / name / f"{number}.wav"), "wb") as file:
                file.setnchannels(channels)
                file.setsampwidth(2)
                file.setframerate(rate)
                file.writeframes(np.zeros(8000 * channels, dtype=np.int16).tobytes())
    (here / "broken").mkdir()
    for number in range(4):
        (here / "broken" / f"{number}.wav").write_bytes(b"RIFF")
    return here


@pytest.mark.parametrize("case", TRAINING)
def test_training(program: Program, folder: Path, case: str) -> None:
    words, said = TRAINING[case]
    before = entries(folder)
    assert_one_line(program("train", *SMALL, *words), *said)
    assert entries(folder) == before


def test_sampling(program: Program, folder: Path) -> None:
    words = (
        "model=pixelcnn",
        "data=digits",
        "output=categorical",
        "causal.width=8",
        "causal.blocks=1",
        "causal.head=8",
    )
    assert program("train", *SMALL, *words, "trainer.max_steps=1", "hydra.run.dir=run").status == 0
    before = entries(folder)
    for word, said in {
        "sampler.temperature=0": "sampler.temperature must be above 0, not 0",
        "sampler.length=100": "sampler.length=100: this model draws data of [1, 8, 8] alone",
    }.items():
        assert_one_line(program("sample", "ckpt=run", "n=1", word), said)
    assert_one_line(program("sample", "ckpt=run", "task=complete", "sampler.length=100"), "is for task=generate")
    assert entries(folder) == before
