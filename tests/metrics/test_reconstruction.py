"""Errors of reconstructions, against hand values and another implementation."""

import numpy as np
import pytest
import torch
from codes_of import VECTORS, Given
from scipy.ndimage import gaussian_filter
from torch import Tensor

from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.metrics.features import Extractor
from genlab.metrics.frechet import frechet_distance
from genlab.metrics.moments import Moments
from genlab.metrics.reconstruction import Reconstruction, ssim

IMAGES = Field((1, 12, 13), levels=256)
X = Rng(0, torch.arange(20)).uniform(*IMAGES.shape) * 2 - 1
OTHER = (X + 0.3 * Rng(1, torch.arange(20)).normal(*IMAGES.shape)).clamp(-1, 1)


def given(x: Tensor, y: Tensor, field: Field = IMAGES) -> Given:
    return Given({"test": {"x": x, "decoded": y, "z": torch.zeros(len(x), 3)}}, {"x": field}, VECTORS)


def found(x: Tensor, y: Tensor, field: Field = IMAGES) -> dict[str, tuple[float, float]]:
    numbers = Reconstruction().evaluate(given(x, y, field))  # type: ignore[arg-type]
    assert all(n.how["n"] == len(x) and n.how["data"] == "somewhere test" for n in numbers)
    return {n.name.removeprefix("reconstruction/"): (n.value, n.error or 0.0) for n in numbers}


def test_what_is_equal_has_no_error() -> None:
    values = found(X, X)
    assert values["mse"] == (0, 0)
    assert values["psnr"][0] == pytest.approx(10 * np.log10(4e12))
    assert values["ssim"] == pytest.approx((1, 0), abs=1e-9)


def test_values_by_hand() -> None:
    values = found(torch.zeros(4, 2), torch.tensor([[0.0, 2], [0, 0], [2, 2], [0, 0]]), Field((2,), levels=2))
    assert values["mse"] == pytest.approx((1.5, np.std([2, 0, 4, 0], ddof=1) / 2))
    assert "ssim" not in values
    psnr = [10 * np.log10(4 / mse) for mse in (2, 1e-12, 4, 1e-12)]
    assert values["psnr"][0] == pytest.approx(np.mean(psnr))
    assert found(torch.zeros(2, 2), torch.ones(2, 2), Field((2,))).keys() == {"mse"}


def test_structural_similarity_is_that_of_the_paper() -> None:
    def plainly(x: np.ndarray, y: np.ndarray) -> float:
        def mean(values: np.ndarray) -> np.ndarray:
            return gaussian_filter(values, 1.5, truncate=3.5)[5:-5, 5:-5]

        m, n = mean(x), mean(y)
        v, w, c = mean(x * x) - m * m, mean(y * y) - n * n, mean(x * y) - m * n
        top, bottom = (2 * m * n + 1e-4) * (2 * c + 9e-4), (m * m + n * n + 1e-4) * (v + w + 9e-4)
        return float((top / bottom).mean())

    expected = [
        plainly(*((image[0].double().numpy() + 1) / 2 for image in pair)) for pair in zip(X, OTHER, strict=True)
    ]
    torch.testing.assert_close(ssim(X, OTHER), torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)
    small = Field((1, 10, 12), levels=256)
    assert "ssim" not in found(X[..., :10, :12], OTHER[..., :10, :12], small)


class Two(Extractor):
    """Mean and deviation."""

    def __init__(self) -> None:
        super().__init__("two", 2, 0, {"weights": "none"})
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        flat = images.flatten(1).float()
        return torch.stack([flat.mean(1), flat.std(1)], 1), None


def test_the_distance_is_that_of_features_of_rounded_images() -> None:
    codes = given(X, OTHER)
    codes.extractor = Two  # type: ignore[attr-defined]
    number = Reconstruction(fid=True).evaluate(codes)[-1]  # type: ignore[arg-type]
    sides = []
    for images in (X, OTHER):
        moments = Moments(2)
        moments.add(Two()(((images + 1) * 127.5).round().to(torch.uint8))[0])
        sides.append(moments.statistics())
    assert number.name == "reconstruction/fid/two"
    assert number.value == pytest.approx(frechet_distance(*sides))
    few = given(X[:2], OTHER[:2])
    few.extractor = Two  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="at least 3 data, not 2"):
        Reconstruction(fid=True).evaluate(few)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="it is for images"):
        Reconstruction(fid=True).check(given(X[:, 0, 0], X[:, 0, 0], Field((13,))))  # type: ignore[arg-type]
