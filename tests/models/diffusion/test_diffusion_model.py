"""Laws of diffusion models as a whole: the loss, what sampling starts from, and what labels do."""

import math

import pytest
import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.conditioning import ClassLabel, Conditioner, Unconditional
from genlab.models.diffusion.bound import VariationalBound
from genlab.models.diffusion.continuous import VariancePreserving
from genlab.models.diffusion.continuous_bound import ContinuousBound
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.models.diffusion.prediction import TABLE
from genlab.models.diffusion.samplers.ancestral import Ancestral
from genlab.models.diffusion.schedule import LinearBeta, Schedule, match
from genlab.models.diffusion.times import LossAware
from genlab.models.diffusion.weighting import Simple, UniformTimes
from genlab.networks.condition import Condition
from genlab.networks.mlp import MLP

SPEC = {"x": Field((2, 3)), "label": Field((), classes=3)}
kinds = pytest.mark.parametrize("kind", TABLE)


def model(network: nn.Module, conditioner: Conditioner | None = None, spec=SPEC, **options) -> GaussianDiffusion:
    options = {"schedule": LinearBeta(100), "weighting": Simple(), "times": UniformTimes(), **options}
    return GaussianDiffusion(spec, network, conditioner=conditioner or Unconditional(), **options).eval()


def batch(rows: int, dtype: torch.dtype = torch.float32) -> tuple[dict[str, Tensor], Rng]:
    rng = Rng(0, torch.arange(rows))
    return {"x": rng.stage("data").normal(2, 3, dtype=dtype), "label": rng.index % 3}, rng


class Same(nn.Module):
    """One model in any coordinates: eps^ = sin(3 x_t + step), put as the network's own output."""

    def __init__(self, kind: str, schedule: Schedule) -> None:
        super().__init__()
        self.kind, self.schedule = kind, schedule

    def forward(self, x_t: Tensor, level: Tensor, condition: Condition | None = None) -> Tensor:
        t = (level.double() + 1) / self.schedule.steps
        if self.kind == "edm":
            t = self.schedule.time(-8 * level.double())  # It is told log(sigma / alpha) / 4.
        alpha, sigma = (match(c, x_t) for c in self.schedule(t))
        c_skip, c_out, c_in = (match(c, x_t) for c in TABLE[self.kind](*self.schedule(t))[:3])
        x_t = x_t / c_in
        x_0 = (x_t - sigma * torch.sin(3 * x_t + match(self.schedule.level(t), x_t))) / alpha
        return (x_0 - c_skip * x_t) / c_out


class Labelled(nn.Module):
    """x_0^ is what the condition says."""

    def forward(self, x_t: Tensor, level: Tensor, condition: Condition | None = None) -> Tensor:
        return condition.vector.view(-1, 2, 3)


def test_the_simple_loss_of_an_untrained_network_is_1():
    """Its output is zero at the start, so that E|eps|^2 / D is left."""
    given, rng = batch(3000)
    untrained = model(MLP((2, 3), width=8, layers=1))
    loss = untrained.loss(given, rng, "model", 0)["loss"].item()
    assert loss == pytest.approx(1, abs=4 * (2 / (3000 * 6)) ** 0.5)


@pytest.mark.parametrize("weighting", [Simple(), None], ids=["simple", "falling"])
def test_equivalent_networks_have_the_same_loss_in_all_coordinates(weighting):
    class Falling(Simple):
        def forward(self, schedule, t):
            return 1 / (1 + t)

    given, rng = batch(50, torch.float64)
    losses = [
        model(Same(kind, LinearBeta(100)), weighting=weighting or Falling(), prediction=kind)
        .loss(given, rng, "model", 0)["loss"]
        .item()
        for kind in TABLE
    ]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-9)
    assert losses[0] > 0.5


@pytest.mark.parametrize("kind", [kind for kind in TABLE if kind != "eps"])
def test_equivalent_networks_have_the_same_estimates_and_bounds_in_all_coordinates(kind):
    given, rng = batch(5, torch.float64)
    first, other = (model(Same(k, LinearBeta(100)), prediction=k) for k in ("eps", kind))
    t = rng.stage("t").uniform(dtype=torch.float64)
    for x_t in (given["x"], 10 * given["x"]):
        expected = first.denoiser({})(x_t, t).x_0
        torch.testing.assert_close(other.denoiser({})(x_t, t).x_0, expected, rtol=1e-8, atol=1e-8)
    bounds = [m.nll(given, rng, VariationalBound("all")).nats for m in (first, other)]
    torch.testing.assert_close(bounds[1], bounds[0], rtol=1e-7, atol=1e-7)


@kinds
def test_the_loss_does_not_depend_on_how_a_batch_is_split_over_processes(kind):
    given, rng = batch(8, torch.float64)
    whole = model(Same(kind, LinearBeta(100)), prediction=kind)
    losses = []
    for part in (slice(0, 4), slice(4, 8)):
        rows = {key: value[part] for key, value in given.items()}
        losses.append(whole.loss(rows, rng.rows(part), "model", 0)["loss"])
    torch.testing.assert_close(
        torch.stack(losses).mean(), whole.loss(given, rng, "model", 0)["loss"], rtol=1e-13, atol=0
    )
    assert losses[0] != losses[1]


# The bound in the loss


class TwoOutputs(nn.Module):
    """A network of three weights that says the noise and the variance."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.8, 0.5, 0.3], dtype=torch.float64))

    def forward(self, x_t: Tensor, level: Tensor, condition: Condition | None = None) -> Tensor:
        shared = self.weight[2] * x_t + match(level, x_t) / 100
        return torch.cat([self.weight[0] * torch.sin(shared), self.weight[1] * torch.cos(shared)], dim=1)


def by_hand(network: TwoOutputs, x_0: Tensor, t: Tensor, eps: Tensor, detach: bool) -> tuple[Tensor, Tensor]:
    """Each datum's L_simple and T L_vlb in bits/dim, L_T included, as improved DDPM writes them; steps count from 0."""
    steps = 100
    beta = torch.linspace(1e-3, 0.2, steps, dtype=torch.float64)
    bar = (1 - beta).cumprod(0)
    before = torch.cat([torch.ones(1), bar[:-1]])
    posterior = beta * (1 - before) / (1 - bar)
    clipped = torch.cat([posterior[1:2], posterior[1:]]).log()
    rows = [c[t][:, None, None] for c in (bar, before, beta, clipped)]
    bar_t, before_t, beta_t, log_q = rows
    x_t = bar_t.sqrt() * x_0 + (1 - bar_t).sqrt() * eps
    eps_hat, v = network(x_t, t.double()).chunk(2, dim=1)
    simple = (eps_hat - eps).square().mean((1, 2))
    if detach:
        eps_hat = eps_hat.detach()
    guess = (x_t - (1 - bar_t).sqrt() * eps_hat) / bar_t.sqrt()
    of_x_0, of_x_t = before_t.sqrt() * beta_t / (1 - bar_t), (1 - beta_t).sqrt() * (1 - before_t) / (1 - bar_t)
    true, mean = of_x_0 * x_0 + of_x_t * x_t, of_x_0 * guess + of_x_t * x_t
    log_p = (v + 1) / 2 * beta_t.log() + (1 - v) / 2 * log_q
    kl = 0.5 * (log_p - log_q - 1 + (log_q - log_p).exp() + (true - mean) ** 2 * (-log_p).exp())
    decoder = 0.5 * (math.log(2 * math.pi) + log_p + (x_0 - mean) ** 2 * (-log_p).exp())
    vb = torch.where(t[:, None, None] == 0, decoder, kl).mean((1, 2)) / math.log(2)
    end = 0.5 * (bar[-1] * x_0**2 + (1 - bar[-1]) - 1 - (1 - bar[-1]).log()).mean((1, 2)) / math.log(2)
    return simple, steps * vb + end


@pytest.mark.parametrize("hybrid", [True, False], ids=["hybrid", "bound alone"])
def test_losses_with_a_bound_are_those_written_out(hybrid):
    """The mean learns from L_simple alone where there is one, and from the bound where there is none."""
    given, rng = batch(1000, torch.float64)
    learned = model(
        TwoOutputs(),
        weighting=Simple() if hybrid else None,
        outputs=2,
        bound=VariationalBound(variance="learned"),
        bound_weight=1e-3 if hybrid else 1.0,
    )
    losses = learned.loss(given, rng, "model", 0)
    t = (UniformTimes()(learned.schedule, rng) * 100).round().long() - 1
    assert t.min() == 0
    network = TwoOutputs()
    simple, bound = by_hand(network, given["x"], t, rng.stage("noise").normal_like(given["x"]), detach=hybrid)
    expected = simple.mean() + 1e-3 * bound.mean() if hybrid else bound.mean()
    torch.testing.assert_close(losses["loss"], expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(losses["bound"], bound.mean(), rtol=1e-9, atol=0)
    assert ("simple" in losses) == hybrid
    if hybrid:
        torch.testing.assert_close(losses["simple"], simple.mean(), rtol=1e-9, atol=0)
    (gradient,) = torch.autograd.grad(expected, network.weight)
    (found,) = torch.autograd.grad(losses["loss"], learned.network.weight)
    torch.testing.assert_close(found, gradient, rtol=1e-8, atol=1e-12)
    assert found.abs().min() > 1e-4


def test_times_drawn_by_their_losses_leave_the_bound_what_it_is():
    """Importance weights undo how often each was drawn, and the ends are not weighted."""
    given, rng = batch(20_000, torch.float64)
    bounds = []
    for times in (UniformTimes(), LossAware(steps=100)):
        bound = VariationalBound(variance="learned")
        learned = model(TwoOutputs(), weighting=None, times=times, outputs=2, bound=bound)
        with torch.no_grad():
            for step in range(3):
                learned.train()
                learned.loss(given, Rng(0, rng.index, step=step), "model", step)
            bounds.append(learned.loss(given, Rng(0, rng.index, step=3), "model", 3)["bound"].item())
    assert bounds[1] == pytest.approx(bounds[0], rel=0.02)
    assert bounds[1] != bounds[0]


def test_a_model_is_measured_by_its_own_bound_where_none_is_asked_for():
    given, rng = batch(4)
    network = MLP((2, 3), width=8, layers=1)
    continuous = model(network, schedule=VariancePreserving())
    assert torch.equal(continuous.nll(given, rng).nats, continuous.nll(given, rng, ContinuousBound()).nats)
    own = model(network, schedule=VariancePreserving(), weighting=None, bound=ContinuousBound(7))
    assert torch.equal(own.nll(given, rng).nats, own.nll(given, rng, ContinuousBound(7)).nats)
    table = model(network)
    assert torch.equal(table.nll(given, rng).nats, table.nll(given, rng, VariationalBound()).nats)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": None}, "weighting=none: nothing is left to train"),
        ({"outputs": 2}, r"model.outputs=2: the weighted error trains no variances; give a model.bound"),
        ({"bound": VariationalBound(variance="learned")}, r"model.bound.variance=learned: .* set model.outputs=2"),
        ({"outputs": 2, "bound": VariationalBound(variance="transition")}, r"model.outputs=2: .* set it to learned"),
        ({"bound": VariationalBound(), "bound_weight": 0.0}, r"model.bound_weight=0.0: must be above 0"),
        ({"bound": ContinuousBound()}, r"model.bound: .* a table of 100 steps"),
        ({"bound": VariationalBound(), "schedule": VariancePreserving()}, r"model.bound: .* schedule is continuous"),
        (
            {"bound": ContinuousBound(), "schedule": VariancePreserving(), "outputs": 2},
            r"model.outputs=2: steps in continuous time have no variances",
        ),
    ],
    ids=["nothing", "no bound", "no output", "fixed variance", "no weight", "table", "continuous", "no steps"],
)
def test_parts_of_a_loss_that_do_not_suit_each_other_are_named(options, message):
    with pytest.raises(UserError, match=message):
        model(MLP((2, 3), width=8, layers=1, outputs=2), **options)


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_network_of_another_number_of_outputs_is_named(outputs):
    given, rng = batch(4)
    bound = VariationalBound(variance="learned") if outputs == 2 else None
    other = model(MLP((2, 3), width=8, layers=1, outputs=3 - outputs), outputs=outputs, bound=bound)
    with pytest.raises(UserError, match=f"network.outputs: .*model.outputs={outputs}"):
        other.loss(given, rng, "model", 0)


# Times


def test_times_are_the_tables_and_all_of_them_equally_often():
    t = UniformTimes()(LinearBeta(100), Rng(0, torch.arange(100_000)))
    counts = torch.bincount((t * 100).round().long(), minlength=101)
    assert counts[0] == 0
    assert ((counts[1:] - 1000).abs() < 5 * 1000**0.5).all()
    torch.testing.assert_close((t * 100).round() / 100, t, rtol=1e-15, atol=0)


def test_times_of_a_continuous_schedule_fill_the_interval():
    schedule = LinearBeta(100)
    schedule.steps = None
    t = UniformTimes()(schedule, Rng(0, torch.arange(1000)))
    assert ((t > 0) & (t < 1)).all()
    assert len(t.unique()) == 1000


def test_sampling_starts_from_the_prior_and_returns_what_was_asked_for():
    given, rng = batch(4)
    seen: list[Tensor] = []
    labelled = model(Labelled(), ClassLabel(3, vector=6), prediction="x0")
    out = labelled.sample({"label": given["label"]}, rng, Ancestral(5), watch=lambda _, x: seen.append(x))
    assert torch.equal(seen[0], rng.stage("prior").normal(2, 3))
    assert torch.equal(out["label"], given["label"])
    assert torch.equal(out["x"], seen[-1])


def test_samples_and_bounds_follow_the_label():
    """The network's estimate is its label's vector, to which the last step goes."""
    given, rng = batch(6)
    labelled = model(Labelled(), ClassLabel(3, vector=6), prediction="x0")
    vectors = labelled.conditioner.embedding.weight.detach().view(-1, 2, 3)
    samples = labelled.sample({"label": given["label"]}, rng, Ancestral(5))["x"]
    torch.testing.assert_close(samples, vectors[given["label"]])
    data = {"x": vectors[given["label"]], "label": given["label"]}
    wrong = {**data, "label": (data["label"] + 1) % 3}
    assert (labelled.nll(wrong, rng).nats > labelled.nll(data, rng).nats).all()


def test_without_a_label_samples_are_the_null_labels_where_it_was_trained():
    _, rng = batch(4)
    trained = model(Labelled(), ClassLabel(3, vector=6, dropout=0.1), prediction="x0")
    null = trained.conditioner.embedding.weight[-1].detach().view(2, 3).expand(4, 2, 3)
    torch.testing.assert_close(trained.sample({}, rng, Ancestral(5))["x"], null)
    with pytest.raises(UserError, match=r"conditioner.dropout=0"):
        model(Labelled(), ClassLabel(3, vector=6), prediction="x0").sample({}, rng, Ancestral(5))


def test_the_condition_is_made_once_a_batch():
    given, rng = batch(4)
    labelled, calls = model(Labelled(), ClassLabel(3, vector=6), prediction="x0"), []
    labelled.conditioner.register_forward_hook(lambda *_: calls.append(1))
    labelled.sample({"label": given["label"]}, rng, Ancestral(5))
    labelled.nll(given, rng, VariationalBound(3))
    assert len(calls) == 2


@pytest.mark.parametrize("levels", [None, 17])
def test_estimates_are_clipped_where_the_data_have_levels(levels):
    class Far(nn.Module):
        def forward(self, x_t, level, condition=None):
            return torch.full_like(x_t, 3.0)

    far = model(Far(), spec={"x": Field((2, 3), levels=levels)}, prediction="x0")
    assert (far.sample({}, batch(2)[1], Ancestral(5))["x"] == (3 if levels is None else 1)).all()


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_all_is_computed_where_the_model_is(eta):
    """The meta device computes nothing, and like a GPU refuses tensors of another device."""
    elsewhere = model(MLP((2, 3), width=8, layers=1)).to("meta")
    rng = Rng(0, torch.arange(4, device="meta"))
    given = {"x": torch.zeros(4, 2, 3, device="meta")}
    assert elsewhere.loss(given, rng, "model", 0)["loss"].device.type == "meta"
    assert elsewhere.sample({}, rng, Ancestral(2, eta=eta))["x"].shape == (4, 2, 3)
    assert elsewhere.nll(given, rng, VariationalBound(2)).nats.shape == (4,)


def test_what_a_model_reads_is_x_and_what_its_conditioner_reads():
    assert model(Labelled()).reads == {"x"}
    assert model(Labelled()).conditions == set()
    labelled = model(Labelled(), ClassLabel(3, vector=6))
    assert labelled.reads == {"x", "label"}
    assert labelled.conditions == {"label"}


def test_sampling_without_a_sampler_is_a_mistake_of_the_program():
    with pytest.raises(ValueError, match="is sampled by a sampler"):
        model(Labelled()).sample({}, batch(2)[1])
