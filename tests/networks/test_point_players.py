"""The smallest players: a point and a direction."""

import torch

from genlab.networks.adversarial.point import LinearCritic, PointGenerator


def test_a_point_is_made_whatever_the_noise():
    generator = PointGenerator((2, 3), start=0.5)
    made = generator(torch.randn(4, 7))
    assert made.shape == (4, 2, 3)
    assert (made == 0.5).all()
    made.sum().backward()
    assert (generator.point.grad == 4).all()


def test_the_score_is_a_product():
    critic = LinearCritic((3,))
    critic.direction.data = torch.tensor([1.0, -2.0, 3.0])
    x = torch.randn(5, 3)
    judged = critic(x)
    torch.testing.assert_close(judged.score, x @ critic.direction)
    assert judged.features.equal(x)
    assert critic(torch.zeros(1, 3)).score.item() == 0
