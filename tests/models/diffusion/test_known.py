"""Laws of sampling where a part is known: it is held, on every way to the data, and the rest is drawn to go with it."""

import pytest
import torch
from closed_form import shipped
from gaussian_model import gaussian
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Batch, Field
from genlab.models.diffusion.denoiser import Denoised, Denoiser
from genlab.models.diffusion.guidance import Guidance
from genlab.models.diffusion.known import (
    BackAndForth,
    Grey,
    Outside,
    check_back_and_forth,
    completed,
    noised,
)
from genlab.models.diffusion.model import GaussianDiffusion
from genlab.models.diffusion.process import diffuse
from genlab.models.diffusion.samplers.ancestral import Ancestral
from genlab.models.diffusion.samplers.sampler import Sampler
from genlab.models.diffusion.schedule import Cosine, LinearBeta

SAMPLERS = {name: x for name, x in shipped("sampler").items() if isinstance(x, Sampler) and not x.needs_data}
SCHEDULE = LinearBeta(100)
SECOND = Outside(torch.tensor([False, True]))
MEAN, COVARIANCE = torch.tensor([0.3, -0.2]), torch.tensor([[1.0, 0.8], [0.8, 1.0]])
FIRST = 1.5


def correlated() -> GaussianDiffusion:
    return gaussian(SCHEDULE, MEAN, COVARIANCE, Field((2,)))


def images(steps: int = 5) -> GaussianDiffusion:
    """Colour images of 4x4 pixels that are alike in all values."""
    d = 48
    covariance = 0.1 * torch.eye(d) + 0.1 * torch.ones(d, d)
    return gaussian(Cosine(steps), torch.zeros(d), covariance, Field((3, 4, 4), levels=256))


def rows(n: int) -> Rng:
    return Rng(0, torch.arange(n)).stage("sample")


def some_images(n: int) -> Tensor:
    return Rng(1, torch.arange(n)).uniform(3, 4, 4) * 2 - 1


class Shifted(Guidance):
    """Adds to the model's estimate."""

    factor, note, conditions = 3, {"guidance": "shifted"}, frozenset({"label"})

    def check(self, model: GaussianDiffusion) -> None:
        raise UserError("shifted")

    def __call__(self, model: GaussianDiffusion, conditions: Batch, rng: Rng) -> Denoiser:
        denoise = model.denoiser(conditions, rng)
        return lambda x_t, t: Denoised(denoise(x_t, t).x_0 + 0.25)


@pytest.mark.parametrize("name", SAMPLERS)
def test_with_every_sampler_the_known_pixels_come_out_as_they_were(name: str) -> None:
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[2:] = True
    model, data = images(), some_images(3)
    sampler = SAMPLERS[name]
    sampler = Ancestral() if sampler.steps and sampler.steps > 10 else sampler
    x = completed(model, Outside(mask), data, {}, rows(3), sampler)
    assert torch.equal(x[..., :2, :], data[..., :2, :])
    assert not torch.isclose(x[..., 2:, :], data[..., 2:, :]).any()
    assert x.isfinite().all()
    assert x.abs().max() <= 1


def path(sampler: Sampler, model: GaussianDiffusion, projection: Outside, known: Tensor) -> list[Tensor]:
    states: list[Tensor] = []
    completed(model, projection, known, {}, rows(len(known)), sampler, lambda _, x: states.append(x))
    return states


def test_on_the_way_the_known_part_is_the_known_data_with_one_noise() -> None:
    """That of a deterministic sampler keeps its noise; the estimate of the network has no say."""
    sampler = Ancestral(steps=20, eta=0.0)
    times, known = sampler.times(SCHEDULE), torch.full((5, 2), FIRST)
    noise = []
    for t, x_t in zip(times[:-1], path(sampler, correlated(), SECOND, known)[:-1], strict=True):
        alpha, sigma = SCHEDULE(t)
        noise.append((x_t[:, 0] - alpha * FIRST) / sigma)
    torch.testing.assert_close(torch.stack(noise), noise[0].expand(20, 5), atol=1e-3, rtol=0)


def test_with_new_noise_at_every_step_the_known_part_is_distributed_as_diffused_data() -> None:
    sampler, n = Ancestral(steps=10), 4000
    states = path(sampler, correlated(), SECOND, torch.full((n, 2), FIRST))
    for t, x_t in zip(sampler.times(SCHEDULE)[:-1], states[:-1], strict=True):
        alpha, sigma = SCHEDULE(t)
        noise = (x_t[:, 0].double() - alpha * FIRST) / sigma
        assert abs(noise.mean()) < 4 / n**0.5
        assert noise.var() == pytest.approx(1, abs=6 / n**0.5)


def test_the_rest_leans_towards_what_is_known_and_more_so_back_and_forth() -> None:
    """Given the first of two correlated numbers the second is N(0.76, 0.36), and given nothing N(-0.2, 1).

    Straight on the answer lies in between: what is known is told to the rest through noise alone.
    """
    n, mean, variance = 1200, -0.2 + 0.8 * (FIRST - 0.3), 1 - 0.8**2
    known = torch.tensor([[FIRST, 0.0]]).expand(n, 2)

    def second(sampler: Sampler, resample: int) -> Tensor:
        return completed(correlated(), SECOND, known, {}, rows(n), sampler, resample=resample)[:, 1]

    for sampler in (Ancestral(), Ancestral(eta=0.0)):
        straight, often = second(sampler, 1), second(sampler, 5)
        assert -0.2 + 0.3 < straight.mean() < mean - 0.25
        assert variance + 0.05 < straight.var() < 1
        assert abs(often.mean() - mean) < 0.2
        assert abs(often.mean() - mean) < 0.5 * abs(straight.mean() - mean)
        assert abs(often.var() - variance) < 0.5 * abs(straight.var() - variance)


def test_independent_values_are_drawn_as_if_nothing_were_known() -> None:
    model = gaussian(SCHEDULE, MEAN, torch.eye(2) * 0.25, Field((2,)))
    sampler, known = Ancestral(steps=25), torch.full((6, 2), FIRST)
    x = completed(model, SECOND, known, {}, rows(6), sampler)
    torch.testing.assert_close(x[:, 1], model.sample({}, rows(6), sampler)["x"][:, 1], atol=1e-5, rtol=1e-5)


def test_guidance_that_is_there_goes_on_and_the_sampler_stays_as_it_was() -> None:
    model = gaussian(SCHEDULE, MEAN, torch.eye(2) * 0.25, Field((2,)))
    known, sampler = torch.full((6, 2), FIRST), Ancestral(steps=25, eta=0.0)
    free = completed(model, SECOND, known, {}, rows(6), sampler)
    sampler.guidance = guidance = Shifted()
    shifted = completed(model, SECOND, known, {}, rows(6), sampler)
    assert (shifted[:, 1] - free[:, 1] > 0.2).all()
    assert torch.equal(shifted[:, 0], known[:, 0])
    assert sampler.guidance is guidance
    assert sampler.clip is None


@pytest.mark.parametrize("resample", [1, 2])
def test_a_sample_does_not_depend_on_its_batch(resample: int) -> None:
    data, whole = some_images(4), rows(4)
    mask = torch.eye(4, dtype=torch.bool)
    parts = [
        completed(images(), Outside(mask), data[part], {}, whole.rows(part), Ancestral(), None, resample, 3)
        for part in (slice(0, 4), slice(0, 1), slice(1, 4))
    ]
    torch.testing.assert_close(parts[0], torch.cat(parts[1:]), atol=1e-5, rtol=1e-5)


def test_back_and_forth_once_is_the_sampler_itself_and_several_times_costs_as_many() -> None:
    model, x_1 = correlated(), correlated().prior(rows(3))
    for sampler in (Ancestral(steps=7), Ancestral(steps=7, eta=0.0)):
        once = BackAndForth(sampler, 1, 3)
        assert torch.equal(model.from_noise(x_1, {}, rows(3), once), model.from_noise(x_1, {}, rows(3), sampler))
        asked: list[Tensor] = []

        def denoise(x_t: Tensor, t: Tensor, asked: list[Tensor] = asked) -> Denoised:
            asked.append(t)
            return Denoised(0 * x_t)

        often = BackAndForth(sampler, 4, 3)
        often(SCHEDULE, denoise, x_1, rows(3))
        assert len(asked) == often.evaluations(SCHEDULE) == 28
    with pytest.raises(UserError, match=r"task.resample: sampler=rk45 chooses its own steps"):
        check_back_and_forth(SAMPLERS["rk45"], SCHEDULE)


def test_noise_that_is_added_leads_to_the_marginal_of_the_later_time() -> None:
    n = 20000
    rng = Rng(0, torch.arange(n))
    s, t = torch.tensor([0.3, 0.6], dtype=torch.float64)
    x_0 = torch.full((n, 1), 0.5)
    x_s = diffuse(SCHEDULE, x_0, s, rng.stage("first").normal(1))
    x_t = noised(SCHEDULE, x_s, s, t, rng.stage("second")).double()
    alpha, sigma = SCHEDULE(t)
    assert x_t.mean() == pytest.approx(float(alpha) * 0.5, abs=4 * float(sigma) / n**0.5)
    assert x_t.var() == pytest.approx(float(sigma) ** 2, rel=6 / n**0.5)


def test_colours_keep_the_grey_that_they_are_given() -> None:
    grey, data = Grey(), some_images(50)
    x = 3 * Rng(2, torch.arange(50)).normal(3, 4, 4)
    put = grey.put_in_range(x.clamp(-1, 1), data)
    assert put.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(put.mean(1), data.mean(1))
    torch.testing.assert_close(grey.put(x, data).mean(1), data.mean(1))
    torch.testing.assert_close(grey(grey(data)), grey(data))
    # What is in range is left as it is.
    small = 0.1 * data
    torch.testing.assert_close(grey.put_in_range(small, data * 0.5), grey.put(small, data * 0.5))
    drawn = completed(images(), grey, data[:4], {}, rows(4), Ancestral())
    torch.testing.assert_close(drawn.mean(1), data[:4].mean(1), atol=1e-6, rtol=0)
    assert (drawn - data[:4]).abs().max() > 0.1
