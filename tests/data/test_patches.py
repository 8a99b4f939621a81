import numpy as np
import pytest
import torch
from PIL import Image

from genlab.core.errors import UserError
from genlab.data.patches import Patches

NAMES = ("train", "validation", "test")


@pytest.fixture
def folder(tmp_path):
    """Pictures whose grey level rises by 4 a column, from a level of their own, in three folders."""
    for number, name in enumerate(("train", "val", "test", "train")):
        ramp = 10 * number + 4 * np.arange(30, dtype=np.uint8)[None].repeat(20, 0)
        path = tmp_path / name / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(ramp).save(path)
    return tmp_path


def test_patches_are_squares_without_their_mean_and_their_last_number(folder):
    data = Patches(str(folder), side=8, size=200)
    assert data.spec["x"].shape == (63,)
    assert [len(data.split(name)) for name in NAMES] == [200, 10, 50]
    x = data.split("train").x
    whole = torch.cat([x, -x.sum(1, keepdim=True)], dim=1).view(-1, 8, 8)
    # The ramp stays, the level of its place and its picture goes, and noise is less than a level.
    ramp = (4 * (torch.arange(8.0) - 3.5) / 256).expand_as(whole)
    noise = 256 * (whole - ramp)
    assert noise.abs().max() < 1
    assert noise.std() == pytest.approx((1 / 12) ** 0.5, rel=0.05)


def test_patches_are_the_same_each_time_and_others_in_each_split(folder):
    one, two = Patches(str(folder), size=100), Patches(str(folder), size=100)
    assert one.identity == two.identity
    for name in NAMES:
        assert torch.equal(one.split(name).x, two.split(name).x)
    assert not torch.equal(one.split("train").x[:5], one.split("validation").x[:5])
    batch = one.split("test").batch(torch.tensor([3, 0]))
    assert torch.equal(batch["x"], one.split("test").x[[3, 0]])


def test_places_reach_to_every_edge(folder):
    """Of a picture whose edges alone are white, some patches see each of them."""
    picture = np.zeros((12, 12), dtype=np.uint8)
    picture[0], picture[-1], picture[:, 0], picture[:, -1] = 255, 255, 255, 255
    for path in folder.rglob("*.png"):
        Image.fromarray(picture).save(path)
    x = Patches(str(folder), side=8, size=400).split("train").x
    whole = torch.cat([x, -x.sum(1, keepdim=True)], dim=1).view(-1, 8, 8)
    for edge in (whole[:, 0], whole[:, -1], whole[:, :, 0], whole[:, :, -1]):
        assert (edge.mean(1) > whole.mean((1, 2)) + 0.5).any()


def test_pictures_that_are_too_small_or_damaged_are_named(folder):
    with pytest.raises(UserError, match=r"data.side=25: .*png has a side of 20 pixels only: set data.side=20 or less"):
        Patches(str(folder), side=25).split("train")
    (folder / "train" / "0.png").write_bytes(b"none")
    with pytest.raises(UserError, match=r"1 of 4 pictures are damaged, more than 1%; one is .*train/0.png"):
        Patches(str(folder)).split("train")
    with pytest.raises(ValueError, match="side must be at least 2"):
        Patches(str(folder), side=1)
