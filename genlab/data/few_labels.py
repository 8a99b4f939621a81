"""Data of which few have a label: what semi-supervised models learn from.

A batch has data "x" whose labels are not told and, for each of them, one of the few "labelled" with its class
"labelled_as". In batch number m of training, place i of the global batch has the labelled datum

    pi_m(i mod n),    pi_m the permutation of 0 .. n - 1 with the seed and number m

so that no label is seen twice in a batch before all were seen once. The class has a key of its own: "label" is the
class of "x" wherever there is one, and no model shall take the one for the other.

References:
    Improved Techniques for Training GANs (Salimans et al., 2016), section 6.1.
    Semi-supervised Learning with Ladder Networks (Rasmus et al., 2015), section 4, balanced classes.
"""

from functools import cached_property

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import MASK, Rng
from genlab.core.spec import Batch, Spec
from genlab.data.contract import DataSet, Split, SplitName
from genlab.data.stream import permutation


class FewLabels:
    """A data set whose training data have lost their labels, all but a few.

    Its validation and test data all have theirs, so "labelled" is "x" there.

    Arguments:
        of: the data set, with labels.
        labelled: how many training data keep theirs, as many of each class; "x" has their images too.
        seed: of which they are, and of the order in which they come.

    Raises UserError where the data have no labels, or, when they are loaded, not as many.
    """

    def __init__(self, of: DataSet, labelled: int = 100, seed: int = 0) -> None:
        if not 0 <= seed <= MASK:
            raise ValueError(f"seed must be at least 0 and below 2^32, not {seed}")
        field = of.spec.get("label")
        if field is None or field.classes is None:
            raise UserError(f"data.of: {of.identity} has no labels of which to keep a few; choose labelled data")
        if labelled < 1 or labelled % field.classes:
            raise ValueError(
                f"labelled={labelled} must be a multiple of {field.classes}, for as many data of each class"
            )
        self.of, self.labelled, self.seed, self.label = of, labelled, seed, field

    @property
    def spec(self) -> Spec:
        return {"x": self.of.spec["x"], "labelled": self.of.spec["x"], "labelled_as": self.label}

    @property
    def identity(self) -> str:
        return f"{self.of.identity}-{self.labelled}_labels_drawn_by_{self.seed}"

    @property
    def classes(self) -> tuple[str, ...] | None:
        return self.of.classes

    def split(self, name: SplitName) -> "Partly":
        if name == "train":
            return self._train
        return Partly(self.of.split(name), None, self.seed)

    @cached_property
    def _train(self) -> "Partly":
        split = self.of.split("train")
        label = torch.cat([split.batch(index)["label"] for index in torch.arange(len(split)).split(1000)])
        return Partly(split, self.chosen(label), self.seed)

    def chosen(self, label: Tensor) -> Tensor:
        """The numbers of those that keep their label (N,), by the labels of all."""
        each = self.labelled // (self.label.classes or 1)
        order = permutation(len(label), self.seed)
        found = []
        for number in range(self.label.classes or 1):
            own = order[label[order] == number]
            if len(own) < each:
                name = number if self.classes is None else self.classes[number]
                raise UserError(
                    f"data.labelled={self.labelled}: that is {each} of each class, and {self.of.identity} has "
                    f"{len(own)} training data of class {name}; the most is "
                    f"{int(label.bincount(minlength=self.label.classes or 1).min()) * (self.label.classes or 1)}"
                )
            found.append(own[:each])
        return torch.cat(found)


class Partly:
    """A split of which few data are known to be of a class.

    Arguments:
        of: the data with all labels.
        known: (N,), the numbers of those whose label is told; None for all, each beside itself.
        seed: of the order in which they come.
    """

    def __init__(self, of: Split, known: Tensor | None, seed: int) -> None:
        self.of, self.known, self.seed = of, known, seed

    @property
    def in_memory(self) -> bool:
        return self.of.in_memory

    def __len__(self) -> int:
        return len(self.of)

    def batch(self, index: Tensor, rng: Rng | None = None) -> Batch:
        """Beside datum i, where nothing is drawn, stands the labelled one of number i mod n."""
        whole = self.of.batch(index, rng)
        x = whole["x"]
        if self.known is None:
            return {"x": x, "labelled": x, "labelled_as": whole["label"]}
        if rng is None:
            labelled = self.of.batch(self.known[index % len(self.known)])
        else:
            order = permutation(len(self.known), self.seed, rng.step)
            labelled = self.of.batch(self.known[order[rng.index % len(self.known)]], rng.stage("labelled"))
        return {"x": x, "labelled": labelled["x"], "labelled_as": labelled["label"]}
