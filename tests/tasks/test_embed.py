"""Embeddings: rows are the model's codes, and places in the plane are what their caption says."""

import pytest
import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field, Spec
from genlab.models.contract import Model
from genlab.tasks.embed import Embed, in_the_plane
from genlab.tasks.interpolate import Interpolate


class Quantized(Model):
    """Codes of a map of vectors and their numbers."""

    can = frozenset({"encode", "decode"})

    def encode(self, batch: Batch, rng: Rng | None = None) -> Batch:
        index = (batch["x"] > 0).long().squeeze(1)
        return {"z_top": batch["x"].sign(), "z_bottom": batch["x"].round(), "index_top": index}

    def decode(self, batch: Batch) -> Batch:
        assert all(z.is_floating_point() for z in batch.values())
        return {"x": (batch["z_top"] + batch["z_bottom"]) / 2}

    @property
    def latent_spec(self) -> Spec:
        maps = {key: Field((1, 2, 2)) for key in ("z_top", "z_bottom")}
        return {**maps, "index_top": Field((2, 2), classes=2)}


MODEL = Quantized({"x": Field((1, 2, 2), levels=256)})
DATA = Rng(0, torch.arange(40)).normal(1, 2, 2)


def rows(task: Embed, batch: Batch) -> Batch:
    task.check(MODEL, None)
    return task(MODEL, torch.arange(len(batch["x"])), 0, None, None, batch)


def test_rows_are_codes_and_what_is_known_of_the_data() -> None:
    batch = {"x": DATA, "label": torch.arange(40) % 3, "factors": torch.zeros(40, 2).long(), "noise": DATA}
    found = rows(Embed(), batch)
    assert found.keys() == {"z_top", "z_bottom", "index_top", "label", "factors", "datum"}
    for key, value in MODEL.encode(batch).items():
        assert torch.equal(found[key], value)
    assert found["datum"].tolist() == list(range(40))


def test_vectors_are_all_real_codes_or_those_of_a_key() -> None:
    for task, size in ((Embed(), 8), (Embed(key="z_bottom"), 4)):
        held = rows(task, {"x": DATA})
        asked: list[int] = []

        def some(n: int, held: Batch = held, asked: list[int] = asked) -> Batch:
            asked.append(n)
            return held

        scatter = task.scatter(some)
        assert scatter is not None
        assert asked == [5000]
        assert scatter.vectors.shape == (40, size)
        assert torch.equal(scatter.vectors[:, -4:], held["z_bottom"].flatten(1))
        assert scatter.places.shape == (40, 2)


def test_codes_of_two_numbers_are_places() -> None:
    places, axes, how = in_the_plane(DATA[:, 0, 0], "tsne", 30)
    assert torch.equal(places, DATA[:, 0, 0])
    assert axes == ("z_0", "z_1")
    assert how == "the codes' 2 numbers"
    lone, axes, _ = in_the_plane(DATA[:, 0, 0, :1], "pca", 30)
    assert torch.equal(lone[:, 0], DATA[:, 0, 0, 0])
    assert (lone[:, 1] == 0).all()


def test_principal_components_are_those_of_the_covariance() -> None:
    x = (DATA.flatten(1) @ torch.diag(torch.tensor([5.0, 0.1, 2.0, 0.3])) + 3).double()
    places, axes, how = in_the_plane(x, "pca", 30)
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    expected = (x - x.mean(0)) @ vectors[:, [3, 2]]
    torch.testing.assert_close(places.double().abs(), expected.abs(), atol=1e-4, rtol=1e-4)
    first, second = (float(values[i] / values.sum()) for i in (3, 2))
    assert axes[0] == f"first component, {first:.1%} of the variance"
    assert how == f"PCA of 4 numbers: {first + second:.1%} of the variance"


def test_neighbours_stay_together_by_tsne() -> None:
    kinds = torch.arange(60) % 3
    x = Rng(1, torch.arange(60)).normal(5) + 50 * torch.nn.functional.one_hot(kinds, 5)
    places, _, how = in_the_plane(x, "tsne", 30)
    assert "perplexity 19.6667" in how
    nearest = torch.cdist(places, places).fill_diagonal_(torch.inf).argmin(1)
    assert torch.equal(kinds[nearest], kinds)


def test_numbers_in_a_codebook_are_not_mixed() -> None:
    task = Interpolate(points=3, path="straight")
    task.check(MODEL, None)
    ends: Tensor = DATA[:2]
    row = task(MODEL, torch.tensor([0]), 0, None, None, {"x": ends})["x"][0]
    torch.testing.assert_close(row[1], (row[0] + row[2]) / 2)


def test_what_cannot_be_embedded_is_said() -> None:
    with pytest.raises(UserError, match=r"task.key=index_top: codes are z_top of 1x2x2 .*; choose z_top or z_bottom"):
        Embed(key="index_top").check(MODEL, None)
    with pytest.raises(UserError, match="n=2: 2 codes of 4 numbers"):
        in_the_plane(DATA[:2].flatten(1), "pca", 30)
    with pytest.raises(UserError, match="not finite"):
        in_the_plane(DATA.flatten(1) / 0, "pca", 30)
    with pytest.raises(ValueError, match="points must be"):
        Embed(points=2)
    with pytest.raises(ValueError, match="perplexity must be"):
        Embed(perplexity=0)
