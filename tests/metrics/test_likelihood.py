"""The numbers of a likelihood are means over data, in the right units, with their error."""

import json
import math

import pytest
import torch

from genlab.core.errors import UserError
from genlab.core.spec import Field
from genlab.metrics.likelihood import NegativeLogLikelihood
from genlab.metrics.record import Number
from genlab.models.contract import Nll

IMAGE = Field((1, 2, 2), levels=256)


def stream(n: int = 30) -> tuple[list[Nll], torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    prior, steps = torch.rand(n, generator=generator), torch.rand(n, 5, generator=generator)
    parts = zip(prior.split(8), steps.split(8), strict=True)
    return [Nll(p + s.sum(1), "upper", {"prior": p, "diffusion": s}, "all steps") for p, s in parts], prior, steps


def test_means_errors_and_units():
    values, prior, steps = stream()
    numbers = {number.name: number for number in NegativeLogLikelihood().evaluate(values, IMAGE, {"data": "toy test"})}
    nats = (prior + steps.sum(1)).double()
    total = numbers["nll/nats"]
    assert total.value == pytest.approx(nats.mean().item(), rel=1e-6)
    assert total.error == pytest.approx(nats.std().item() / 30**0.5, rel=1e-6)
    assert total.how == {
        "bound": "upper bound",
        "estimator": "all steps",
        "n": 30,
        "data": "toy test",
        "error": "standard error over data",
    }
    assert numbers["nll/bits-per-dim"].value == pytest.approx(total.value / (4 * math.log(2)))
    assert numbers["nll/prior/nats"].value + numbers["nll/diffusion/nats"].value == pytest.approx(total.value)
    assert numbers["nll/diffusion/nats"].parts == pytest.approx(steps.double().mean(0).tolist(), rel=1e-6)
    assert sum(numbers["nll/diffusion/bits-per-dim"].parts) == pytest.approx(
        numbers["nll/diffusion/bits-per-dim"].value
    )


def test_uniform_pixels_are_eight_bits():
    nats = torch.full((10,), 4 * math.log(256), dtype=torch.float64)
    numbers = NegativeLogLikelihood().evaluate([Nll(nats, "exact")], IMAGE)
    assert [(n.name, n.unit) for n in numbers] == [("nll/nats", "nats"), ("nll/bits-per-dim", "bits/dim")]
    assert numbers[1].value == pytest.approx(8, rel=1e-14)
    assert numbers[1].error == pytest.approx(0, abs=1e-7)
    assert numbers[1].how["bound"] == "exact"


def test_a_density_has_no_bits_per_dimension():
    numbers = NegativeLogLikelihood().evaluate([Nll(torch.rand(4), "estimate")], Field((2,)))
    assert [n.name for n in numbers] == ["nll/nats"]


def test_no_data_is_an_error():
    with pytest.raises(UserError, match="at least one batch"):
        NegativeLogLikelihood().evaluate([], IMAGE)
    with pytest.raises(UserError, match=r"metric\.data must be at least 2, not 0"):
        NegativeLogLikelihood(n=0)


def test_a_number_survives_its_file_and_reads_as_a_row():
    number = Number("fid/test", 3.14159, 0.0123, "", {"n": 10, "sampler": "ddim"}, (1.0, 2.0))
    assert Number.from_json(json.loads(json.dumps(number.to_json()))) == number
    assert number.as_row() == ("fid/test", "3.1416 ± 0.012", "n 10, sampler ddim")
    assert Number("nll/nats", 2.5, unit="nats").as_row() == ("nll/nats", "2.5 nats", "")
