"""How far each known factor of the data has a number of its own in their codes, by the scores of four papers.

Codes are those without noise, the means of posteriors. All scores are computed from one table of codes z (N, D) and
factors (N, F), whatever it is that they draw from it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.spec import Field
from genlab.metrics.contract import Codes
from genlab.metrics.record import How, Number


class Score(Protocol):
    """A number, or a few, about a table of codes and factors."""

    def __call__(self, z: Tensor, factors: Tensor, names: Sequence[str], seed: int) -> list[Number]:
        """Of codes z (N, D) in double precision and factors (N, F) with these names."""


class Disentanglement:
    """The scores of Higgins et al. (2017), of Kim & Mnih (2018), MIG, and those of Eastwood & Williams (2018).

    Arguments:
        higgins, factorvae, mig, dci: what computes them; None leaves one out.
        seed: of the groups of data, and of the predictors.
    """

    needs = frozenset({"codes"})

    def __init__(
        self,
        higgins: Score | None = None,
        factorvae: Score | None = None,
        mig: Score | None = None,
        dci: Score | None = None,
        seed: int = 0,
    ) -> None:
        self.scores = [score for score in (higgins, factorvae, mig, dci) if score is not None]
        self.seed = seed
        if not self.scores:
            raise ValueError("higgins, factorvae, mig and dci are all null: leave at least one of them")

    def check(self, codes: Codes) -> None:
        if not codes.factors:
            raise UserError(
                f"metric=disentanglement: the factors of {codes.name} are not known; it is for data=sprites, "
                "data=dsprites, and others that have factors"
            )
        if codes.fields.keys() != {"z"} or len(codes.fields["z"].shape) != 1:
            found = " and ".join(f"{key} {described(field)}" for key, field in codes.fields.items())
            raise UserError(
                f"metric=disentanglement: codes must be vectors of real numbers, and this model's are {found}; it is "
                "for models such as vae and beta_vae"
            )

    def evaluate(self, codes: Codes) -> list[Number]:
        self.check(codes)
        sizes = codes.factors or {}
        several = [i for i, size in enumerate(sizes.values()) if size > 1]
        names = [list(sizes)[i] for i in several]
        table = codes.table(("factors",))
        z, factors = table["z"].double(), table["factors"][:, several]
        if not z.isfinite().all():
            raise UserError("metric=disentanglement: there are codes that are not finite numbers")
        for name, column in zip(names, factors.unbind(1), strict=True):
            if (column == column[0]).all():
                raise UserError(f"metric.data={len(z)}: these data have but one {name}; take more of them")
        how: How = {"n": len(z), "data": codes.name, "codes": z.shape[1], "seed": self.seed}
        found = [number for score in self.scores for number in score(z, factors, names, self.seed)]
        return [replace(x, name=f"disentanglement/{x.name}", how={**x.how, **how}) for x in found]


def described(field: Field) -> str:
    """A field in words: of 4x7x7, of 512 classes."""
    shape = f"of {'x'.join(map(str, field.shape))}"
    return shape if field.classes is None else f"{shape} of {field.classes} classes"
