"""Features of data are computed once, in the data's order, and found again."""

import pytest
import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.spec import Field
from genlab.metrics import cache as module
from genlab.metrics.cache import images_of, reference_features, reference_file
from genlab.metrics.features import Extractor, extract, fingerprint


class Pixels(Extractor):
    """A few pixels as features, and the number of calls."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__("pixels", 4, 0, {"network": "pixels"})
        self.scale = nn.Parameter(torch.tensor(scale))
        self.calls = 0

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        self.calls += 1
        return self.scale * images[:, 0, 3:5, 3:5].flatten(1).float(), None


def pixels_of(digits) -> Tensor:
    x = torch.cat([digits.split("train").x, digits.split("validation").x])
    return (x[:, 0, 3:5, 3:5].flatten(1).double() / 16 * 255).round().float()


def test_features_of_data_are_computed_once(cache, digits):
    extractor = Pixels()
    first = reference_features(extractor, digits, batch_size=500)
    assert extractor.calls == 4
    assert first.n == 1437
    assert torch.equal(first.features, pixels_of(digits))
    assert first.how == {"network": "pixels", "reference": "digits train+validation"}
    again = reference_features(extractor, digits, batch_size=100)
    assert extractor.calls == 4
    assert torch.equal(again.features, first.features)
    assert torch.equal(again.statistics.covariance, first.statistics.covariance)
    torch.testing.assert_close(first.statistics.covariance, pixels_of(digits).double().T.cov())


def test_other_weights_and_other_splits_are_other_features(cache, digits):
    reference_features(Pixels(), digits)
    other = Pixels(2.0)
    assert torch.equal(reference_features(other, digits).features, 2 * pixels_of(digits))
    assert other.calls
    assert reference_features(other, digits, splits=("test",)).n == 360
    assert fingerprint(Pixels().state_dict()) != fingerprint(other.state_dict())


def test_large_sets_keep_their_statistics_only(cache, digits, monkeypatch):
    monkeypatch.setattr(module, "FEATURE_BYTES", 1000)
    extractor = Pixels()
    assert reference_features(extractor, digits).features is None
    calls = extractor.calls
    assert reference_features(extractor, digits).n == 1437
    assert extractor.calls == calls


def test_damaged_files_are_computed_anew(cache, digits):
    first = reference_features(Pixels(), digits)
    for path in (cache / "features").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    extractor = Pixels()
    assert torch.equal(reference_features(extractor, digits).features, first.features)
    assert extractor.calls


def test_processes_share_the_images_without_repetition(digits, monkeypatch):
    shares = []
    for rank in range(3):
        monkeypatch.setattr(module, "world", lambda rank=rank: (rank, 3))
        shares += list(images_of(digits, ("train", "validation"), 100))
    monkeypatch.undo()
    whole = torch.cat(list(images_of(digits, ("train", "validation"), 10_000)))
    assert torch.equal(torch.cat(shares), whole)


def test_features_without_keeping(digits):
    images = list(images_of(digits, ("test",), 100))
    seen = []
    kept = extract(Pixels(), images, {"sampler": "data"}, progress=seen.append)
    counted = extract(Pixels(), iter(images), keep=False)
    assert seen == [100, 200, 300, 360]
    assert counted.features is None
    assert torch.equal(counted.statistics.mean, kept.statistics.mean)
    assert kept.how == {"network": "pixels", "sampler": "data"}


def test_mixed_precision_does_not_reach_features(digits):
    class Projected(Pixels):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
            return super().forward(images)[0] @ torch.full((4, 4), 1 / 3), None

    images = list(images_of(digits, ("test",), 100))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = extract(Projected(), images)
    assert torch.equal(mixed.features, extract(Projected(), images).features)


def test_statistics_of_another_network_are_refused(cache, digits, tmp_path):
    made = reference_features(Pixels(), digits)
    made.statistics.save(tmp_path / "pixels.npz")
    assert reference_file(str(tmp_path / "pixels.npz"), Pixels()).n == 1437
    other = Pixels()
    other.dimension = 5
    with pytest.raises(UserError, match="statistics of 4 features, and pixels has 5"):
        reference_file(str(tmp_path / "pixels.npz"), other)


def test_points_have_no_image_features(cache, digits, monkeypatch):
    monkeypatch.setattr(digits, "spec", {"x": Field((2,))})
    with pytest.raises(UserError, match="features need images"):
        reference_features(Pixels(), digits)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, digits, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GENLAB_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="could not be saved") as error:
        reference_features(Pixels(), digits)
    assert "\n" not in str(error.value)
