"""Codes that are the factors score all there is, codes that mix them little, and noise what chance gives."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import mutual_info_score

from genlab.core.errors import UserError
from genlab.core.spec import Field
from genlab.metrics.disentanglement import Disentanglement
from genlab.metrics.factor_prediction import Boosted, FactorPrediction, Forest, completeness, disentanglement
from genlab.metrics.mutual_information_gap import MutualInformationGap, binned, mutual_information
from genlab.metrics.shared_factor import Groups, Higgins, MajorityVote

SIZES = {"shape": 3, "scale": 4, "x": 6, "y": 6}
NAMES = tuple(SIZES)
FACTORS = torch.cartesian_prod(*(torch.arange(size) for size in SIZES.values())).repeat(4, 1)
FACTORS = FACTORS[torch.from_numpy(np.random.default_rng(0).permutation(len(FACTORS)))]
CHANCE = 1 / len(SIZES)

EXACT = (FACTORS.double() - FACTORS.double().mean(0)) / FACTORS.double().std(0)
DRAWN = torch.from_numpy(np.random.default_rng(1).normal(size=(len(FACTORS), 6)))
ROTATED = EXACT @ torch.linalg.qr(DRAWN[:4, :4])[0]

SCORES = {
    "higgins": Higgins(size=16, train=1000, test=500),
    "factorvae": MajorityVote(size=16, train=1000, test=500),
    "mig": MutualInformationGap(),
    "dci": FactorPrediction(Forest(trees=3)),
}
METRIC = Disentanglement(**SCORES)


class Table:
    """Codes as evaluation hands them to a metric."""

    name = "somewhere test"

    def __init__(self, z, factors=FACTORS, sizes=SIZES, fields=None):
        self.z, self.values, self.factors = z, factors, sizes
        self.fields = fields or {"z": Field(tuple(z.shape[1:]))}

    def table(self, keys=()):
        return {"z": self.z, **dict.fromkeys(keys, self.values)}


def scores(z: torch.Tensor) -> dict[str, float]:
    return {n.name.removeprefix("disentanglement/"): n.value for n in METRIC.evaluate(Table(z))}


def test_codes_that_are_the_factors_score_all_there_is():
    found = scores(EXACT)
    for name, value in found.items():
        assert value == pytest.approx(1, abs=1e-6), name
    assert found.keys() == {
        *("higgins", "factorvae", "mig", *(f"mig/{name}" for name in NAMES)),
        *("dci/disentanglement", "dci/completeness", "dci/informativeness"),
    }


def test_neither_order_scale_sign_nor_a_collapsed_number_matters():
    """Numbers that hardly move are not asked by FactorVAE, and tell the others nothing."""
    still = 1e-3 * DRAWN[:, :1]
    found = scores(torch.cat([still, -3 * EXACT[:, [2, 0]], EXACT[:, [3, 1]]], dim=1))
    assert found.pop("mig") > 0.9
    for name, value in found.items():
        assert value > (0.85 if name.startswith("mig") else 0.99), name


def test_rotated_codes_tell_as_much_but_are_not_disentangled():
    found = scores(ROTATED)
    assert found["mig"] < 0.3
    assert found["dci/disentanglement"] < 0.5
    assert found["dci/completeness"] < 0.5
    assert found["dci/informativeness"] > 0.9


def test_noise_scores_what_chance_gives():
    found = scores(DRAWN)
    # Standard errors of 500 groups are 0.02; a majority vote of six numbers is a little better than chance.
    assert found["higgins"] == pytest.approx(CHANCE, abs=0.1)
    assert found["factorvae"] == pytest.approx(CHANCE, abs=0.1)
    assert found["mig"] < 0.02
    assert found["dci/disentanglement"] < 0.05
    assert found["dci/completeness"] < 0.05
    assert found["dci/informativeness"] == pytest.approx(np.mean([1 / size for size in SIZES.values()]), abs=0.08)


def test_one_factor_told_by_two_numbers_costs_the_gap_and_completeness_only():
    found = scores(torch.cat([EXACT, EXACT[:, 2:3]], dim=1))
    assert found["mig/x"] == pytest.approx(0, abs=1e-9)
    assert found["mig/y"] == pytest.approx(1, abs=1e-6)
    assert found["mig"] == pytest.approx(0.75, abs=1e-6)
    assert found["higgins"] == pytest.approx(1)
    assert found["factorvae"] == pytest.approx(1)
    assert found["dci/disentanglement"] == pytest.approx(1, abs=1e-6)


def test_equal_seeds_give_equal_numbers_and_others_others():
    few = {"higgins": Higgins(4, 200, 200)}
    first, again, other = (Disentanglement(**few, seed=seed).evaluate(Table(ROTATED)) for seed in (0, 0, 1))
    assert first == again
    assert first[0].value != other[0].value


def test_each_number_says_how_it_was_computed():
    numbers = {n.name: n for n in METRIC.evaluate(Table(ROTATED))}
    for number in numbers.values():
        assert number.how["data"] == "somewhere test"
        assert (number.how["n"], number.how["codes"], number.how["seed"]) == (len(FACTORS), 4, 0)
    higgins = numbers["disentanglement/higgins"]
    assert higgins.how["chance"] == CHANCE
    assert higgins.error == pytest.approx((higgins.value * (1 - higgins.value) / 500) ** 0.5)


def test_gap_of_a_table_by_hand():
    """Two equally likely values; the first number tells them, the second is right in three of four, the third never."""
    factor = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])[:, None]
    z = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 0], [0, 1, 0, 1, 0, 1, 0, 1]]).T.double()
    told = np.log(2) + 0.75 * np.log(0.75) + 0.25 * np.log(0.25)
    information, of_factor = mutual_information(binned(z, 20), factor)
    np.testing.assert_allclose(information[:, 0], [np.log(2), told, 0], atol=1e-12)
    assert of_factor.item() == pytest.approx(np.log(2))
    number, of_it = MutualInformationGap()(z, factor, ("shape",), 0)
    assert number.value == of_it.value == pytest.approx(1 - told / np.log(2))


def test_informations_and_bins_are_those_of_scikit_learn_and_numpy():
    information, of_factor = mutual_information(binned(ROTATED, 20), FACTORS)
    for d, z in enumerate(ROTATED.T.numpy()):
        bins = np.digitize(z, np.histogram(z, 20)[1][:-1])
        for k, v in enumerate(FACTORS.T.numpy()):
            assert information[d, k].item() == pytest.approx(mutual_info_score(v, bins), abs=1e-9)
    np.testing.assert_allclose(of_factor, [np.log(size) for size in SIZES.values()], atol=1e-12)


def test_a_code_of_one_number_has_no_second_best():
    found = {n.name: n.value for n in MutualInformationGap()(EXACT[:, :1], FACTORS, NAMES, 0)}
    assert found["mig/shape"] == pytest.approx(1)
    assert found["mig"] == pytest.approx(1 / 4, abs=1e-9)


def test_importances_are_weighed_as_by_scipys_entropies():
    r = np.random.default_rng(2).gamma(0.3, size=(6, 4))
    r /= r.sum(0)
    each = 1 - scipy_entropy(r.T, base=4)
    assert disentanglement(torch.from_numpy(r)) == pytest.approx(each @ r.sum(1) / r.sum())
    assert completeness(torch.from_numpy(r)) == pytest.approx(np.mean(1 - scipy_entropy(r, base=6)))
    nothing = torch.zeros(3, 2, dtype=torch.float64)
    assert disentanglement(nothing) == completeness(nothing) == 0


def test_boosted_trees_agree_with_the_forest_on_the_factors_themselves():
    found = FactorPrediction(Boosted(trees=3, depth=3), train=300, test=100)(EXACT[:, :2], FACTORS[:, :2], NAMES[:2], 0)
    assert [number.value for number in found] == pytest.approx([1, 1, 1], abs=1e-3)


def test_sets_agree_in_their_groups_factor_and_in_that_alone():
    for factor, number in Groups(FACTORS).drawn(0, "here", 400, 3, 8):
        drawn = FACTORS[number]
        same = (drawn == drawn[:, :, :1]).all(2)
        assert same.gather(2, factor[:, None, None].expand(-1, 3, 1)).all()
        # Another factor of s values agrees in eight data with probability s^-7.
        assert same.double().mean() < CHANCE + 0.01
        assert not (drawn[:, 0, 0] == drawn[:, 1, 0]).all()
        assert factor.unique().tolist() == [0, 1, 2, 3]


def test_a_code_that_has_collapsed_scores_nothing():
    (number,) = MajorityVote(4, 10, 10)(1e-3 * DRAWN, FACTORS, NAMES, 0)
    assert number.value == 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (Table(EXACT, sizes=None), "the factors of somewhere test are not known"),
        (Table(EXACT.view(-1, 4, 1, 1)), "must be vectors of real numbers, and this model's are z of 4x1x1"),
        (
            Table(EXACT, fields={"z": Field((8, 7, 7)), "index": Field((7, 7), classes=512)}),
            "are z of 8x7x7 and index of 7x7 of 512 classes",
        ),
        (Table(EXACT / 0), "not finite"),
        (Table(EXACT[:1], FACTORS[:1]), r"metric\.data=1: these data have but one shape"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_a_line(table, message):
    with pytest.raises(UserError, match=message) as caught:
        METRIC.evaluate(table)
    assert "\n" not in str(caught.value)


def test_a_factor_of_one_value_is_left_out():
    sizes = {**SIZES, "colour": 1}
    factors = torch.cat([FACTORS, torch.zeros_like(FACTORS[:, :1])], dim=1)
    found = {n.name for n in Disentanglement(mig=SCORES["mig"]).evaluate(Table(EXACT, factors, sizes))}
    assert found == {f"disentanglement/mig{name}" for name in ("", *(f"/{factor}" for factor in NAMES))}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Disentanglement, "are all null"),
        (lambda: Higgins(size=1), "size must be at least 2, not 1"),
        (lambda: MajorityVote(test=0), "test must be at least 1, not 0"),
        (lambda: MajorityVote(collapsed=-1), "collapsed must be at least 0, not -1"),
        (lambda: MutualInformationGap(1), "bins must be at least 2, not 1"),
        (lambda: FactorPrediction(Forest(), train=0), "train must be at least 1, not 0"),
        (lambda: Forest(0), "trees must be at least 1, not 0"),
        (lambda: Boosted(depth=0), "depth must be at least 1, not 0"),
    ],
)
def test_options_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
