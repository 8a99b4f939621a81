"""Pictures of every kind come out as what one sees."""

import numpy as np
import pytest
import torch
from PIL import Image

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.data.images import Damaged, Files, Pictures, cut, header, read, strip

RED, GREY = (200, 40, 20), (120, 120, 120)


def pixel(path, channels=3):
    return tuple(np.asarray(read(path, channels))[2, 2].reshape(-1).tolist())


@pytest.fixture
def save(tmp_path):
    def saved(image, suffix, **options):
        path = tmp_path / f"picture{suffix}"
        image.save(path, **options)
        return path

    return saved


@pytest.mark.parametrize(
    ("mode", "suffix", "near"),
    [
        ("RGB", ".png", 0),
        ("RGB", ".jpg", 3),
        ("RGB", ".bmp", 0),
        ("RGB", ".webp", 6),
        ("RGB", ".tif", 0),
        ("RGB", ".ppm", 0),
        ("CMYK", ".jpg", 4),
        ("CMYK", ".tif", 0),
        ("YCbCr", ".jpg", 4),
        ("P", ".png", 0),
        ("P", ".gif", 0),
        ("RGBA", ".png", 0),
    ],
)
def test_colours_of_every_kind(save, mode, suffix, near):
    image = Image.new("RGB", (8, 8), RED)
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    path = save(image, suffix)
    assert header(path) == (8, False)
    assert pixel(path) == pytest.approx(RED, abs=near)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16", "P"])
def test_grey_of_every_kind(save, mode):
    image = Image.new("L", (8, 8), 255 if mode == "1" else 120)
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 120 * 257, np.uint16))
    elif mode == "P":
        image.putpalette([v for grey in range(256) for v in (grey, grey, grey)])
    else:
        image = image.convert(mode)
    path = save(image, ".png")
    value = 255 if mode == "1" else 120
    assert header(path) == (8, True)
    assert pixel(path, channels=1) == (value,)
    assert pixel(path, channels=3) == (value, value, value)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_are_scaled_not_clipped(save, suffix):
    wide = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    path = save(Image.fromarray(wide), suffix)
    assert np.asarray(read(path, 1)).tolist() == (wide / 257).round().astype(int).tolist()


def test_transparent_pictures_lie_on_white(save):
    assert pixel(save(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), ".png")) == (255, 255, 255)
    assert pixel(save(Image.new("RGBA", (8, 8), (0, 0, 0, 128)), ".png")) == pytest.approx((127, 127, 127), abs=1)
    assert pixel(save(Image.new("LA", (8, 8), (0, 0)), ".png"), channels=1) == (255,)
    assert pixel(save(Image.new("RGB", (8, 8), RED), ".png", transparency=RED)) == (255, 255, 255)
    palette = Image.new("RGB", (8, 8), RED).quantize(4)
    assert pixel(save(palette, ".png", transparency=palette.getpixel((0, 0)))) == (255, 255, 255)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_pictures_are_turned_upright(save, suffix):
    """Orientation 6: the camera was turned, so that the left of what is stored is the top of what was seen."""
    image = Image.new("RGB", (16, 8), "white")
    image.paste("black", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.asarray(read(save(image, suffix, exif=exif), 1))
    assert upright.shape == (16, 8)
    assert upright[:7].max() < 30
    assert upright[9:].min() > 225


def test_the_first_picture_of_a_film_is_taken(save):
    rest = [Image.new("RGB", (8, 8), "blue")]
    assert pixel(save(Image.new("RGB", (8, 8), "red"), ".gif", save_all=True, append_images=rest)) == (255, 0, 0)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".webp", ".bmp"])
@pytest.mark.parametrize("left", [0.0, 0.1, 0.6, 0.9])
def test_files_that_end_too_soon_are_damaged(save, suffix, left):
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise), suffix)
    path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    with pytest.raises(Damaged) as error:
        read(path, 3)
    assert "\n" not in str(error.value)


def test_numbers_without_a_white_are_damaged(save):
    with pytest.raises(Damaged, match="not of 8 or 16 bits"):
        read(save(Image.new("F", (8, 8), 0.5), ".tif"), 1)


@pytest.mark.parametrize("size", [(64, 64), (64, 40), (33, 100), (640, 17)])
def test_strips_and_cuts_have_their_sides(size):
    image = Image.new("RGB", size)
    pixels = strip(image, 16)
    assert min(pixels.shape[1:]) == 16
    for at in (0.0, 0.3, 0.5, 1.0):
        assert cut(pixels, 16, at).shape == (3, 16, 16)


def test_resizing_averages():
    """A fine checkerboard becomes grey; picking pixels would leave black and white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    inner = strip(Image.fromarray(board), 8)[0, 1:-1, 1:-1]
    assert abs(inner.astype(int) - 127).max() <= 4


def test_a_picture_of_the_right_side_is_left_as_it_is():
    pixels = np.random.default_rng(0).integers(256, size=(16, 16, 3), dtype=np.uint8)
    assert strip(Image.fromarray(pixels), 16).transpose(1, 2, 0).tolist() == pixels.tolist()


def test_pictures_are_not_enlarged():
    with pytest.raises(UserError, match="a picture of 20x12 pixels is smaller than 16"):
        strip(Image.new("L", (20, 12)), 16)
    with pytest.raises(UserError, match="a picture of 20x12 pixels is smaller than 18"):
        strip(Image.new("L", (20, 12)), 8, window=18)


def test_crops_are_centred_or_drawn():
    """A gradient tells where a square was cut: in the middle without random numbers, all along the side with them."""
    ramp = np.broadcast_to(np.arange(101, dtype=np.uint8), (1, 8, 101))
    strips = [ramp] * 200
    index = torch.arange(200)
    first = {
        crop: Pictures(strips, 8, crop=crop).batch(index, Rng(0, index))["x"][:, 0, 0, 0].add(1).mul(127.5).round()
        for crop in ("centre", "random")
    }
    assert first["centre"].unique().tolist() == [46]
    assert first["random"].min() < 8
    assert first["random"].max() > 85
    still = Pictures(strips, 8, crop="random").batch(index)["x"]
    assert still.equal(Pictures(strips, 8).batch(index)["x"])


def test_files_are_read_when_asked_for(save):
    path = save(Image.new("RGB", (8, 8), RED), ".png")
    split = Pictures(Files([path], 8, 3), 8)
    assert not split.in_memory
    assert split.batch(torch.tensor([0]))["x"].shape == (1, 3, 8, 8)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"data\.root: .*picture\.png"):
        split.batch(torch.tensor([0]))
