"""How much of a codebook is used, over a split.

    p_j = N_j / sum_k N_k,    used = |{j: N_j > 0}|,    perplexity = exp(-sum_j p_j log p_j)

N_j counts the places of all data that take vector j. The perplexity is how many vectors would do if all were used
alike.

References:
    Neural Discrete Representation Learning (van den Oord, Vinyals & Kavukcuoglu, 2017).
"""

import torch
from torch import Tensor

from genlab.core.collectives import all_sum
from genlab.core.errors import UserError
from genlab.metrics.contract import Codes
from genlab.metrics.disentanglement import described
from genlab.metrics.record import How, Number


class Codebook:
    """Used codes, their share and the perplexity, of each codebook that the model has."""

    needs = frozenset({"codes"})

    def check(self, codes: Codes) -> None:
        if not self.sizes(codes):
            found = " and ".join(f"{key} {described(field)}" for key, field in codes.fields.items())
            raise UserError(
                f"metric=codebook: this model's codes are {found}, and it has no codebook; it is for models such as "
                "vq_vae, vq_vae2 and dvae"
            )

    @staticmethod
    def sizes(codes: Codes) -> dict[str, int]:
        """How many vectors each codebook has, by the key of the numbers of those that are used."""
        return {key: field.classes for key, field in codes.fields.items() if field.classes is not None}

    def evaluate(self, codes: Codes) -> list[Number]:
        self.check(codes)
        counts: dict[str, Tensor] = {}
        for part in codes.parts():
            for key, size in self.sizes(codes).items():
                counted = part[key].flatten().bincount(minlength=size)
                counts[key] = counts[key] + counted if key in counts else counted
        numbers = []
        for key, size in self.sizes(codes).items():
            count = all_sum(counts[key]).cpu()
            level = key.removeprefix("index").removeprefix("_")
            name = f"codebook/{level}" if level else "codebook"
            used, share = int((count > 0).sum()), count.double() / count.sum()
            how: How = {"n": codes.count, "data": codes.name, "codes": size, "places": int(count.sum())}
            perplexity = float(torch.special.entr(share).sum().exp())
            numbers += [
                Number(f"{name}/used", used, None, "codes", {"is": "vectors taken at least once", **how}),
                Number(f"{name}/share", used / size, None, "", {"is": "those of all vectors", **how}),
                Number(f"{name}/perplexity", perplexity, None, "codes", {"is": "exp of the entropy of use", **how}),
            ]
        return numbers
