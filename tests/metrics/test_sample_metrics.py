"""Frechet and kernel distances, Inception Score, precision and recall, against closed forms and other programs."""

import numpy as np
import pytest
import torch

from genlab.core.errors import UserError
from genlab.metrics.contract import check_enough
from genlab.metrics.features import FeatureSet
from genlab.metrics.frechet import FrechetDistance, frechet_distance
from genlab.metrics.inception_score import InceptionScore, inception_score
from genlab.metrics.kernel_distance import KernelDistance, choose, kernel_distance
from genlab.metrics.moments import Moments, Statistics
from genlab.metrics.precision_recall import PrecisionRecall, precision_recall


def normal(seed: int, n: int, d: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=generator) / d**0.5
    return torch.randn(n, d, generator=generator) @ mix + 0.3 * torch.randn(d, generator=generator)


def statistics(x: torch.Tensor) -> Statistics:
    moments = Moments(x.shape[1])
    moments.add(x)
    return moments.statistics()


def feature_set(x: torch.Tensor, **how: str | int | float) -> FeatureSet:
    return FeatureSet("test", statistics(x), x, how=dict(how))


REAL, FAKE = normal(1, 400), normal(2, 300)


def test_frechet_distance_of_gaussians_is_the_closed_form():
    """Of N(a, s^2) and N(b, t^2) per axis it is (a - b)^2 + (s - t)^2, in whatever axes."""
    d = 12
    a, b, s, t = torch.rand(4, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    axes = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    one = Statistics(axes @ a, axes @ torch.diag(s**2) @ axes.T)
    other = Statistics(axes @ b, axes @ torch.diag(t**2) @ axes.T)
    expected = ((a - b) ** 2 + (s - t) ** 2).sum().item()
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-10)


def test_halves_of_the_data_are_nearer_than_other_data():
    """Data sorted along an axis have halves that differ; the halves that are compared are drawn at random."""
    x = REAL[REAL[:, 0].argsort()]
    fid, halves = FrechetDistance(halves=True).evaluate(feature_set(x), feature_set(FAKE))
    sorted_halves = frechet_distance(statistics(x[:200]), statistics(x[200:]))
    assert halves.name == "fid-halves/test"
    assert (halves.how["n"], halves.how["reference_n"]) == (200, 200)
    assert 0 < halves.value < 0.5 * min(fid.value, sorted_halves)
    with pytest.raises(UserError, match="halves needs features"):
        FrechetDistance(halves=True).evaluate(FeatureSet("test", statistics(x)), feature_set(FAKE))


def test_frechet_distance_is_that_of_other_programs():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    ours = frechet_distance(statistics(REAL), statistics(FAKE))
    theirs = fid_statistics_to_metric(
        fid_features_to_statistics(REAL.double()), fid_features_to_statistics(FAKE.double()), False
    )
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-10)
    a, b = statistics(REAL), statistics(FAKE)
    assert ours == pytest.approx(_compute_fid(a.mean, a.covariance, b.mean, b.covariance).item(), rel=1e-10)


def test_frechet_distance_bears_features_that_never_vary():
    dead = torch.cat([REAL, torch.zeros(400, 3)], 1)
    assert frechet_distance(statistics(dead), statistics(dead)) == pytest.approx(0, abs=1e-5)


def test_kernel_distance_is_that_of_another_program():
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    theirs = kid_features_to_metric(
        REAL.double(), FAKE.double(), kid_subsets=5, kid_subset_size=50, rng_seed=7, verbose=False
    )
    rng = np.random.RandomState(7)
    ours = []
    for _ in range(5):
        x = REAL[rng.choice(400, 50, replace=False)]
        ours.append(kernel_distance(x, FAKE[rng.choice(300, 50, replace=False)]))
    assert np.mean(ours) == pytest.approx(theirs[KEY_METRIC_KID_MEAN], rel=1e-10)
    assert np.std(ours) == pytest.approx(theirs[KEY_METRIC_KID_STD], rel=1e-8)


def test_kernel_distance_of_whole_sets_needs_no_subsets():
    real = feature_set(REAL[:300])
    (whole,) = KernelDistance(subset_size=1000).evaluate(real, feature_set(FAKE))
    assert whole.value == pytest.approx(kernel_distance(REAL[:300], FAKE), rel=1e-10)
    assert whole.error is None
    (drawn,) = KernelDistance(subsets=25, subset_size=100).evaluate(real, feature_set(FAKE))
    assert abs(drawn.value - whole.value) < 4 * drawn.error / 5
    assert (drawn.how["subsets"], drawn.how["subset_size"]) == (25, 100)


def test_kernel_distance_is_without_bias():
    """Of two samples of one distribution it is zero on average, whatever their size."""
    values = [kernel_distance(*normal(3, 5000).view(50, 2, 50, 16)[i]) for i in range(50)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 50**0.5


def test_choice_is_without_repetition():
    from genlab.core.rng import Rng

    chosen = choose(Rng(0, torch.tensor([3])), 20, 12)
    assert len(chosen.unique()) == 12
    assert chosen.max() < 20


def test_inception_score_is_that_of_another_program():
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

    theirs = isc_features_to_metric(FAKE, splits=7, shuffle=False)
    mean, deviation = inception_score(FAKE, 7)
    assert mean == pytest.approx(theirs[KEY_METRIC_ISC_MEAN], rel=1e-10)
    assert deviation == pytest.approx(theirs[KEY_METRIC_ISC_STD], rel=1e-8)


def test_inception_score_lies_between_one_and_the_number_of_classes():
    assert inception_score(torch.zeros(100, 8), 1)[0] == pytest.approx(1)
    assert inception_score(100 * torch.eye(8).repeat(10, 1), 1)[0] == pytest.approx(8)


def test_precision_and_recall_are_those_of_another_program():
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    ours = precision_recall(REAL.double(), FAKE.double(), 3)
    assert ours == pytest.approx(calculate_precision_recall_full(FAKE.double(), REAL.double(), 3))
    assert 0 < ours[0] < 1


def test_precision_and_recall_tell_missing_modes_from_bad_samples():
    left, right = normal(4, 200), normal(4, 200) + 100
    both = torch.cat([left, right])
    assert precision_recall(both, left)[0] > 0.9
    assert precision_recall(both, left)[1] < 0.6
    assert precision_recall(left, both)[0] < 0.6
    assert precision_recall(left, both)[1] > 0.9


def test_numbers_carry_their_features_and_circumstances():
    (number,) = FrechetDistance().evaluate(feature_set(REAL, reference="data train"), feature_set(FAKE, sampler="ddim"))
    assert number.name == "fid/test"
    assert number.how == {
        "features": "test",
        "n": 300,
        "reference": "data train",
        "sampler": "ddim",
        "reference_n": 400,
    }
    precision, recall = PrecisionRecall().evaluate(feature_set(REAL), feature_set(FAKE))
    assert (precision.name, recall.name, precision.how["n"], recall.how["k"]) == (
        "precision/test",
        "recall/test",
        300,
        3,
    )


def test_n_judges_the_first_n_samples():
    (few,) = FrechetDistance(n=100).evaluate(feature_set(REAL), feature_set(FAKE))
    assert few.value == pytest.approx(frechet_distance(statistics(REAL), statistics(FAKE[:100])))
    assert few.how["n"] == 100
    with pytest.raises(UserError, match=r"metric.n=301 asks for more samples than there are: 300"):
        FrechetDistance(n=301).evaluate(feature_set(REAL), feature_set(FAKE))


def test_a_file_of_statistics_serves_the_frechet_distance_alone():
    file = FeatureSet("test", Statistics(REAL.double().mean(0), REAL.double().T.cov()))
    (number,) = FrechetDistance().evaluate(file, feature_set(FAKE))
    assert "reference_n" not in number.how
    for metric in (KernelDistance(), PrecisionRecall()):
        with pytest.raises(UserError, match=r"unset metric\.reference"):
            metric.evaluate(file, feature_set(FAKE))


def test_too_few_samples_are_told_how_many_are_needed():
    with pytest.raises(UserError, match="FID needs at least 17 samples, not 16"):
        FrechetDistance().evaluate(feature_set(REAL), feature_set(FAKE[:16]))
    with pytest.raises(UserError, match="FID on 16 features needs at least 17 images, not 10"):
        FrechetDistance().evaluate(feature_set(REAL[:10]), feature_set(FAKE))
    with pytest.raises(UserError, match="needs at least 4 samples, not 3"):
        PrecisionRecall().evaluate(feature_set(REAL), feature_set(FAKE[:3]))
    with pytest.raises(UserError, match="KID needs at least 2 samples, not 1"):
        check_enough(KernelDistance(), "KID", 1, 2048)
    check_enough(FrechetDistance(), "FID", 2049, 2048)


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        (FrechetDistance, {"n": 0}),
        (KernelDistance, {"subsets": 0}),
        (KernelDistance, {"subset_size": 1}),
        (InceptionScore, {"splits": 0}),
        (PrecisionRecall, {"k": 0}),
    ],
)
def test_options_that_make_no_sense_are_refused(metric, options):
    with pytest.raises(UserError, match=r"not [01]"):
        metric(**options)


def test_inception_score_without_a_head_says_what_else_there_is():
    with pytest.raises(UserError, match=r"metric\.features=classifier") as error:
        InceptionScore().evaluate(feature_set(REAL), feature_set(FAKE))
    assert "\n" not in str(error.value)


def test_inception_score_does_not_depend_on_the_order_of_the_classes():
    """Samples that come class by class are spread over the splits."""
    logits = 50 * torch.eye(4).repeat_interleave(100, 0)
    fake = FeatureSet("test", statistics(logits), logits, logits)
    (number,) = InceptionScore(splits=2).evaluate(fake, fake)
    assert number.value > 3.9
    assert number.how["splits"] == 2
