"""Laws of guidance, on two classes of Gaussian data, whose denoisers and whose classifier are known in closed form.

p(x | y) = N(m_y, c^2 I),  p(y) = 1/2:    E[x_0 | x_t, y] = m_y + alpha c^2 / V (x_t - alpha m_y),
p(y | x_t) proportional to N(x_t; alpha m_y, V I),    V = alpha^2 c^2 + sigma^2
"""

import math

import pytest
import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.conditioning import ClassLabel, Unconditional
from genlab.models.diffusion.classifier import Classifier
from genlab.models.diffusion.continuous import LinearSigma, Straight, VariancePreserving
from genlab.models.diffusion.denoiser import Denoised
from genlab.models.diffusion.guidance import ClassifierFree, ClassifierGuidance
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.models.diffusion.samplers.ancestral import Ancestral
from genlab.models.diffusion.schedule import Cosine, LinearBeta, Schedule, match
from genlab.models.diffusion.weighting import Simple, UniformTimes
from genlab.networks.condition import Condition
from genlab.networks.encoder import Encoder
from genlab.networks.mlp import MLP

SPEC = {"x": Field((3,)), "label": Field((), classes=2)}
M = torch.tensor([[-1.0, 0.5, 0.0], [0.8, 0.2, -0.4]], dtype=torch.float64)
C = 0.6
SCHEDULES = {
    "linear": LinearBeta(100),
    "cosine": Cosine(1000),
    "vp": VariancePreserving(),
    "edm": LinearSigma(),
    "straight": Straight(),
}
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def time_of(schedule: Schedule, level: Tensor) -> Tensor:
    """The times, in thousandths, of levels, for networks that are told nothing else."""
    t = torch.linspace(0.001, 1, 1000, dtype=torch.float64)
    known = schedule.level(t)
    return t[torch.bucketize(level.double(), (known[1:] + known[:-1]) / 2)]


class Mixture(nn.Module):
    """x_0^ of the class that the condition's vector names, or of both where it names none (2), or there is none."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule, self.seen = schedule, []

    def forward(self, x_t: Tensor, level: Tensor, condition: Condition | None = None) -> Tensor:
        self.seen.append(len(x_t))
        alpha, sigma = (match(c, x_t) for c in self.schedule(time_of(self.schedule, level)))
        variance = alpha**2 * C**2 + sigma**2
        each = M + (alpha * C**2 / variance)[:, None] * (x_t[:, None] - alpha[:, None] * M)
        both = (log_likelihood(x_t, alpha, variance).softmax(1)[:, :, None] * each).sum(1)
        if condition is None:
            return both
        named = condition.vector[:, 0].long()
        one = each.take_along_dim(named.clamp(max=1)[:, None, None], 1)[:, 0]
        return torch.where(named[:, None] == 2, both, one)


class Exact(nn.Module):
    """The scores of the exact classifier."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule

    def forward(self, x: Tensor, level: Tensor, condition: Condition | None = None) -> Tensor:
        alpha, sigma = (match(c, x) for c in self.schedule(time_of(self.schedule, level)))
        x_t = x * (alpha**2 + sigma**2).sqrt()
        return log_likelihood(x_t, alpha, alpha**2 * C**2 + sigma**2)


def log_likelihood(x_t: Tensor, alpha: Tensor, variance: Tensor) -> Tensor:
    """(B, 2), up to a constant."""
    return -0.5 * (x_t[:, None] - alpha[:, None] * M).square().sum(2) / variance


def model(schedule: Schedule, dropout: float | None = 0.1, spec=SPEC) -> GaussianDiffusion:
    """With labels, unless there is no dropout to speak of."""
    conditioner = Unconditional() if dropout is None else ClassLabel(2, vector=1, dropout=dropout)
    if isinstance(conditioner, ClassLabel):
        conditioner.embedding.weight.data = torch.arange(3.0, dtype=torch.float64)[:, None]
    network = Mixture(schedule)
    made = GaussianDiffusion(spec, network, schedule, Simple(), UniformTimes(), conditioner, prediction="x0")
    return made.eval().requires_grad_(False)


def exact_classifier(schedule: Schedule, spec=SPEC) -> Classifier:
    return Classifier(spec, Exact(schedule), schedule, UniformTimes()).eval()


def states(rows: int = 16) -> tuple[Tensor, dict[str, Tensor], Rng]:
    """Rows of noisy data, their labels, and what they are drawn from."""
    rng = Rng(0, torch.arange(rows))
    return rng.stage("x").normal(3, dtype=torch.float64), {"label": rng.index % 2}, rng


TIMES = torch.tensor([0.01, 0.1, 0.3, 0.6, 0.9, 0.99], dtype=torch.float64)


def scaled(schedule: Schedule, x: Tensor, t: Tensor) -> Tensor:
    """As large as x_t is."""
    alpha, sigma = schedule(t)
    return x * (alpha**2 + sigma**2).sqrt()


@schedules
def test_scale_1_is_the_model_with_its_conditions_and_0_the_model_without(schedule):
    x, given, rng = states()
    guided = model(schedule)
    for t in TIMES:
        x_t = scaled(schedule, x, t)
        assert torch.equal(ClassifierFree(1)(guided, given, rng)(x_t, t).x_0, guided.denoiser(given)(x_t, t).x_0)
        assert torch.equal(ClassifierFree(0)(guided, given, rng)(x_t, t).x_0, guided.denoiser({}, rng)(x_t, t).x_0)


@schedules
def test_an_estimate_is_linear_in_the_scale(schedule):
    x, given, rng = states()
    guided = model(schedule)
    for t in TIMES:
        x_t = scaled(schedule, x, t)
        free, conditional, beyond, far = (ClassifierFree(s)(guided, given, rng)(x_t, t).x_0 for s in (0, 1, 1.5, 7))
        torch.testing.assert_close(beyond, free + 1.5 * (conditional - free), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(far, free + 7 * (conditional - free), rtol=1e-12, atol=1e-12)


@schedules
def test_an_exact_classifier_makes_the_conditional_of_the_unconditional(schedule):
    """Bayes: grad log p(x_t | y) = grad log p(x_t) + grad log p(y | x_t)."""
    x, given, rng = states()
    free, conditional = model(schedule, dropout=None), model(schedule)
    guidance = ClassifierGuidance(exact_classifier(schedule))
    for t in TIMES:
        x_t = scaled(schedule, x, t)
        found = guidance(free, given, rng)(x_t, t).x_0
        torch.testing.assert_close(found, conditional.denoiser(given)(x_t, t).x_0, rtol=1e-9, atol=1e-9)


@schedules
@pytest.mark.parametrize("scale", [0, 0.5, 3])
def test_both_guidances_are_one_where_the_classifier_is_exact(schedule, scale):
    x, given, rng = states()
    by_classifier = ClassifierGuidance(exact_classifier(schedule), scale)(model(schedule, dropout=None), given, rng)
    without_one = ClassifierFree(scale)(model(schedule), given, rng)
    for t in TIMES:
        x_t = scaled(schedule, x, t)
        torch.testing.assert_close(by_classifier(x_t, t).x_0, without_one(x_t, t).x_0, rtol=1e-9, atol=1e-9)


def test_a_label_of_minus_1_is_no_guidance():
    x, _, rng = states()
    schedule = LinearBeta(100)
    nobody = {"label": torch.full((len(x),), -1)}
    free, t = model(schedule, dropout=None), TIMES[2]
    found = ClassifierGuidance(exact_classifier(schedule), 5)(free, nobody, rng)(x, t).x_0
    assert torch.equal(found, free.denoiser({})(x, t).x_0)


@pytest.mark.parametrize("schedule", [Straight(), LinearBeta(100, zero_terminal_snr=True)], ids=["straight", "table"])
def test_where_no_signal_is_left_there_is_no_guidance(schedule):
    """The coefficient would be infinite, and x_t says nothing about the label."""
    x, given, rng = states()
    free, end = model(schedule, dropout=None), torch.ones((), dtype=torch.float64)
    found = ClassifierGuidance(exact_classifier(schedule), 2)(free, given, rng)(x, end).x_0
    assert torch.equal(found, free.denoiser({})(x, end).x_0)


def test_times_may_differ_within_a_batch():
    x, given, rng = states(len(TIMES))
    schedule = LinearBeta(100)
    for guidance, guided in (
        (ClassifierFree(3), model(schedule)),
        (ClassifierGuidance(exact_classifier(schedule), 3), model(schedule, dropout=None)),
    ):
        denoise = guidance(guided, given, rng)
        whole = denoise(x, TIMES).x_0
        for i, t in enumerate(TIMES):
            torch.testing.assert_close(denoise(x, t).x_0[i], whole[i], rtol=1e-12, atol=1e-12)


class Varying(GaussianDiffusion):
    """Learned variances that are the conditions' own."""

    def estimate(self, x_t: Tensor, t: Tensor, condition: Condition | None) -> Denoised:
        return Denoised(super().estimate(x_t, t, condition).x_0, condition.vector.expand(len(x_t), 3))


def test_learned_variances_are_those_under_the_conditions():
    x, given, rng = states()
    plain = model(LinearBeta(100))
    guided = Varying(
        SPEC, plain.network, plain.schedule, Simple(), UniformTimes(), plain.conditioner, prediction="x0"
    ).eval()
    between = ClassifierFree(3)(guided, given, rng)(x, TIMES[2]).between
    assert torch.equal(between, given["label"][:, None].double().expand(-1, 3))


@pytest.mark.parametrize(
    ("scale", "factor"), [(0, 1), (1, 1), (2.5, 2)], ids=["unconditional", "conditional", "guided"]
)
def test_a_step_is_one_call_of_the_network(scale, factor):
    _, given, rng = states()
    schedule = LinearBeta(100)
    guided, sampler = model(schedule), Ancestral(steps=5, eta=0.0)
    before = sampler.evaluations(schedule)
    sampler.guidance = ClassifierFree(scale)
    assert sampler.guidance.factor == factor
    assert sampler.guidance.note["network_batch"] == f"x{factor}"
    guided.sample(given, rng, sampler)
    assert sampler.evaluations(schedule) == before == 5
    assert guided.network.seen == [16 * factor] * 5


def guidances(schedule: Schedule):
    return [
        (ClassifierFree(3.0), model(schedule)),
        (ClassifierGuidance(exact_classifier(schedule), 3.0), model(schedule, dropout=None)),
    ]


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_sample_does_not_depend_on_its_batch(eta):
    _, given, rng = states()
    for guidance, guided in guidances(LinearBeta(100)):
        sampler = Ancestral(steps=10, eta=eta)
        sampler.guidance = guidance
        whole = guided.sample(given, rng, sampler)["x"]
        rows = slice(5, 8)
        some = guided.sample({"label": given["label"][rows]}, rng.rows(rows), sampler)["x"]
        torch.testing.assert_close(some, whole[rows], rtol=1e-5, atol=1e-5)


def test_samples_of_a_guided_model_are_of_their_class():
    """With an exact classifier they are p(x | y), of mean m_y and deviation c."""
    rng = Rng(0, torch.arange(400))
    given = {"label": rng.index % 2}
    for guidance, guided in guidances(LinearBeta(100)):
        guidance.scale = 1
        sampler = Ancestral(steps=100, eta=0.0)
        sampler.guidance = guidance
        x = guided.sample(given, rng, sampler)["x"]
        for label in (0, 1):
            own = x[given["label"] == label]
            torch.testing.assert_close(own.mean(0), M[label].float(), rtol=0, atol=5 * C / math.sqrt(200))
            torch.testing.assert_close(own.std(0), torch.full((3,), C), rtol=0, atol=5 * C / math.sqrt(400))


def test_gradients_are_taken_where_none_are_kept():
    x, given, rng = states()
    schedule = LinearBeta(100)
    denoise = ClassifierGuidance(exact_classifier(schedule), 2)(model(schedule, dropout=None), given, rng)
    with torch.no_grad():
        found = denoise(x, TIMES[3]).x_0
    assert not found.requires_grad
    assert torch.equal(found, denoise(x, TIMES[3]).x_0)


def test_a_model_without_labels_is_refused():
    _, given, rng = states()
    for dropout, message in ((None, "conditioner=label conditioner.dropout=0.1"), (0.0, "conditioner.dropout=0")):
        with pytest.raises(UserError, match=message):
            ClassifierFree(2)(model(LinearBeta(100), dropout), given, rng)


def test_a_model_without_dropout_still_has_its_conditions():
    x, given, rng = states()
    guided = model(LinearBeta(100), dropout=0.0)
    assert torch.equal(ClassifierFree(1)(guided, given, rng)(x, TIMES[0]).x_0, guided.denoiser(given)(x, TIMES[0]).x_0)


OTHERS = {
    "shape": (LinearBeta(100), {**SPEC, "x": Field((2,))}, r"data of shape \(2,\), and the model of \(3,\)"),
    "classes": (LinearBeta(100), {**SPEC, "label": Field((), classes=3)}, "tells 3 classes apart, .* have 2"),
    "steps": (LinearBeta(200), SPEC, "the noise of another schedule"),
    "noise": (Cosine(100), SPEC, "the noise of another schedule"),
    "time": (VariancePreserving(), SPEC, "the noise of another schedule"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_classifier_of_other_data_or_noise_is_refused(other):
    schedule, spec, message = OTHERS[other]
    _, given, rng = states()
    guidance = ClassifierGuidance(exact_classifier(schedule, spec))
    with pytest.raises(UserError, match=message):
        guidance(model(LinearBeta(100)), given, rng)


def test_data_without_labels_have_no_classifier():
    with pytest.raises(UserError, match="no classes to tell apart"):
        Classifier({"x": Field((3,))}, nn.Identity(), LinearBeta(100), UniformTimes())
    _, given, rng = states()
    bare = model(LinearBeta(100), dropout=None, spec={"x": Field((3,))})
    with pytest.raises(UserError, match="tells 2 classes apart, and the model's data have none"):
        ClassifierGuidance(exact_classifier(LinearBeta(100)))(bare, given, rng)


@pytest.mark.parametrize("scale", [-1, math.inf, math.nan])
def test_scales_are_at_least_0(scale):
    for make in (ClassifierFree, lambda scale: ClassifierGuidance(exact_classifier(LinearBeta(100)), scale)):
        with pytest.raises(ValueError, match="scale must be a number of at least 0"):
            make(scale)


def test_labels_that_the_classifier_does_not_know_are_named():
    x, _, rng = states()
    schedule = LinearBeta(100)
    guidance = ClassifierGuidance(exact_classifier(schedule))
    free = model(schedule, dropout=None)
    for given, message in (({}, "none is given"), ({"label": torch.full((len(x),), 2)}, "labels 0 to 1")):
        with pytest.raises(UserError, match=message):
            guidance(free, given, rng)


def test_the_classifiers_loss_is_the_surprise_at_the_label():
    """The exact classifier's is the entropy of p(y | x_t), which no other comes below."""
    rng = Rng(0, torch.arange(4000), step=1)
    label = rng.index % 2
    x = M[label] + C * rng.stage("data").normal(3, dtype=torch.float64)
    exact = exact_classifier(LinearBeta(100))
    found = exact.loss({"x": x, "label": label}, rng, "model", 0)
    t = UniformTimes()(exact.schedule, rng)
    alpha, sigma = (match(c, x) for c in exact.schedule(t))
    x_t = alpha * x + sigma * rng.stage("noise").normal_like(x)
    log_p = log_likelihood(x_t, alpha, alpha**2 * C**2 + sigma**2).log_softmax(1)
    entropy = -(log_p.exp() * log_p).sum(1)
    error = entropy.std() / math.sqrt(len(x))
    assert abs(found["loss"] - entropy.mean()) < 5 * error
    assert abs(found["accuracy"] - log_p.exp().max(1).values.mean()) < 5 * error


def test_a_classifier_says_which_networks_suit_it():
    batch = {"x": torch.zeros(4, 3), "label": torch.tensor([0, 1, 0, 1])}
    for network in (MLP((3,), width=8, layers=1), MLP((3,), width=8, layers=1, out_channels=4)):
        with pytest.raises(UserError, match=r"classifier of 2 classes .* choose network=encoder"):
            Classifier(SPEC, network, LinearBeta(100), UniformTimes()).prepare([batch])
    suits = Classifier(SPEC, MLP((3,), width=8, layers=1, out_channels=2), LinearBeta(100), UniformTimes())
    suits.prepare([batch])
    images = {"x": Field((1, 8, 8)), "label": Field((), classes=5)}
    network = Encoder((1, 8, 8), 5, width=8, multipliers=(1, 2), blocks=1)
    log_p = Classifier(images, network, LinearBeta(100), UniformTimes()).log_prob(torch.zeros(2, 1, 8, 8), TIMES[:2])
    torch.testing.assert_close(log_p, torch.full((2, 5), -math.log(5)))
