"""What every task promises, of every file in configs/task; and what each of them does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field, Spec
from genlab.models.autoregressive.markov_chain import MarkovChain
from genlab.models.autoregressive.model import Autoregressive
from genlab.models.autoregressive.sampler import Places
from genlab.models.conditioning import Unconditional
from genlab.models.contract import Model, Watch
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.models.diffusion.samplers.ancestral import Ancestral
from genlab.models.diffusion.samplers.heun import Heun
from genlab.models.diffusion.schedule import Cosine
from genlab.models.diffusion.weighting import Simple, UniformTimes
from genlab.models.outputs.logistic_mixture import LogisticMixture
from genlab.networks.causal.causal import Causal
from genlab.runner.build import build
from genlab.tasks.codes import OwnCodes, codes
from genlab.tasks.colorize import Colorize
from genlab.tasks.compress import Compress
from genlab.tasks.contract import Task, check_index, in_turn
from genlab.tasks.denoise import Denoise
from genlab.tasks.generate import Generate
from genlab.tasks.inpaint import Inpaint
from genlab.tasks.interpolate import Interpolate, spherical, straight
from genlab.tasks.reconstruct import Reconstruct, psnr

CONFIGS = Path(__file__).parents[2] / "configs" / "task"
FILES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
TOLD: dict[str, dict[str, Any]] = {
    "inpaint": {"box": [1, 0, 2, 3]},
    "compress": {"points": 3},
    "denoise": {"points": 3},
    "project": {"steps": 5, "restarts": 2},
}
FIELD = Field((3, 4, 4), levels=256)
HEUN = Heun(steps=6)
# Those that ask for codes of a model's own, those that ask for places in turn, and those about chains.
OF_CODES = ("embed", "project", "traverse")
OF_PLACES = ("complete",)
OF_CHAINS = ("analyze",)
tasks = pytest.mark.parametrize("name", FILES)


def shipped(name: str) -> Task:
    config = OmegaConf.merge({"label": None}, {"task": OmegaConf.load(CONFIGS / f"{name}.yaml")})
    return build({**OmegaConf.to_container(config.task, resolve=True), **TOLD.get(name, {})}, "task")


class Smooth(nn.Module):
    """A velocity of each value that its neighbour has a say in."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.6))

    def forward(self, x: Tensor, level: Tensor, condition: object = None) -> Tensor:
        return self.scale * torch.tanh(x + x.roll(1, -1))


def model(field: Field = FIELD, steps: int = 12) -> GaussianDiffusion:
    parts = (Smooth(), Cosine(steps), Simple(), UniformTimes(), Unconditional())
    return GaussianDiffusion({"x": field}, *parts, prediction="v").eval()


def split(n: int = 12, field: Field = FIELD) -> Tensor:
    return Rng(1, torch.arange(n)).uniform(*field.shape) * 2 - 1


class Before(Causal):
    """All that it says of a place is the mean of that before it."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.order = torch.arange(16)
        self.weight = nn.Parameter(torch.linspace(-1, 1, features)[:, None])

    def forward(self, x: Tensor, condition: object = None) -> Tensor:
        before = nn.functional.pad(x.flatten(2).mean(1, keepdim=True), (1, -1))
        return (self.weight * before).unflatten(2, x.shape[2:])


def suited(name: str) -> Model:
    if name in OF_CODES:
        return Halves({"x": FIELD})
    if name in OF_PLACES:
        return Autoregressive({"x": FIELD}, Before, LogisticMixture(FIELD.shape, 256, 2), Unconditional()).eval()
    if name in OF_CHAINS:
        turned = [[0.5 * (j in (i, (i + 1) % 5)) for j in range(5)] for i in range(5)]
        return MarkovChain({"x": Field((1, 8), levels=5)}, matrix=turned)
    return model()


def drawn_by(name: str) -> Any:
    return Places() if name in OF_PLACES else HEUN


def ask(task: Task, index: Tensor, of: Model | None = None, sampler: Any = HEUN, watch: Watch | None = None) -> Batch:
    """As the program asks, the data being those of `split`."""
    numbers, of = task.data(index), of or model()
    batch = None if numbers is None else {"x": split(field=of.spec["x"])[numbers.flatten()]}
    return task(of, index, 0, sampler if task.sampled else None, watch, batch)


def checked(task: Task, of: Model | None = None, sampler: Any = HEUN) -> Task:
    of = of or model()
    task.check(of, sampler)
    if task.looks:
        task.prepare(of, [{"x": split(field=of.spec["x"])}])
    return task


@tasks
def test_what_is_promised_is_there(name: str) -> None:
    of, sampler = suited(name), drawn_by(name)
    task = checked(shipped(name), of, sampler)
    samples = ask(task, torch.arange(4), of, sampler)
    for key in (key for keys in task.layout for key in keys):
        assert samples[key].shape[-3:] == FIELD.shape
        assert len(samples[key]) == 4
        assert samples[key].ndim in (4, 5)
    for key in task.numbers:
        assert samples[key].shape == (4,)
    for key in task.traces:
        assert samples[key].ndim == 2
    assert all(value.isfinite().all() and not value.requires_grad for value in samples.values())
    assert all(len(value) == 4 for value in samples.values())
    assert bool(task.layout) != bool(task.table)
    assert (task.data(torch.arange(4)) is None) == (task.split is None)
    curves = task.curves({key: samples[key] for key in (*task.numbers, *task.traces)})
    for curve in curves:
        assert len({len(column) for column in curve.columns.values()}) == 1
        assert {name for plot in curve.plots for name in plot} <= curve.columns.keys()


@tasks
def test_a_sample_depends_on_its_own_number_alone(name: str) -> None:
    of, sampler = suited(name), drawn_by(name)
    task = checked(shipped(name), of, sampler)
    whole = ask(task, torch.arange(5), of, sampler)
    parts = [ask(task, torch.tensor(numbers), of, sampler) for numbers in ([0], [1, 2, 3], [4])]
    for key, value in whole.items():
        torch.testing.assert_close(torch.cat([part[key] for part in parts]), value, atol=1e-4, rtol=1e-4)


@tasks
def test_what_a_model_cannot_do_is_said_before(name: str) -> None:
    class Silent(Model):
        """Can nothing."""

    with pytest.raises(UserError, match="Silent"):
        shipped(name).check(Silent({"x": FIELD}), HEUN)


@pytest.mark.parametrize("name", [name for name in FILES if shipped(name).sampled])
def test_the_way_from_noise_is_seen(name: str) -> None:
    of, sampler, seen = suited(name), drawn_by(name), list[float]()
    task = checked(shipped(name), of, sampler)
    ask(task, torch.arange(2), of, sampler, watch=lambda progress, x: seen.append(progress))
    assert seen[0] == 0
    assert seen[-1] == 1
    assert seen == sorted(seen)


def test_data_are_gone_through_in_turn() -> None:
    index = torch.arange(5)
    assert in_turn(None, index).tolist() == [0, 1, 2, 3, 4]
    assert in_turn(7, index).tolist() == [7] * 5
    assert in_turn([3, 1], index).tolist() == [3, 1, 3, 1, 3]
    for wrong in (-1, [], [2, -3]):
        with pytest.raises(ValueError, match="index="):
            check_index(wrong)


def test_samples_of_one_datum_differ_and_those_of_one_number_are_equal() -> None:
    task = Inpaint(box=[0, 0, 2, 4], index=3)
    one, other = ask(task, torch.tensor([0, 1]))["x"]
    assert torch.equal(one[:, 2:], other[:, 2:])
    assert (one[:, :2] - other[:, :2]).abs().mean() > 0.1


def test_new_samples_begin_with_the_same_noise_in_every_task() -> None:
    index = torch.tensor([5, 2])
    ends = ask(Interpolate(samples=[5, 2]), torch.tensor([0]))["x"][0, [0, -1]]
    torch.testing.assert_close(ends, ask(Generate(), index)["x"], atol=1e-5, rtol=1e-5)


def test_data_come_back_from_their_codes() -> None:
    """The better, the more steps the way has: of a method of order 2, twice as many leave a quarter of each error."""
    errors = []
    for steps in (25, 50):
        task, many = Reconstruct(), model(steps=1000)
        found = ask(task, torch.arange(8), many, Heun(steps=steps))
        torch.testing.assert_close(found["mse"], (found["x"] - found["data"]).double().square().flatten(1).mean(1))
        errors.append(found["mse"].mean())
    assert errors[1] < errors[0] / 8
    assert errors[1] < 1e-3
    assert psnr(torch.tensor([4.0, 0.04])).tolist() == pytest.approx([0, 20])
    assert psnr(torch.zeros(1)).isfinite().all()


def test_errors_of_points_have_the_units_of_the_data() -> None:
    points = model(Field((2,)))
    task = checked(Reconstruct(), points)
    assert list(task.numbers) == ["mse"]
    assert "psnr" not in ask(task, torch.arange(3), points)


class Halves(Model):
    """Encodes by halving, with a code of its own shape."""

    can = frozenset({"sample", "encode", "decode"})

    def sample(self, conditions: Batch, rng: Rng, sampler: Any = None, watch: Watch | None = None) -> Batch:
        return {"x": rng.normal(*self.spec["x"].shape)}

    def encode(self, batch: Batch, rng: Rng | None = None) -> Batch:
        return {"z": batch["x"].flatten(1) / 2}

    def decode(self, batch: Batch) -> Batch:
        return {"x": (batch["z"] * 2).reshape(-1, *self.spec["x"].shape)}

    def prior(self, rng: Rng) -> Batch:
        return {"z": rng.normal(48)}

    @property
    def latent_spec(self) -> Spec:
        return {"z": Field((48,))}


def test_models_with_codes_of_their_own_need_no_sampler() -> None:
    own = Halves({"x": FIELD})
    assert isinstance(codes(own, None), OwnCodes)
    found = ask(checked(Reconstruct(), own, None), torch.arange(3), own, None)
    assert found["mse"].max() < 1e-12
    row = ask(checked(Interpolate(path="straight", points=3), own, None), torch.arange(2), own, None)
    torch.testing.assert_close(row["x"][:, 1], (row["start"] + row["end"]) / 2)
    drawn = ask(checked(Interpolate(samples=[4, 1]), own, None), torch.arange(1), own, None)
    torch.testing.assert_close(drawn["x"][0, 0], ask(Generate(), torch.tensor([4]), own, None)["x"][0])


def test_an_arc_has_the_length_of_its_ends_and_goes_evenly() -> None:
    z = Rng(0, torch.arange(6)).normal(3, 5, dtype=torch.float64)
    z = z / z.flatten(1).norm(dim=1)[:, None, None]
    w = torch.linspace(0, 1, 5)
    arc = spherical(z[:3], z[3:], w)
    torch.testing.assert_close(arc[:, 0], z[:3])
    torch.testing.assert_close(arc[:, -1], z[3:])
    torch.testing.assert_close(arc.flatten(2).norm(dim=2), torch.ones(3, 5, dtype=torch.float64))
    steps = arc.diff(dim=1).flatten(2).norm(dim=2)
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps))
    line = straight(z[:3], z[3:], w)
    torch.testing.assert_close(line[:, 2], (z[:3] + z[3:]) / 2)
    same = spherical(z[:3], z[:3], w)
    torch.testing.assert_close(same, z[:3, None].expand_as(same))


def test_rows_lead_from_datum_to_datum() -> None:
    index, data = torch.arange(3), split()
    row = ask(Interpolate(points=4), index, model(steps=1000), Heun(steps=50))
    assert torch.equal(row["start"], data[[0, 2, 4]])
    assert torch.equal(row["end"], data[[1, 3, 5]])
    torch.testing.assert_close(row["x"][:, 0], row["start"], atol=0.15, rtol=0)
    torch.testing.assert_close(row["x"][:, -1], row["end"], atol=0.15, rtol=0)
    named = Interpolate(images=[[8, 3], [1, 0]])
    assert named.data(torch.arange(3)).tolist() == [[8, 3], [1, 0], [8, 3]]
    assert named.count(64) == 2
    assert Interpolate(images=[8, 3]).count(64) == 1
    assert Interpolate().count(64) == 64


def test_noise_comes_and_goes() -> None:
    """The ways begin with the datum and with the sample, and meet at the noise."""
    found = ask(Denoise(points=4), torch.arange(3))
    assert torch.equal(found["forward"][:, 0], split()[:3])
    assert torch.equal(found["reverse"][:, 0], found["x"])
    assert torch.equal(found["difference"][:, -1], torch.zeros_like(found["x"]))
    assert torch.equal(found["difference"], found["reverse"] - found["forward"])
    assert (found["difference"][:, 0] != 0).any()


def test_the_forward_way_has_the_marginals_of_the_process() -> None:
    schedule, n = Cosine(12), 4000
    batch = {"x": torch.full((n, 2), 0.5)}
    found = Denoise(points=4)(model(Field((2,))), torch.arange(n), 0, Ancestral(steps=12), None, batch)
    forward = found["forward"].double()
    for k, step in enumerate((0, 4, 8, 12)):
        alpha, sigma = schedule(torch.tensor(step / 12, dtype=torch.float64))
        assert forward[:, k].mean() == pytest.approx(0.5 * float(alpha), abs=4 * float(sigma) / (2 * n) ** 0.5 + 1e-6)
        assert forward[:, k].std() == pytest.approx(float(sigma), abs=4 / (4 * n) ** 0.5)


def test_the_curve_of_a_code() -> None:
    task = checked(Compress(points=3))
    samples = ask(task, torch.arange(6))
    (curve,) = task.curves({key: samples[key] for key in (*task.numbers, *task.traces)})
    step, t, rate, error = curve.columns.values()
    assert step == list(range(1, 13))
    assert t == pytest.approx([1 - i / 12 for i in range(12)])
    assert rate == sorted(rate)
    assert rate[-1] == pytest.approx(float(samples["sent"].mean()))
    last = (samples["x"][:, -1] - samples["data"]).double().square().mean().sqrt() * 127.5
    assert error[-1] == pytest.approx(float(last), rel=1e-4)
    torch.testing.assert_close(samples["whole"], samples["sent"] + samples["rest"])
    assert samples["x"].shape == (6, 3, *FIELD.shape)
    few = checked(Compress(steps=5, points=2))
    passed = few.curves(ask(few, torch.arange(2)))[0].columns["t"]
    assert [12 * t for t in passed] == pytest.approx([12, 10, 7, 5, 2])


def test_colours_are_new_and_their_grey_is_kept() -> None:
    found = ask(checked(Colorize()), torch.arange(3))
    torch.testing.assert_close(found["x"].mean(1), found["data"].mean(1), atol=1e-5, rtol=0)
    assert torch.equal(found["grey"][:, 0], found["grey"][:, 1])
    assert (found["x"] - found["data"]).abs().max() > 0.1


def test_masks_may_be_files(tmp_path: Path) -> None:
    from PIL import Image

    mask = torch.zeros(4, 4, dtype=torch.uint8)
    mask[1, 2:] = 255
    Image.fromarray(mask.numpy()).save(tmp_path / "mask.png")
    task = Inpaint(mask=str(tmp_path / "mask.png"))
    found = ask(task, torch.arange(2))
    assert torch.equal((found["x"] == found["data"]).all(1).all(0), mask == 0)
    assert (found["masked"][..., 1, 2:] == 0).all()
    same, other = Inpaint(mask=str(tmp_path / "mask.png")), tmp_path / "other.png"
    Image.fromarray(255 - mask.numpy()).save(other)
    assert same.facts == task.facts != Inpaint(mask=str(other)).facts


WRONG: dict[str, Any] = {
    "either mask, a file, or box": lambda: Inpaint(),
    "mask=nowhere.png: there is no such file": lambda: Inpaint(mask="nowhere.png"),
    "box=.* must be": lambda: Inpaint(box=[0, 0, 2]),
    "it ends at row 2 and column 6, and the images have 4 rows": lambda: checked(Inpaint(box=[0, 2, 2, 4])),
    "resample must be at least 1": lambda: Inpaint(box=[0, 0, 1, 1], resample=0),
    "stretch must be at least 1": lambda: Colorize(stretch=0),
    "a mask is for images": lambda: checked(Inpaint(box=[0, 0, 1, 1]), model(Field((2,)))),
    "the data are grey already": lambda: checked(Colorize(), model(Field((1, 4, 4), levels=4))),
    "the data are no images": lambda: checked(Colorize(), model(Field((5,)))),
    "it cannot be run backwards": lambda: checked(Reconstruct(), sampler=Ancestral()),
    "sampler=ancestral: it cannot be run backwards": lambda: checked(Interpolate(), sampler=Ancestral()),
    "Halves was not trained to take noise away": lambda: checked(Denoise(), Halves({"x": FIELD})),
    "points must be at least 2": lambda: Interpolate(points=1),
    "either images or samples": lambda: Interpolate(images=[0, 1], samples=[0, 1]),
    "images=.0.: name two numbers": lambda: Interpolate(images=[0]),
    "samples=.*: name two numbers": lambda: Interpolate(samples=[[0, 1], [2]]),
    "task.points=9: the sampler has 6 steps": lambda: checked(Denoise(points=9)),
    "task.points=13: the code has 12 steps": lambda: checked(Compress(points=13)),
    "task.steps=13: the model's schedule has 12": lambda: checked(Compress(steps=13)),
    "task.variance=learned: the model has learned none": lambda: checked(Compress(variance="learned")),
    "label=3: the model has no labels": lambda: checked(Inpaint(box=[0, 0, 1, 1], label=3)),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_cannot_be_is_said(said: str) -> None:
    with pytest.raises(ValueError, match=said):
        WRONG[said]()
