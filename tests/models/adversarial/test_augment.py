"""What is done to all that a critic sees: nothing at p = 0, to each row on its own, with gradients, and adaptively."""

import math

import pytest
import torch
import torch.distributed as dist

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field
from genlab.models.adversarial.ada import AdaptiveAugment
from genlab.models.adversarial.diffaug import DiffAugment
from genlab.models.adversarial.gan import GAN
from genlab.models.adversarial.noise import NormalNoise
from genlab.models.adversarial.objective import LeastSquares, NonSaturating, Wasserstein
from genlab.models.adversarial.warp import doubled, halved, mirrored, mirrored_index, warped
from genlab.models.conditioning import Unconditional
from genlab.networks.adversarial.mlp import MLPCritic, MLPGenerator

SHAPES = ((1, 8, 8), (3, 16, 16), (2, 8, 12))
PARTS = ("blit", "geometry", "color")


def rng(rows: int = 4, step: int = 3) -> Rng:
    return Rng(0, torch.arange(rows), step=step).stage("augment")


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def only(part: str, shape: tuple[int, ...], p: float = 1.0) -> AdaptiveAugment:
    return AdaptiveAugment(shape, start=p, **{name: name == part for name in PARTS})


def every(shape: tuple[int, ...]) -> list:
    return [DiffAugment(shape), AdaptiveAugment(shape, start=0.7), *(only(part, shape) for part in PARTS)]


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_happens_at_probability_zero(shape):
    x = images(4, *shape)
    assert torch.equal(AdaptiveAugment(shape)(x, rng(), 0), x)
    assert torch.equal(DiffAugment(shape, False, 0, 0)(x, rng(), 0), x)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("number", range(5))
def test_rows_are_changed_on_their_own_and_gradients_pass(shape, number):
    augment, x = every(shape)[number], images(4, *shape).requires_grad_()
    changed = augment(x, rng(), 0)
    assert changed.shape == x.shape
    assert changed.isfinite().all()
    assert (changed - x).flatten(1).abs().amax(1).max() > 1e-2
    torch.testing.assert_close(augment(x[1:3], rng().rows(slice(1, 3)), 0), changed[1:3], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(augment(x, rng(step=4), 0), changed, atol=1e-3)
    (slope,) = torch.autograd.grad(changed.square().sum(), x)
    assert slope.isfinite().all()
    assert slope.flatten(1).abs().sum(1).min() > 0
    # Each change is affine in the pixels.
    with torch.no_grad():
        y = -images(4, *shape).flip(3)
        line = augment(0.3 * x + 0.7 * y, rng(), 0)
        torch.testing.assert_close(line, 0.3 * changed + 0.7 * augment(y, rng(), 0), rtol=1e-4, atol=1e-5)


def test_blits_move_whole_pixels():
    """Each datum is one of the eight symmetries of a square, moved by at most an eighth, with a mirror at its edges."""
    rows, side = 300, 16
    x = torch.arange(side * side, dtype=torch.float32).view(1, 1, side, side)
    found = only("blit", (1, side, side))(x.expand(rows, -1, -1, -1), rng(rows), 0)
    turned = [torch.rot90(y, k, (2, 3)) for y in (x, x.flip(3)) for k in range(4)]
    places = torch.arange(side)
    index = {by: mirrored_index(places - by, side) for by in range(-2, 3)}
    kinds = {
        (number, by, to): turned[number][0, 0][index[by]][:, index[to]]
        for number in range(8)
        for by in index
        for to in index
    }
    tables = torch.stack(list(kinds.values())).flatten(1)
    matches = (found.flatten(1)[:, None] == tables[None]).all(2)
    assert (matches.sum(1) == 1).all()
    seen = [list(kinds)[number] for number in matches.long().argmax(1).tolist()]
    for part, values in ((0, range(8)), (1, range(-2, 3)), (2, range(-2, 3))):
        counts = [sum(kind[part] == value for kind in seen) / rows for value in values]
        assert all(count == pytest.approx(1 / len(values), abs=0.09) for count in counts)


def test_the_share_that_is_changed_is_the_probability():
    x = images(1, 1, 8, 8).expand(2000, -1, -1, -1)
    changed = AdaptiveAugment((1, 8, 8), geometry=False, blit=False, start=0.2)(x, rng(2000), 0)
    same = (changed == x).flatten(1).all(1).float().mean().item()
    # Brightness and contrast always show, and grey turned over half of the time; one channel has no hue or saturation.
    assert same == pytest.approx(0.8 * 0.8 * 0.9, abs=0.03)
    moved = only("geometry", (1, 8, 8), 0.2)(x, rng(2000), 0)
    same = (moved == x).flatten(1).all(1).float().mean().item()
    assert same == pytest.approx(0.8**4, abs=0.03)


def test_a_filter_up_and_down_loses_nothing():
    x = images(2, 3, 8, 12).double()
    fine = doubled(x)
    # Without the margin.
    torch.testing.assert_close(halved(fine)[:, :, 8:-8, 8:-8], x, rtol=0, atol=1e-9)
    still = torch.eye(2, 3, dtype=torch.float64).expand(2, -1, -1)
    torch.testing.assert_close(warped(x, still), x, rtol=0, atol=1e-9)


def test_a_mirror_stands_at_the_edges():
    place = torch.arange(-9, 14)
    assert mirrored_index(place, 4).tolist() == [0, 0, 1, 2, 3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2]
    assert torch.equal(mirrored(place.float(), 4), mirrored_index(place, 4).float())
    assert mirrored(torch.tensor([-0.7, 3.7]), 4).tolist() == pytest.approx([-0.3, 3.3])


def test_a_warp_shows_what_is_at_other_places():
    """Of an image that is known between its pixels, away from its edges."""
    height, width = 24, 32

    def scene(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return (0.25 * u + 0.1).sin() * (0.2 * v - 0.4).cos() + 0.3 * (0.15 * (u + v)).cos()

    v, u = torch.meshgrid(
        torch.arange(height).double() - (height - 1) / 2, torch.arange(width).double() - (width - 1) / 2, indexing="ij"
    )
    angle, size = 0.5, 0.8
    turn = [
        [size * math.cos(angle), size * math.sin(angle), 0.7],
        [-size * math.sin(angle), size * math.cos(angle), -1.3],
    ]
    matrices = torch.tensor(
        [turn, [[-1, 0, 0], [0, 1, 0]], [[1, 0, 2], [0, 1, -1]], [[1, 0, 0.5], [0, 1, 0.25]]]
    ).double()
    found = warped(scene(u, v).expand(4, 1, -1, -1), matrices)[:, 0]
    for image, matrix in zip(found, matrices, strict=True):
        a, b = (row[0] * u + row[1] * v + row[2] for row in matrix)
        inside = (a.abs() < width / 2 - 4) & (b.abs() < height / 2 - 4)
        assert inside.sum() > 100
        assert (image - scene(a, b)).abs()[inside].max() < 0.01


def test_colours_change_around_grey():
    x = images(500, 3, 4, 4)
    matrices = []
    for row in only("color", (3, 4, 4))(torch.cat([x[:1].expand(500, -1, -1, -1)]), rng(500), 0):
        seen = torch.linalg.lstsq(
            torch.cat([x[0].flatten(1), torch.ones(1, 16)]).T.double(), row.flatten(1).T.double()
        ).solution.T
        matrices.append(seen)
    found = torch.stack(matrices)
    linear, moved = found[:, :, :3], found[:, :, 3]
    one = torch.ones(3, dtype=torch.float64)
    # Grey stays grey, and is turned over in half of the data; brightness goes the same way.
    grey = linear @ one
    torch.testing.assert_close(grey, grey[:, :1].expand(-1, 3), rtol=1e-3, atol=1e-4)
    assert (grey[:, 0] < 0).double().mean().item() == pytest.approx(0.5, abs=0.07)
    torch.testing.assert_close(moved, moved[:, :1].expand(-1, 3), rtol=1e-3, atol=1e-4)
    assert grey[:, 0].abs().log2().std().item() == pytest.approx(0.5, rel=0.1)
    assert (moved / grey).std().item() == pytest.approx(0.2, rel=0.1)
    # Across grey the map is a turn, any, times contrast and saturation.
    across = linear - grey[:, :1, None] / 3
    stretch = torch.linalg.svdvals(across)
    torch.testing.assert_close(stretch[:, 0], stretch[:, 1], rtol=1e-3, atol=1e-4)
    assert stretch[:, 2].max() < 1e-3
    assert (stretch[:, 0] / grey[:, 0].abs()).log2().std().item() == pytest.approx(1, rel=0.1)
    turn = torch.stack([torch.tensor([1.0, -1, 0]) / 2**0.5, torch.tensor([1.0, 1, -2]) / 6**0.5]).double()
    inner = turn @ across @ turn.T / stretch[:, :1, None]
    angles = torch.atan2(inner[:, 1, 0], inner[:, 0, 0])
    assert angles.histc(4, -math.pi, math.pi).div(500).tolist() == pytest.approx([0.25] * 4, abs=0.07)


def test_diffaug_is_the_published_one():
    rows, side = 400, 8
    x = images(1, 3, side, side).expand(rows, -1, -1, -1)
    coloured = DiffAugment((3, side, side), translation=0, cutout=0)(x, rng(rows), 0)
    b, s, c = rng(rows).stage("color").uniform(3).unbind(1)
    row = 17
    y = x[row] + b[row] - 0.5
    y = (y - y.mean(0)) * 2 * s[row] + y.mean(0)
    torch.testing.assert_close(coloured[row], (y - y.mean()) * (c[row] + 0.5) + y.mean())

    moved = DiffAugment((3, side, side), color=False, cutout=0)(x, rng(rows), 0)
    padded = torch.nn.functional.pad(x[0], (1, 1, 1, 1))
    views = [padded[:, i : i + side, j : j + side] for i in range(3) for j in range(3)]
    which = torch.stack([(moved == view).flatten(1).all(1) for view in views], dim=1)
    assert (which.sum(1) == 1).all()
    assert which.float().mean(0).tolist() == pytest.approx([1 / 9] * 9, abs=0.06)

    cut = DiffAugment((3, side, side), color=False, translation=0)(x, rng(rows), 0) == 0
    assert (cut | (DiffAugment((3, side, side), False, 0)(x, rng(rows), 0) == x)).all()
    areas = cut[:, 0].sum((1, 2))
    assert areas.max() == 16
    assert areas.min() == 4
    # Its middle is anywhere in 0 .. side, and the hole ends at the edges.
    assert cut[:, 0].any(2).float().sum(1).mean().item() == pytest.approx((2 + 3 + 4 * 5 + 3 + 2) / 9, abs=0.15)


def adapted(scores: list[torch.Tensor], **options) -> AdaptiveAugment:
    augment = AdaptiveAugment((1, 8, 8), images=100, every=2, **options).train()
    for score in scores:
        augment.observe(score)
        augment.after_step()
    return augment


def test_the_probability_follows_the_signs_of_the_scores():
    right, wrong = torch.tensor([0.1, 3, 2, 0.2, -1]), torch.tensor([-0.5, 1, -2, -0.1, 9])
    # r = 0.6 and -0.2: ten data move p by a tenth.
    assert adapted([right] * 2, target=0.5).p.item() == pytest.approx(0.1)
    assert adapted([right] * 3, target=0.5).p.item() == pytest.approx(0.1)
    assert adapted([right] * 6, target=0.5).p.item() == pytest.approx(0.3)
    assert adapted([wrong] * 4, start=0.55).p.item() == pytest.approx(0.35)
    assert adapted([right.abs(), wrong], start=0.5, target=0.41).p.item() == pytest.approx(0.4)
    assert adapted([wrong] * 4).p.item() == 0
    assert adapted([right.abs()] * 6, start=0.95).p.item() == 1
    assert adapted([right.abs()] * 6, start=0.25, target=None).p.item() == 0.25
    still = AdaptiveAugment((1, 8, 8), images=100, every=1, start=0.3).eval()
    still.observe(right)
    still.after_step()
    assert still.p.item() == pytest.approx(0.3)
    assert still.shown()["augmented"].item() == pytest.approx(0.3)


def test_what_it_has_counted_is_kept():
    right = torch.ones(5)
    other = AdaptiveAugment((1, 8, 8), images=100, every=2).train()
    other.load_state_dict(adapted([right] * 3).state_dict())
    other.observe(right)
    other.after_step()
    assert other.p.item() == pytest.approx(adapted([right] * 4).p.item())


def game(augment, objective=None) -> GAN:
    torch.manual_seed(0)
    shape = (1, 8, 8)
    players = MLPGenerator(shape, 256, 4, [8]), MLPCritic(shape, [16])
    return GAN(
        {"x": Field(shape, levels=256)},
        *players,
        NormalNoise(4),
        objective or NonSaturating(),
        Unconditional(),
        augment=augment,
    )


@pytest.mark.parametrize("objective", [NonSaturating(), LeastSquares()])
def test_in_a_game_it_rises_when_the_critic_is_right_about_data(objective):
    model = game(AdaptiveAugment((1, 8, 8), images=40, every=1), objective).train()
    batch = {"x": images(8, 1, 8, 8)}
    before = model.augment.p.item()
    for score, sign in ((100.0, 1), (0.45, -1 if isinstance(objective, LeastSquares) else 1), (-3.0, -1)):
        with torch.no_grad():
            model.critic.head.score.weight.zero_()
            model.critic.head.score.bias.fill_(score)
        model.augment.p.fill_(0.5)
        found = model.loss(batch, rng(8), "critic", 0)
        assert found["augmented"].item() == 0.5
        model.after_step("critic", 1)
        assert model.augment.p.item() == pytest.approx(0.5 + sign * 8 / 40)
    assert before == 0


def test_the_generator_learns_through_the_change():
    for augment in (DiffAugment((1, 8, 8)), AdaptiveAugment((1, 8, 8), start=0.9)):
        model = game(augment)
        loss = model.loss({"x": images(8, 1, 8, 8)}, rng(8), "generator", 0)["loss"]
        gradients = torch.autograd.grad(loss, list(model.generator.parameters()))
        assert all(gradient.norm() > 0 for gradient in gradients)
        plain = game(None).loss({"x": images(8, 1, 8, 8)}, rng(8), "generator", 0)["loss"]
        assert not torch.allclose(plain, loss)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"augment: adapts .* objective=Wasserstein do not say"):
        game(AdaptiveAugment((1, 8, 8)), Wasserstein())
    game(AdaptiveAugment((1, 8, 8), target=None), Wasserstein())
    for kind, name in ((DiffAugment, "diffaug"), (AdaptiveAugment, "ada")):
        with pytest.raises(UserError, match=rf"^augment={name}: is for images, .* not \[2\]"):
            kind([2])
    for options in ({"target": 1.0}, {"start": 1.5}, {"images": 0}, {"every": 0}):
        with pytest.raises(ValueError, match="must be"):
            AdaptiveAugment((1, 8, 8), **options)
    for options in ({"translation": 1.0}, {"cutout": -0.1}):
        with pytest.raises(ValueError, match="must be at least 0 and below 1"):
            DiffAugment((1, 8, 8), **options)


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    share = (torch.ones(2), -torch.ones(2))[rank]
    torch.save(adapted([share] * 2, start=0.5, target=-0.1).state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_processes_move_the_probability_as_one(tmp_path):
    torch.multiprocessing.spawn(process, args=(str(tmp_path),), nprocs=2)
    whole = adapted([torch.tensor([1.0, 1, -1, -1])] * 2, start=0.5, target=-0.1)
    assert whole.p.item() == pytest.approx(0.58)
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt")["p"], whole.p)
