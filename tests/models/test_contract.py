"""What every model promises, of every file in configs/model, each made tiny as `tiny.py` says."""

import functools
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from omegaconf import OmegaConf, open_dict
from tiny import ALSO, TINY
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field, spec_from_config, spec_to_config
from genlab.core.units import from_levels
from genlab.models.contract import Model
from genlab.runner.build import build
from genlab.runner.schema import register

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))
CASES = {name: [f"model={name}", *TINY.get(name, [])] for name in FILES}
CASES |= {f"{name} {also}": CASES[name] + more for name in FILES for also, more in ALSO.get(name, {}).items()}
cases = pytest.mark.parametrize("case", CASES)
ABILITIES = {
    "sample": lambda model, batch, rng: model.sample({}, rng),
    "nll": lambda model, batch, rng: model.nll(batch, rng),
    "encode": lambda model, batch, rng: model.encode(batch),
    "decode": lambda model, batch, rng: model.decode(batch),
    "features": lambda model, batch, rng: model.features(batch, rng, 0.5),
    "classify": lambda model, batch, rng: model.classify(batch),
}


@functools.cache
def config_of(case: str) -> dict[str, Any]:
    """The resolved config of a training command."""
    register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        composed = hydra.compose("train", CASES[case])
    with open_dict(composed):
        composed.spec = spec_to_config(build(composed.data, "data").spec)
        composed.data_size = 100
    parts = ("model", "sampler", "estimator", "spec")
    return {part: OmegaConf.to_container(composed[part], resolve=True) for part in parts if composed[part] is not None}


def part(case: str, name: str) -> Any:
    """The sampler or the estimator; None where the model needs none."""
    config = config_of(case)
    return build(config[name], name) if name in config else None


def untrained(case: str, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    config = config_of(case)
    return build(config["model"], "model", extra={"spec": spec_from_config(config["spec"])})


def trained(case: str, seed: int = 0) -> Model:
    """A model whose weights have been moved from where they start, which often is zero."""
    model = untrained(case, seed)
    model.prepare([data(model, 8)])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.finish([data(model, 8)])
    return model.eval()


def data(model: Model, rows: int) -> Batch:
    """Random values of each key that training reads."""
    rng = Rng(7, torch.arange(rows))
    return {key: values(model.spec[key], rng.stage(key)) for key in sorted(model.reads | {"x"})}


def values(field: Field, rng: Rng) -> Tensor:
    if field.levels is not None:
        return from_levels(rng.integers(field.levels, *field.shape), field.levels)
    kinds = field.classes or field.vocabulary
    return rng.normal(*field.shape) if kinds is None else rng.integers(kinds, *field.shape)


def asked(model: Model, rows: int) -> Batch:
    """Conditions for samples."""
    batch = data(model, rows)
    return {key: batch[key] for key in model.conditions}


def test_every_model_says_what_makes_it_tiny():
    assert sorted(TINY) == FILES
    assert set(ALSO) <= set(FILES)


@cases
def test_players_own_every_weight_once(case):
    model = untrained(case)
    players = model.players()
    owned = [parameter for player in players.values() for parameter in player.parameters]
    assert len({id(p) for p in owned}) == len(owned)
    assert {id(p) for p in owned} == {id(p) for p in model.parameters() if p.requires_grad}
    assert all(player.parameters and player.every >= 1 and player.repeats >= 1 for player in players.values())
    assert not players or model.counts in players


@cases
def test_a_players_loss_reaches_all_that_it_owns(case):
    model = trained(case).train()
    batch, rng = data(model, 4), Rng(0, torch.arange(4), step=1).stage("train")
    for name, player in model.players().items():
        losses = model.loss(batch, rng, name, 0)
        assert losses["loss"].shape == ()
        assert all(value.numel() == 1 and value.isfinite() for value in losses.values())
        for gradient in torch.autograd.grad(losses["loss"], player.parameters, allow_unused=True):
            assert gradient is not None
            assert gradient.isfinite().all()
        model.after_step(name, 1)


@cases
def test_the_loss_is_the_mean_over_processes(case):
    """So that two of them learn what one would from twice the batch."""
    model = trained(case)
    if model.whole_batch:
        return
    batch, rng = data(model, 4), Rng(0, torch.arange(4), step=1).stage("train")
    for name in model.players():
        halves = []
        for rows in (slice(0, 2), slice(2, 4)):
            half = {key: value[rows] for key, value in batch.items()}
            halves.append(model.loss(half, rng.rows(rows), name, 0)["loss"])
        whole = model.loss(batch, rng, name, 0)["loss"]
        torch.testing.assert_close(torch.stack(halves).mean(), whole, rtol=1e-4, atol=1e-5)


@cases
def test_samples_are_what_the_spec_says_and_do_not_depend_on_their_batch(case):
    model = trained(case)
    if "sample" not in model.can:
        return
    sampler, conditions, rng = part(case, "sampler"), asked(model, 4), Rng(0, torch.arange(4)).stage("sample")
    whole = model.sample(conditions, rng, sampler)
    assert set(whole) >= model.writes
    for rows in (slice(0, 2), slice(2, 4)):
        some = model.sample({key: value[rows] for key, value in conditions.items()}, rng.rows(rows), sampler)
        for key in model.writes:
            torch.testing.assert_close(some[key], whole[key][rows], rtol=1e-4, atol=1e-4)
    others = model.sample(conditions, Rng(1, torch.arange(4)).stage("sample"), sampler)
    for key in model.writes:
        assert whole[key].shape == (4, *model.spec[key].shape)
        assert whole[key].isfinite().all()
        assert not torch.equal(whole[key], others[key])


@cases
def test_likelihoods_are_one_number_a_datum_and_the_sum_of_their_terms(case):
    model = trained(case)
    if "nll" not in model.can:
        return
    batch, rng, estimator = data(model, 4), Rng(0, torch.arange(4)).stage("nll"), part(case, "estimator")
    found = model.nll(batch, rng, estimator)
    assert found.nats.shape == (4,)
    assert found.nats.isfinite().all()
    assert found.bound in ("exact", "upper", "estimate")
    terms = [term for term in found.terms.values() if term.ndim == 1]
    if terms:
        torch.testing.assert_close(torch.stack(terms).sum(0), found.nats, rtol=1e-5, atol=1e-5)
    for rows in (slice(0, 1), slice(1, 4)):
        some = model.nll({key: value[rows] for key, value in batch.items()}, rng.rows(rows), estimator)
        torch.testing.assert_close(some.nats, found.nats[rows], rtol=1e-4, atol=1e-4)


@cases
def test_codes_are_what_the_latent_spec_says_and_decode_to_data(case):
    model = trained(case)
    if "encode" in model.can:
        codes = model.encode(data(model, 4))
    elif "decode" in model.can:
        rng, told = Rng(0, torch.arange(4)), data(model, 4)
        codes = {**model.prior(rng), **{key: told[key] for key in model.conditions}}
    else:
        return
    for key, field in model.latent_spec.items():
        assert codes[key].shape == (4, *field.shape)
    if "decode" in model.can:
        assert model.decode(codes)["x"].shape == (4, *model.spec["x"].shape)


@cases
def test_what_a_model_cannot_do_is_said_in_a_line(case):
    model = trained(case)
    assert model.can <= set(ABILITIES)
    for ability, ask in ABILITIES.items():
        if ability not in model.can:
            with pytest.raises(UserError, match=type(model).__name__):
                ask(model, data(model, 2), Rng(0, torch.arange(2)))
    if not model.can & {"encode", "decode"}:
        with pytest.raises(UserError, match="has no latent code"):
            _ = model.latent_spec


@cases
def test_a_model_is_its_config_and_its_state(case):
    """Another model of the same config, given the state, draws the same samples and has the same likelihoods."""
    model, other = trained(case), untrained(case, seed=1).eval()
    other.load_state_dict(model.state_dict())
    rng = Rng(0, torch.arange(2)).stage("again")
    if "sample" in model.can:
        samples = [m.sample(asked(m, 2), rng.stage("sample"), part(case, "sampler")) for m in (model, other)]
        assert all(torch.equal(samples[0][key], samples[1][key]) for key in model.writes)
    if "nll" in model.can:
        one, two = (m.nll(data(m, 2), rng.stage("nll"), part(case, "estimator")).nats for m in (model, other))
        assert torch.equal(one, two)
