import math

import pytest
import torch

from genlab.data.heartbeat import Heartbeat


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_a_beat_comes_in_every_fifth_place_and_the_label_is_the_first(name):
    split = Heartbeat().split(name)
    batch = split.batch(torch.arange(len(split)))
    for x, label in zip(batch["x"][:5], batch["label"][:5].tolist(), strict=True):
        assert (x == 1).nonzero().flatten().tolist() == [label, label + 5, label + 10, label + 15]
        assert (x == -1).sum() == 16
    sequences, counts = batch["x"].unique(dim=0, return_counts=True)
    assert len(sequences) == 5
    share = counts / len(split)
    assert -(share * share.log2()).sum().item() == pytest.approx(math.log2(5), abs=1e-6)
