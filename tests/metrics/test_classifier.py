"""The classifier is trained once, well, and without anyone else noticing."""

import os

import pytest
import torch

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.metrics import classifier as module
from genlab.metrics.cache import images_of, reference_features
from genlab.metrics.classifier import SmallConvNet, classifier_features, shift, suits_classifier
from genlab.metrics.features import extract
from genlab.metrics.frechet import frechet_distance


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory):
    """A cache that the tests of this file share, so that one training serves them all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENLAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def trained(shared_cache, digits):
    return classifier_features(digits)


def test_digits_are_classified(trained):
    assert trained.accuracy >= 0.97
    assert trained.how["classifier_accuracy"] == round(trained.accuracy, 4)
    assert (trained.name, trained.dimension, trained.classes, trained.has_logits) == (
        "classifier-digits",
        64,
        10,
        True,
    )
    assert not trained.training
    assert not any(p.requires_grad for p in trained.parameters())


def test_it_is_trained_once_and_leaves_the_generator_alone(trained, digits):
    state = torch.random.get_rng_state()
    seen = []
    again = classifier_features(digits, progress=lambda *args: seen.append(args))
    assert not seen
    assert torch.equal(torch.random.get_rng_state(), state)
    assert again.how == trained.how
    images = next(images_of(digits, ("test",), 32))
    assert torch.equal(again(images)[0], trained(images)[0])


def test_training_is_deterministic_and_disturbs_nothing(cache, digits, monkeypatch):
    monkeypatch.setattr(module, "IMAGES", 3000)
    state = torch.random.get_rng_state()
    seen = []
    with torch.inference_mode():
        first = classifier_features(digits, progress=lambda *args: seen.append(args))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert seen[-1] == ("classifier of digits", 33, 33)
    (path,) = (cache / "classifier").iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    torch.manual_seed(5)
    assert classifier_features(digits).how == first.how


def test_the_distance_of_its_features_grows_as_images_get_worse(trained, digits):
    real = reference_features(trained, digits).statistics
    test = torch.cat(list(images_of(digits, ("test",), 1000)))
    distances = []
    for strength in (0.0, 0.2, 0.5):
        noise = 255 * strength * Rng(0, torch.arange(len(test))).normal(*test.shape[1:])
        images = (test + noise).round().clamp(0, 255).to(torch.uint8)
        distances.append(frechet_distance(real, extract(trained, [images]).statistics))
    assert distances[0] < distances[1] / 2 < distances[2] / 4


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 20, 28), (3, 5, 40)])
def test_the_network_takes_any_small_image(shape):
    features, logits = SmallConvNet(shape, 7, 64)(torch.zeros(2, *shape))
    assert features.shape == (2, 64)
    assert logits.shape == (2, 7)


def test_shifted_images_are_moved_and_nothing_else():
    x = torch.rand(64, 2, 6, 5)
    moved = shift(x, 1, Rng(0, torch.arange(64)))
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    choices = torch.stack([padded[:, :, i : i + 6, j : j + 5] for i in range(3) for j in range(3)])
    equal = (choices == moved).flatten(2).all(-1)
    assert equal.any(0).all()
    assert len(equal.int().argmax(0).unique()) == 9
    assert torch.equal(shift(x, 0, Rng(0, torch.arange(64))), x)


def test_small_labelled_grey_images_suit_it(digits):
    assert suits_classifier(digits.spec)
    assert not suits_classifier({"x": digits.spec["x"]})
    assert not suits_classifier({**digits.spec, "x": Field((3, 32, 32))})
    assert not suits_classifier({**digits.spec, "x": Field((2,))})


def test_what_it_cannot_judge_is_one_line(digits, trained, monkeypatch):
    with pytest.raises(UserError, match=r"use metric\.features=inception"):
        trained(torch.zeros(1, 1, 16, 16, dtype=torch.uint8))
    for spec, message in (
        ({"x": digits.spec["x"]}, "use metric.features=inception"),
        ({**digits.spec, "x": Field((2,))}, "needs images"),
    ):
        monkeypatch.setattr(digits, "spec", spec)
        with pytest.raises(UserError, match=message) as error:
            classifier_features(digits)
        assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("GENLAB_DATA"), reason="needs MNIST in GENLAB_DATA")
def test_mnist_is_classified(cache):
    from genlab.data.mnist import MNIST

    trained = classifier_features(MNIST(download=False))
    assert trained.accuracy >= 0.99
    assert trained.dimension == 128
