"""The codes of a data set, kept and looked at: where do data of one kind lie?

Codes of two numbers are places in the plane as they are. Others are brought there by their two principal components,
the plane in which most of their variance lies, or by t-SNE, which keeps neighbours together and no distances.

References:
    Visualizing Data using t-SNE (van der Maaten & Hinton, 2008).
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.spec import Batch
from genlab.models.contract import Model, Watch
from genlab.tasks.codes import said
from genlab.tasks.contract import Scatter, SplitName, Task, given

# t-SNE is of so many principal components, as is usual: distances in them are quicker and have less noise.
COMPONENTS = 50
# What stands beside the codes, where the data have it.
BESIDE = ("label", "factors")


class Embed(Task):
    """Encode a split, or its first n data: a table of all, and a picture and a projector of some.

    The table has the codes by their keys, "label" and "factors" where the data have them, and "datum", the numbers of
    the data in their split.

    Arguments:
        projection: "pca" or "tsne", where codes have more than two numbers.
        points: how many data are drawn, evenly spread.
        perplexity: of t-SNE, about how many neighbours each datum has.
        key: which of the codes is drawn, where there are several; None is all that are real numbers, as one vector.
        split: of the data set.
    """

    needs = frozenset({"encode"})
    layout = ()
    exact = True
    sampled = False
    table = "codes"

    def __init__(
        self,
        projection: Literal["pca", "tsne"] = "pca",
        points: int = 5000,
        perplexity: float = 30.0,
        key: str | None = None,
        split: SplitName = "test",
    ) -> None:
        if points < 3:
            raise ValueError(f"points must be at least 3, not {points}")
        if perplexity <= 0:
            raise ValueError(f"perplexity must be above 0, not {perplexity}")
        self.projection, self.points, self.perplexity, self.key, self.split = projection, points, perplexity, key, split
        self.keys: list[str] = [] if key is None else [key]

    def check(self, model: Model, sampler: Any) -> None:
        super().check(model, sampler)
        fields = model.latent_spec
        real = [key for key, field in fields.items() if field.classes is None and field.vocabulary is None]
        if self.key is not None and self.key not in real:
            raise UserError(f"task.key={self.key}: codes are {said(fields)}; choose {' or '.join(real)}, or null")
        self.keys = real if self.key is None else [self.key]

    def __call__(
        self,
        model: Model,
        index: Tensor,
        seed: int,
        sampler: Any,
        watch: Watch | None = None,
        batch: Batch | None = None,
    ) -> Batch:
        batch = given(self, batch)
        return {**model.encode(batch), **{key: batch[key] for key in BESIDE if key in batch}, "datum": index}

    def scatter(self, samples: Callable[[int], Batch]) -> Scatter | None:
        held = samples(self.points)
        vectors = torch.cat([held[key].flatten(1).float() for key in self.keys], dim=1)
        return Scatter(vectors, *in_the_plane(vectors, self.projection, self.perplexity))


def in_the_plane(vectors: Tensor, projection: str, perplexity: float) -> tuple[Tensor, tuple[str, str], str]:
    """Places (N, 2) of vectors (N, D), the names of the axes, and how they came about."""
    n, size = vectors.shape
    if not vectors.isfinite().all():
        raise UserError("task=embed: there are codes that are not finite numbers")
    if size <= 2:
        lone = torch.zeros(n, 1) if size == 1 else vectors[:, :0]
        return torch.cat([vectors, lone], dim=1), ("z_0", "z_1" if size == 2 else ""), f"the codes' {size} numbers"
    if n < 3:
        raise UserError(f"n={n}: {n} codes of {size} numbers make no picture; take at least 3")
    from sklearn.decomposition import PCA

    if projection == "pca":
        found = PCA(2, random_state=0)
        places = torch.from_numpy(found.fit_transform(vectors.numpy()))
        first, second = (float(share) for share in found.explained_variance_ratio_)
        axes = (f"first component, {first:.1%} of the variance", f"second component, {second:.1%}")
        return places, axes, f"PCA of {size} numbers: {first + second:.1%} of the variance"
    from sklearn.manifold import TSNE

    few = min(COMPONENTS, n - 1)
    reduced = PCA(few, random_state=0).fit_transform(vectors.numpy()) if size > few else vectors.numpy()
    # Of n data each has but n - 1 neighbours, and t-SNE wants three times the perplexity of them.
    perplexity = min(perplexity, (n - 1) / 3)
    places = torch.from_numpy(TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(reduced))
    by_way = f" by way of {few} principal components" if size > few else ""
    return places, ("", ""), f"t-SNE of {size} numbers{by_way}, perplexity {perplexity:g}: distances mean nothing"
