"""The share of wrong answers, counted over all batches."""

import pytest
import torch

from genlab.core.errors import UserError
from genlab.core.spec import Batch, Field, Spec
from genlab.metrics.error_rate import ErrorRate

from codes_of import Given  # isort: skip

K, N = 3, 40
LABEL = torch.arange(N) % K
# Of 40 answers, the first 5 are wrong.
SAID = torch.where(torch.arange(N) < 5, (LABEL + 1) % K, LABEL)
LOG_P = (torch.nn.functional.one_hot(SAID, K) * 2.0).log_softmax(1)


class Answered(Given):
    """Answers in the place of codes, and the keys of the data that were asked about."""

    def __init__(self, rows: Batch, spec: Spec) -> None:
        super().__init__({"test": rows}, spec, {"log_p": Field((K,))})
        self.classified_keys: list[str] = []

    def classified(self, of: str = "x") -> "Answered":
        self.classified_keys.append(of)
        return self


def test_the_error_is_the_share_of_wrong_answers_in_percent() -> None:
    codes = Answered({"log_p": LOG_P, "label": LABEL}, {"x": Field((2,)), "label": Field((), classes=K)})
    (number,) = ErrorRate().evaluate(codes)
    assert (number.name, number.value, number.unit) == ("error_rate", 12.5, "%")
    assert number.error == pytest.approx(100 * (0.125 * 0.875 / N) ** 0.5)
    assert (number.how["n"], number.how["wrong"], number.how["data"]) == (N, 5, "somewhere test")
    assert codes.classified_keys == ["x"]


def test_where_few_labels_are_told_those_are_asked_about() -> None:
    spec = {"x": Field((2,)), "labelled": Field((2,)), "labelled_as": Field((), classes=K)}
    codes = Answered({"log_p": LOG_P, "labelled_as": LABEL}, spec)
    (number,) = ErrorRate().evaluate(codes)
    assert number.value == 12.5
    assert codes.classified_keys == ["labelled"]


def test_data_without_labels_are_refused() -> None:
    with pytest.raises(UserError, match="metric=error_rate: somewhere test has no labels"):
        ErrorRate().check(Answered({"log_p": LOG_P}, {"x": Field((2,))}))
