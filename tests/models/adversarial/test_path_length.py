"""Path lengths against whole Jacobians, the mean that they are compared with, and lazy counting."""

import math

import pytest
import torch
import torch.distributed as dist

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.adversarial.noise import NormalNoise
from genlab.models.adversarial.path_length import PathLength, path_lengths
from genlab.networks.adversarial.mlp import MLPGenerator
from genlab.networks.adversarial.stylegan2 import StyleGAN2Generator
from genlab.networks.condition import Condition

SHAPE, SIZE = (2, 8, 8), 3


def generator(**options) -> StyleGAN2Generator:
    torch.manual_seed(0)
    return StyleGAN2Generator(SHAPE, SIZE, **{"style": 4, "mapping": 1, "width": 3, "mixing": 0, **options})


class DoubleNoise(NormalNoise):
    def sample(self, rng: Rng) -> torch.Tensor:
        return super().sample(rng).double()


def rng(*index: int) -> Rng:
    return Rng(0, torch.tensor(index or (0, 1, 2, 3)), step=5).stage("regularizer")


def test_lengths_are_those_of_jacobians():
    made = generator().double()
    z = torch.randn(3, SIZE, dtype=torch.float64)
    rows, found = rng(0, 1, 2), path_lengths(made, z, None, rng(0, 1, 2))
    y = rows.stage("direction").normal(*SHAPE, dtype=torch.float64) / 8
    for row in range(3):
        w = made.styles(z[row : row + 1]).expand(made.layers, -1).detach()
        one = rng(row).stage("inner")

        def image(w: torch.Tensor, one: Rng = one) -> torch.Tensor:
            return made.synthesize(w[None], Rng(0, one.index, 5, one.path))[0]

        jacobian = torch.autograd.functional.jacobian(image, w)
        pulled = torch.einsum("chw,chwij->ij", y[row], jacobian)
        expected = math.sqrt(pulled.square().sum() / made.layers)
        assert found[row].item() == pytest.approx(expected, rel=1e-6)


def test_its_gradients_are_those_of_finite_differences():
    made = generator().double()
    regularizer = PathLength(shrink=1).double().eval()
    regularizer.mean.fill_(0.3)
    weight = made.convs[1].conv.filter
    noise = DoubleNoise(SIZE)
    loss = regularizer(made, noise, None, rng())
    (gradient,) = torch.autograd.grad(loss, weight)
    direction = gradient / gradient.norm()
    ends = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            weight += step * direction
        ends.append(regularizer(made, noise, None, rng()).item())
        with torch.no_grad():
            weight -= step * direction
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(gradient.norm().item(), rel=1e-5)


def test_lengths_are_drawn_to_their_mean():
    made, noise = generator(), NormalNoise(SIZE)
    regularizer = PathLength(weight=3, decay=0.1, shrink=1).train()
    lengths = path_lengths(made, noise.sample(rng().stage("z")), None, rng()).detach()
    means = [0.0]
    for _ in range(3):
        # Of two micro-batches, which are alike.
        for _ in range(2):
            loss = regularizer(made, noise, None, rng())
            torch.testing.assert_close(loss, 3 * (lengths - means[-1]).square().mean())
        regularizer.after_step()
        means.append(means[-1] + 0.1 * (lengths.mean().item() - means[-1]))
        assert regularizer.mean.item() == pytest.approx(means[-1], rel=1e-5)
        assert regularizer.shown()["path_length"].item() == regularizer.mean.item()
    regularizer.after_step()
    regularizer.eval()(made, noise, None, rng())
    regularizer.after_step()
    assert regularizer.mean.item() == pytest.approx(means[-1], rel=1e-5)


def test_one_of_so_many_rows_is_looked_at():
    made, noise = generator(vector=2), NormalNoise(SIZE)
    told = Condition(vector=torch.randn(4, 2))
    half = PathLength(shrink=2).eval()(made, noise, told, rng())
    some = PathLength(shrink=1).eval()(made, noise, Condition(vector=told.vector[::2]), rng(0, 2))
    torch.testing.assert_close(half, some)


def test_weights_that_do_not_learn_have_lengths_too():
    made = generator().requires_grad_(False)
    with torch.no_grad():
        assert PathLength().eval()(made, NormalNoise(SIZE), None, rng()).isfinite()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match=r"^regularizer=path_length: MLPGenerator has no styles"):
        PathLength()(MLPGenerator(SHAPE, 256, SIZE), NormalNoise(SIZE), None, rng())
    wrong = {"weight": 0.0, "decay": 0.0, "shrink": 0, "every": 0}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"{name}={value} must be"):
            PathLength(**{name: value})


def learned(rows: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """The means that training on these rows moves."""
    made, regularizer = generator().train(), PathLength(shrink=2).train()
    made(NormalNoise(SIZE).sample(rng(*rows)), None, rng(*rows).stage("inner"))
    regularizer(made, NormalNoise(SIZE), None, rng(*rows))
    regularizer.after_step()
    return {"style": made.mean_style, "length": regularizer.mean}


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(learned(((0, 1), (2, 3))[rank]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_means_of_one(tmp_path):
    torch.multiprocessing.spawn(process, args=(str(tmp_path),), nprocs=2)
    whole = learned((0, 1, 2, 3))
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), whole)
