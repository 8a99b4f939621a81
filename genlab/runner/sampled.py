"""The samples of a trained model, for the metrics that look at samples themselves and not at features of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from genlab.core.spec import Spec
from genlab.data.contract import DataSet
from genlab.metrics.classifier import classifier_features, suits_classifier
from genlab.metrics.features import Extractor
from genlab.metrics.record import How
from genlab.runner.measure import Bars, Drawing, share


@dataclass
class Sampled:
    """Samples that are drawn when they are asked for; `genlab.metrics.contract.Drawn`.

    Arguments:
        drawing: how.
        dataset: that the model learned.
    """

    drawing: Drawing
    dataset: DataSet

    @property
    def spec(self) -> Spec:
        return self.dataset.spec

    @property
    def data(self) -> str:
        return self.dataset.identity

    @property
    def how(self) -> How:
        return {**self.drawing.how, **self.drawing.observed()}

    @property
    def gaussians(self) -> tuple[Tensor, float] | None:
        centres, deviation = getattr(self.dataset, "modes", None), getattr(self.dataset, "spread", None)
        return None if centres is None or deviation is None else (centres, deviation)

    def classifier(self) -> Extractor | None:
        layer: DataSet = getattr(self.dataset, "layer", self.dataset)
        if not suits_classifier(layer.spec):
            return None
        with Bars(self.drawing.shown) as report:
            return classifier_features(layer, report).to(self.drawing.model.device)

    @property
    def device(self) -> torch.device:
        return self.drawing.model.device

    def parts(self, n: int) -> Iterator[Tensor]:
        with torch.no_grad():
            for _, samples in self.drawing(share(n)):
                yield samples["x"]
