"""What a linear classifier makes of codes: how plainly they tell the label, which nothing told them.

    p(y | z) = softmax(W (z - m) / s + b)_y,    minimising -sum_i log p(y_i | z_i) + |W|^2 / (2 C)

It is fitted to codes of training data, where m and s are the mean and the deviation of each number. C is the one that
does best on validation data, and the accuracy is that on test data, +- sqrt(a (1 - a) / n). Of a diffusion model, which
has no codes, it reads what its network computes on its way from data with a little noise, averaged over places.

References:
    Understanding intermediate layers using linear classifier probes (Alain & Bengio, 2017).
    Denoising Diffusion Autoencoders are Unified Self-supervised Learners (Xiang et al., 2023), for diffusion models.
"""

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from genlab.core.collectives import of_first
from genlab.core.errors import UserError
from genlab.metrics.contract import Codes
from genlab.metrics.disentanglement import described
from genlab.metrics.record import How, Number


class Probe:
    """The accuracy of a linear probe on the test split.

    Arguments:
        key: which of the codes is read, where there are several; None is all that are real numbers, as one vector.
        n_train, n_validation: how many data it is fitted and chosen on, evenly spread over their splits; None is all.
        c: the values of C that are tried.
        iterations: of the optimizer, at most, for each C.
        t: the noise that a diffusion model sees data with, as a time in (0, 1].
        layer: of its network; None is the one that it names itself, of the U-Net the middle.
        seed: of that noise.
    """

    needs = frozenset({"inner"})

    def __init__(
        self,
        key: str | None = None,
        n_train: int | None = 10_000,
        n_validation: int | None = None,
        c: Sequence[float] = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0),
        iterations: int = 500,
        t: float = 0.05,
        layer: str | None = None,
        seed: int = 0,
    ) -> None:
        for name, n in (("n_train", n_train), ("n_validation", n_validation)):
            if n is not None and n < 2:
                raise ValueError(f"{name} must be at least 2, or null for all data, not {n}")
        if not c or min(c) <= 0:
            raise ValueError(f"c must be numbers above 0, not {list(c)}")
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, not {iterations}")
        if not 0 < t <= 1:
            raise ValueError(f"t must be above 0 and at most 1, not {t}")
        self.key, self.n_train, self.n_validation, self.c = key, n_train, n_validation, sorted(c)
        self.iterations, self.t, self.layer, self.seed = iterations, t, layer, seed

    def check(self, codes: Codes) -> None:
        if "label" not in codes.spec or codes.spec["label"].classes is None:
            raise UserError(f"metric=probe: {codes.name} has no labels; choose data that have, as data=mnist")
        if not codes.name.endswith(" test"):
            raise UserError(
                "metric=probe: it is fitted on the training split, chosen on the validation split and asked "
                "on the test split; leave metric.split out"
            )
        try:
            inner = codes.inner(self.t, self.layer, self.seed)
        except UserError as error:
            raise UserError(f"metric.probe: {error}") from error
        if "label" in inner.told:
            raise UserError(
                "metric=probe: the model is told the label where it encodes, which its codes may tell again; it is for "
                "models without conditioner=label"
            )
        self.keys(inner)

    def keys(self, codes: Codes) -> list[str]:
        """Of the codes that are read."""
        real = [key for key, field in codes.fields.items() if field.classes is None and field.vocabulary is None]
        if self.key is not None and self.key not in real:
            found = " and ".join(f"{key} {described(field)}" for key, field in codes.fields.items())
            raise UserError(f"metric.probe.key={self.key}: codes are {found}; choose {' or '.join(real)}, or null")
        return real if self.key is None else [self.key]

    def evaluate(self, codes: Codes) -> list[Number]:
        self.check(codes)
        inner = codes.inner(self.t, self.layer, self.seed)
        splits = (inner.of("train", self.n_train), inner.of("validation", self.n_validation), inner)
        tables = [self.read(split) for split in splits]
        return of_first(lambda: self.fitted(tables, inner, codes))

    def read(self, codes: Codes) -> tuple[Tensor, Tensor]:
        """The vectors (N, D) in single precision, and the labels (N,)."""
        table = codes.table(("label",))
        vectors = torch.cat([table[key].flatten(1).float() for key in self.keys(codes)], dim=1)
        if not vectors.isfinite().all():
            raise UserError("metric=probe: there are codes that are not finite numbers")
        return vectors, table["label"]

    def fitted(self, tables: list[tuple[Tensor, Tensor]], inner: Codes, codes: Codes) -> list[Number]:
        train, validation, (x, y) = tables
        model, c, converged = best(train, validation, self.c, self.iterations)
        accuracy = float(model.score(x.numpy(), y.numpy()))
        most = float(y.bincount().max()) / len(y)
        how: How = {
            "is": "accuracy of a linear classifier of " + " and ".join(self.keys(inner)),
            "dimension": x.shape[1],
            "n": len(y),
            "data": codes.name,
            "n_train": len(train[1]),
            "n_validation": len(validation[1]),
            "C": c,
            "chance": round(most, 4),
            "error": "binomial standard error",
        }
        if inner.fields.keys() == {"features"}:
            how |= {"t": self.t, "layer": self.layer or "the network's own", "seed": self.seed}
        if not converged:
            how["note"] = f"not converged in {self.iterations} iterations"
        error = math.sqrt(accuracy * (1 - accuracy) / len(y))
        return [Number("probe/accuracy", accuracy, error, "", how)]


def best(train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], c: Sequence[float], iterations: int):  # type: ignore[no-untyped-def]
    """The classifier that does best on validation data, its C, the least of those that do, and whether it converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    (x, y), (x_validation, y_validation) = ([part.numpy() for part in table] for table in (train, validation))
    found = None
    for value in c:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=value, max_iter=iterations))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y)
        score = model.score(x_validation, y_validation)
        if found is None or score > found[0]:
            found = score, model, value, int(model[-1].n_iter_.max()) < iterations
    assert found is not None
    return found[1:]
