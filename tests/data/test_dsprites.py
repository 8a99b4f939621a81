import os
from pathlib import Path

import numpy as np
import pytest
import torch

from genlab.core.errors import UserError
from genlab.data import dsprites
from genlab.data.dsprites import FILE, DSprites

SIZES = {"shape": 3, "scale": 2, "orientation": 4, "x": 3, "y": 5}
COUNT = 360


@pytest.fixture
def arrays(monkeypatch):
    """A little file of the published layout, with a pickle in it as there."""
    monkeypatch.setattr(dsprites, "FACTORS", SIZES)
    monkeypatch.setattr(dsprites, "CHUNK", 100)
    rows = np.stack(np.unravel_index(np.arange(COUNT), (1, *SIZES.values())), axis=1)
    return {
        "metadata": np.array({"date": "never read"}, dtype=object),
        "imgs": np.random.default_rng(0).integers(2, size=(COUNT, 64, 64), dtype=np.uint8),
        "latents_classes": rows.astype(np.int64),
        "latents_values": rows.astype(np.float64),
    }


def written(folder: Path, arrays: dict) -> str:
    (folder / "dsprites").mkdir()
    np.savez_compressed(folder / "dsprites" / FILE, **arrays)
    return str(folder)


def test_pictures_and_factors_belong_together(arrays, tmp_path):
    data = DSprites(written(tmp_path, arrays))
    seen = []
    for name in ("train", "validation", "test"):
        split = data.split(name)
        batch = split.batch(torch.arange(len(split)))
        for key, field in data.spec.items():
            assert batch[key].shape == (len(split), *field.shape)
        number = np.ravel_multi_index(batch["factors"].T.numpy(), tuple(SIZES.values()))
        assert (batch["x"].numpy() == 2.0 * arrays["imgs"][number, None] - 1).all()
        assert batch["label"].equal(batch["factors"][:, 0])
        seen.append(number)
    assert [len(part) for part in seen] == [288, 36, 36]
    assert sorted(np.concatenate(seen)) == list(range(COUNT))
    assert dict(data.factors) == SIZES


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"imgs": None}, "it has no imgs"),
        ({"imgs": np.zeros((COUNT, 32, 32), np.uint8)}, r"imgs is uint8 \(360, 32, 32\)"),
        ({"imgs": np.full((COUNT, 64, 64), 255, np.uint8)}, "imgs has values above 1"),
        ({"latents_classes": np.zeros((COUNT, 6), np.int64)}, "latents_classes are not all combinations of shape"),
        ({"latents_classes": np.zeros((COUNT, 5))}, r"latents_classes is float64 \(360, 5\)"),
    ],
)
def test_another_layout_is_named(arrays, tmp_path, changed, message):
    arrays = {key: value for key, value in {**arrays, **changed}.items() if value is not None}
    with pytest.raises(UserError, match=rf"data\.root: .* is not the published file: {message}") as caught:
        DSprites(written(tmp_path, arrays)).split("train")
    assert "\n" not in str(caught.value)


def test_a_damaged_and_an_absent_file_are_named(tmp_path):
    with pytest.raises(UserError, match=r"data\.root=.* has no dsprites/dsprites_ndarray.*https"):
        DSprites(str(tmp_path)).split("train")
    (tmp_path / "dsprites").mkdir()
    (tmp_path / "dsprites" / FILE).write_bytes(b"PK no zip")
    with pytest.raises(UserError, match=r"data\.root: .* cannot be read"):
        DSprites(str(tmp_path)).split("train")


def test_a_pickle_is_never_opened(arrays, tmp_path):
    arrays["imgs"] = np.array([{"a": 1}] * COUNT, dtype=object)
    with pytest.raises(UserError, match="imgs is object"):
        DSprites(written(tmp_path, arrays)).split("train")


@pytest.mark.skipif(
    not Path(os.environ.get("GENLAB_DATA", "/nowhere"), "dsprites", FILE).is_file(),
    reason="the folder GENLAB_DATA has no dsprites",
)
def test_the_published_file():
    """The area of a picture grows with its scale, and its middle moves with x and y."""
    data = DSprites()
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [589_824, 73_728, 73_728]
    batch = data.split("test").batch(torch.arange(3000))
    lit, factors = (batch["x"][:, 0] > 0).double(), batch["factors"]
    area = lit.sum((1, 2))
    assert area[factors[:, 1] == 5].mean() > 2 * area[factors[:, 1] == 0].mean()
    line = torch.arange(64, dtype=torch.float64)
    across, down = (lit.sum(1) @ line) / area, (lit.sum(2) @ line) / area
    for place, factor in ((across, 3), (down, 4)):
        assert torch.corrcoef(torch.stack([place, factors[:, factor].double()]))[0, 1] > 0.99
