"""The network is torch-fidelity's, whatever weights both are given, and bad weights are one line."""

import pytest
import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.metrics import weights
from genlab.metrics.features import extract
from genlab.metrics.inception import Convolution, InceptionFeatures, resize
from genlab.metrics.inception_score import InceptionScore
from genlab.metrics.weights import inception_features

fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """torch-fidelity's network with random weights, scaled so that signals neither die nor explode."""
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: state)
        random = fidelity.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
        for module in random.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.8, 1.2)
                module.bias.uniform_(-0.2, 0.2)
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 1.5)
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        torch.save(random.state_dict(), path)
    features = ["2048", "logits_unbiased"]
    return fidelity.FeatureExtractorInceptionV3("inception-v3-compat", features, feature_extractor_weights_path=path)


@pytest.fixture(scope="module")
def state(theirs) -> dict[str, Tensor]:
    return theirs.state_dict()


@pytest.fixture(scope="module")
def ours(state) -> InceptionFeatures:
    return InceptionFeatures(state, "random.pth")


def images(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("side", [(32, 32), (300, 310)])
def test_features_and_logits_are_torch_fidelitys(ours, theirs, side):
    x = images(2, 3, *side)
    features, logits = ours(x)
    expected, expected_logits = theirs(x)
    assert (features - expected).norm() < 1e-4 * expected.norm()
    assert (logits - expected_logits).norm() < 1e-4 * expected_logits.norm()
    assert (expected[0] - expected[1]).norm() > 2e-3 * expected.norm()
    assert (ours.name, ours.dimension, ours.has_logits) == ("inception-2015", 2048, True)


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (28, 20), (299, 299), (64, 512)])
def test_resizing_is_torch_fidelitys(size):
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    x = images(2, 3, *size).float()
    expected = interpolate_bilinear_2d_like_tensorflow1x(x, size=(299, 299), align_corners=False)
    torch.testing.assert_close(resize(x), expected, rtol=0, atol=1e-4)


def test_grey_images_are_seen_as_colours(ours):
    x = images(1, 1, 28, 28)
    torch.testing.assert_close(ours(x)[0], ours(x.expand(-1, 3, -1, -1))[0])


def test_convolutions_are_folded_and_joined():
    """One convolution gives what two gave, each followed by its batch normalisation."""
    torch.manual_seed(0)
    state, expected = {}, []
    x = torch.randn(2, 5, 6, 6)
    for name, out in (("a", 3), ("b", 4)):
        convolution, normal = torch.nn.Conv2d(5, out, 3, bias=False), torch.nn.BatchNorm2d(out, eps=1e-3).eval()
        normal.running_mean.uniform_(-1, 1)
        normal.running_var.uniform_(0.5, 2)
        torch.nn.init.normal_(normal.weight)
        torch.nn.init.normal_(normal.bias)
        state |= {f"block.{name}.conv.weight": convolution.weight}
        state |= {f"block.{name}.bn.{key}": value for key, value in normal.state_dict().items()}
        expected.append(normal(convolution(x)))
    joined = Convolution(5, {"a": 3, "b": 4}, (3, 3))
    joined.fold(state, "block.")
    for result, single in zip(joined.each(x), expected, strict=True):
        torch.testing.assert_close(result, single, rtol=1e-4, atol=1e-5)


def test_weights_without_the_head_serve_all_but_the_score(state):
    headless = InceptionFeatures({name: x for name, x in state.items() if not name.startswith("fc.")}, "pool3.pth")
    assert not headless.has_logits
    made = extract(headless, [images(2, 3, 32, 32)])
    assert made.features.shape == (2, 2048)
    assert made.how["inception_weights"] == "pool3.pth"
    with pytest.raises(UserError, match=r"no classifier head \(fc\)"):
        InceptionScore(splits=1).evaluate(made, made)


def test_weights_without_gains_are_read(state, ours):
    """As TensorFlow's, whose gains are one."""
    ones = {name: torch.ones_like(x) if name.endswith("bn.weight") else x for name, x in state.items()}
    bare = {name: x for name, x in state.items() if not name.endswith(("bn.weight", "num_batches_tracked"))}
    x = images(1, 3, 16, 16)
    assert torch.equal(InceptionFeatures(ones, "")(x)[0], InceptionFeatures(bare, "")(x)[0])


@pytest.mark.parametrize(
    "change",
    [
        {"AuxLogits.fc.weight": torch.zeros(1000, 768)},
        {"fc.weight": torch.zeros(1000, 2048)},
        {"Mixed_5b.branch1x1.conv.weight": torch.zeros(64, 192, 3, 3)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_weights_of_another_network_are_refused(state, change):
    with pytest.raises(UserError, match="does not hold the weights of the 2015-12-05 Inception network") as error:
        InceptionFeatures({**state, **change}, "other.pth")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="376 names are missing"):
        InceptionFeatures({}, "empty.pth")


def test_data_that_are_no_images_are_refused(ours):
    with pytest.raises(UserError, match="1 or 3 channels"):
        ours(images(2, 2, 8, 8))


def test_weights_are_found_by_the_variable(state, tmp_path, monkeypatch):
    monkeypatch.setenv("GENLAB_WEIGHTS", str(tmp_path))
    assert weights.find() is None
    torch.save(state, tmp_path / "inception-2015-12-05-pool3.pth")
    assert weights.find() == tmp_path / "inception-2015-12-05-pool3.pth"
    assert inception_features().how["inception_weights"] == "inception-2015-12-05-pool3.pth"
    torch.save(state, tmp_path / weights.FULL)
    assert weights.find() == tmp_path / weights.FULL
    monkeypatch.setenv("GENLAB_WEIGHTS", str(tmp_path / "mine.pth"))
    with pytest.raises(UserError, match="neither a folder nor a file"):
        inception_features()


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 truncated"])
def test_a_file_that_holds_no_weights_is_one_line(content, tmp_path, monkeypatch):
    (tmp_path / "mine.pth").write_bytes(content)
    monkeypatch.setenv("GENLAB_WEIGHTS", str(tmp_path / "mine.pth"))
    with pytest.raises(UserError, match="damaged or not a file of weights") as error:
        inception_features()
    assert "\n" not in str(error.value)


def test_weights_that_cannot_be_had_say_where_to_put_them(monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.delenv("GENLAB_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(UserError, match=r"GENLAB_WEIGHTS.*metric\.features=classifier") as error:
        inception_features()
    assert "\n" not in str(error.value)


def test_weights_are_fetched_as_torch_fidelity_does(state, monkeypatch):
    asked = []

    def download(url, **options):
        asked.append((url, options["check_hash"], options["weights_only"]))
        return state

    monkeypatch.delenv("GENLAB_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    assert inception_features().how["inception_weights"] == weights.FULL
    assert asked == [(fidelity.URL_INCEPTION_V3, True, True)]
