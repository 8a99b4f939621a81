"""Pairs of noise and samples: read as they were written, divided, and refused where they are none."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from genlab.core.errors import UserError
from genlab.core.spec import Field, spec_to_config
from genlab.data.coupled import Coupled

N, SHARD = 50, 30
NAMES = ("train", "validation", "test")
SPEC = {"x": Field((1, 4, 6), levels=17), "label": Field((), classes=10)}


def written(folder: Path, record: dict | None = None, **change: np.ndarray | None) -> dict[str, np.ndarray]:
    """Two files of pairs, and the arrays that they hold in all."""
    numbers = np.random.default_rng(0)
    arrays = {
        "x": numbers.normal(size=(N, 1, 4, 6)).astype(np.float32),
        "noise": numbers.normal(size=(N, 1, 4, 6)).astype(np.float32),
        "label": np.arange(N) % 3,
        **change,
    }
    arrays = {key: value for key, value in arrays.items() if value is not None}
    for first in range(0, N, SHARD):
        part = {key: value[first : first + SHARD] for key, value in arrays.items()}
        np.savez(folder / f"samples_{first:06d}.npz", **part)
    if record is not None:
        (folder / "samples.json").write_text(json.dumps(record))
    return arrays


def test_pairs_come_back_exactly_and_each_in_one_split(tmp_path):
    arrays = written(tmp_path, {"spec": spec_to_config(SPEC), "complete": True})
    data = Coupled(str(tmp_path))
    assert data.spec == {**SPEC, "noise": Field((1, 4, 6))}
    splits = [data.split(name) for name in NAMES]
    assert [len(split) for split in splits] == [46, 2, 2]
    batches = [split.batch(torch.arange(len(split))) for split in splits]
    for key, value in arrays.items():
        assert np.array_equal(torch.cat([batch[key] for batch in batches]).numpy(), value)
    batch = splits[0].batch(torch.tensor([3, 0, -1]))
    assert np.array_equal(batch["noise"].numpy(), arrays["noise"][[3, 0, 45]])
    assert {key: value.dtype for key, value in batch.items()} == {
        "x": torch.float32,
        "noise": torch.float32,
        "label": torch.int64,
    }


def test_files_without_a_record_say_themselves_what_they_are(tmp_path):
    written(tmp_path)
    assert Coupled(str(tmp_path)).spec == {
        "x": Field((1, 4, 6)),
        "noise": Field((1, 4, 6)),
        "label": Field((), classes=3),
    }


def test_images_in_bytes_are_turned_to_channels_first_and_scaled(tmp_path):
    x = np.random.default_rng(1).integers(0, 256, (N, 4, 6, 3), dtype=np.uint8)
    noise = np.zeros((N, 3, 4, 6), np.float32)
    written(tmp_path, x=x, noise=noise, label=None)
    data = Coupled(str(tmp_path))
    assert data.spec == {"x": Field((3, 4, 6), levels=256), "noise": Field((3, 4, 6))}
    found = data.split("train").batch(torch.tensor([5]))["x"][0]
    expected = torch.from_numpy(x[5]).permute(2, 0, 1).float() / 127.5 - 1
    torch.testing.assert_close(found, expected)
    assert (found.min() >= -1, found.max() <= 1) == (True, True)


def test_other_pairs_have_another_identity(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    written(tmp_path / "one")
    written(tmp_path / "two", x=np.zeros((N, 2), np.float64), noise=np.zeros((N, 2), np.float64))
    one, two = (Coupled(str(tmp_path / name)) for name in ("one", "two"))
    assert one.identity != two.identity
    assert one.identity == Coupled(str(tmp_path / "one")).identity


def noisy(*shape: int) -> np.ndarray:
    return np.zeros((N, *shape), np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": None}, "has no noise; it must be a folder that genlab sample task=pairs wrote"),
        ({"x": None}, "has no x; it must be a folder"),
        ({"noise": noisy(1, 4, 5)}, "has x of .* and noise of .*, which do not belong together"),
        ({"x": noisy(2)[:, 0].astype(object)}, "cannot be read"),
        ({"record": {"complete": False}}, "the pairs are not complete; give the same genlab sample command again"),
        ({"record": {}}, None),
    ],
    ids=["no noise", "no samples", "shapes", "objects", "stopped", "nothing wrong"],
)
def test_what_are_no_pairs_is_said_in_a_line(tmp_path, change, message):
    record = change.pop("record", None)
    written(tmp_path, record, **change)
    data = Coupled(str(tmp_path))
    if message is None:
        assert data.spec
        return
    with pytest.raises(UserError, match=message) as caught:
        _ = data.record, data.spec
    assert "\n" not in str(caught.value)


def test_files_of_different_pairs_do_not_mix(tmp_path):
    written(tmp_path)
    np.savez(tmp_path / "samples_000060.npz", x=noisy(2), noise=noisy(2))
    with pytest.raises(
        UserError, match=r"samples_000060.npz holds x 2 of float32, noise 2 of float32, and samples_000000"
    ):
        Coupled(str(tmp_path)).split("train")


def test_a_folder_must_be_given_be_there_and_hold_files(tmp_path):
    with pytest.raises(UserError, match=r"data\.root must be given"):
        _ = Coupled().spec
    with pytest.raises(UserError, match="there is no such folder"):
        _ = Coupled(str(tmp_path / "nowhere")).spec
    with pytest.raises(UserError, match=r"there are no \.npz files"):
        _ = Coupled(str(tmp_path)).spec
    np.savez(tmp_path / "two.npz", x=noisy(2)[:2], noise=noisy(2)[:2])
    with pytest.raises(UserError, match="2 pairs are too few for three splits"):
        Coupled(str(tmp_path)).split("train")
