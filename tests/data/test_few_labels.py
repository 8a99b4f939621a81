"""Few labels beside many data: as many of each class, the same for a seed, and all seen alike often."""

import pytest
import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field, Spec
from genlab.data.contract import InMemory, SplitName
from genlab.data.few_labels import FewLabels, Partly
from genlab.data.stream import Request, Requested

N, K = 120, 4


class Numbered:
    """Data whose value is their number, of class number mod 4."""

    identity = "numbered"
    classes = ("a", "b", "c", "d")

    def __init__(self, label: Tensor | None = None) -> None:
        self.label = torch.arange(N) % K if label is None else label
        self.spec: Spec = {"x": Field((1,)), "label": Field((), classes=K)}

    def split(self, name: SplitName) -> InMemory:
        return InMemory(torch.arange(N)[:, None].float(), label=self.label)


def seen(split: Partly, step: int, place: Tensor) -> list[int]:
    """The numbers of the labelled data at these places of a global batch."""
    batch = Requested(split, seed=3)[Request(step, place, place)]
    assert batch["x"].flatten().tolist() == place.tolist()
    numbers = batch["labelled"].flatten().long()
    assert numbers.remainder(K).equal(batch["labelled_as"])
    return numbers.tolist()


def test_as_many_of_each_class_keep_their_label():
    train = FewLabels(Numbered(), 20).split("train")
    assert len(train) == N
    assert len(set(train.known.tolist())) == 20
    assert train.known.remainder(K).bincount().tolist() == [5] * K


def test_which_they_are_is_a_matter_of_the_seed():
    drawn = [set(FewLabels(Numbered(), 20, seed).split("train").known.tolist()) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    # Fewer labels of the same seed are some of those.
    assert set(FewLabels(Numbered(), 8).split("train").known.tolist()) < drawn[0]


def test_a_batch_sees_each_label_once_before_any_twice():
    train = FewLabels(Numbered(), 20).split("train")
    known = sorted(train.known.tolist())
    place = torch.arange(40)
    first, second = seen(train, 7, place), seen(train, 8, place)
    assert sorted(first[:20]) == sorted(first[20:]) == sorted(second[:20]) == known
    assert first != second
    assert first == seen(FewLabels(Numbered(), 20).split("train"), 7, place)


def test_processes_see_what_one_would():
    train, place = FewLabels(Numbered(), 20).split("train"), torch.arange(16)
    assert seen(train, 7, place[:8]) + seen(train, 7, place[8:]) == seen(train, 7, place)


def test_data_asked_for_without_chance_are_always_the_same():
    train, index = FewLabels(Numbered(), 20).split("train"), torch.tensor([3, 23, 4])
    batch = train.batch(index)
    assert batch["x"].flatten().tolist() == [3, 23, 4]
    assert batch["labelled"].equal(train.known[index % 20][:, None].float())


@pytest.mark.parametrize("name", ["validation", "test"])
def test_other_splits_have_all_labels(name):
    batch = FewLabels(Numbered(), 20).split(name).batch(torch.arange(10))
    assert batch["labelled"].equal(batch["x"])
    assert batch["labelled_as"].tolist() == [i % K for i in range(10)]


def test_labelled_images_are_augmented_with_a_chance_of_their_own():
    x = torch.arange(2 * N * 3, dtype=torch.float32).view(N, 1, 2, 3)
    train = Partly(InMemory(x, label=torch.arange(N) % K, flip=True), torch.arange(N), 0)
    place = torch.arange(N)
    batch = train.batch(place, Rng(0, place, step=1).stage("augment"))
    turned = [batch[key][:, 0, 0, 0] > batch[key][:, 0, 0, 1] for key in ("x", "labelled")]
    assert all(0 < int(t.sum()) < N for t in turned)
    assert not turned[0].equal(turned[1])


def test_nothing_is_loaded_for_the_spec_and_names_differ():
    data = FewLabels(Numbered(), 20)
    assert set(data.spec) == {"x", "labelled", "labelled_as"}
    assert data.spec["labelled_as"].classes == K
    assert data.classes == Numbered.classes
    names = {FewLabels(Numbered(), n, seed).identity for n in (8, 20) for seed in (0, 1)}
    assert len(names | {"numbered"}) == 5


def test_what_cannot_be_had_is_a_line():
    unlabelled = Numbered()
    del unlabelled.spec["label"]
    with pytest.raises(UserError, match=r"data\.of: numbered has no labels"):
        FewLabels(unlabelled)
    with pytest.raises(ValueError, match="labelled=10 must be a multiple of 4"):
        FewLabels(Numbered(), 10)
    with pytest.raises(ValueError, match="labelled=0 must be"):
        FewLabels(Numbered(), 0)
    with pytest.raises(ValueError, match="seed must be at least 0"):
        FewLabels(Numbered(), 20, -1)
    with pytest.raises(UserError, match=r"data\.labelled=124: that is 31 of each class, .* 30 training .* most is 120"):
        FewLabels(Numbered(), 124).split("train")
    rare = torch.zeros(N, dtype=torch.long)
    rare[:9] = torch.arange(9) % K
    with pytest.raises(UserError, match="2 training data of class b; the most is 8"):
        FewLabels(Numbered(rare), 16).split("train")
