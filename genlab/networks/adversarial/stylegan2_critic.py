"""StyleGAN2's critic: residual layers that halve the sides, and what the batch says of its own variety.

    x_r/2 = (conv down conv(x_r) + skip down(x_r)) / sqrt(2),    ... 4x4, deviation, conv, dense -> f
    s = w . f + b,    or  (W f) . m(c) / sqrt(D)  where there is a condition, m a mapping as the generator has it

    deviation    sqrt(var over a group of data), averaged over all places and channels: one more channel, by which a
                 critic sees that what is made is all alike

References:
    Analyzing and Improving the Image Quality of StyleGAN (Karras et al., 2020), section 4.
    Progressive Growing of GANs (Karras et al., 2018), section 3, the deviation.
    Training Generative Adversarial Networks with Limited Data (Karras et al., 2020), appendix D.1, class conditions.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.networks.adversarial.contract import Critic, Judged
from genlab.networks.adversarial.stylegan2 import FIRST, widths_of
from genlab.networks.adversarial.stylegan2_layers import SMALL, EqualConv, EqualLinear, leaky
from genlab.networks.adversarial.stylegan2_mapping import Mapping
from genlab.networks.condition import Condition


def group_deviation(x: Tensor, group: int) -> Tensor:
    """Of each datum of x (B, C, H, W) the mean deviation within its group, (B,).

    Groups are of `group` data, or somewhat more where these do not divide the batch; all of it where it is smaller.
    """
    groups = max(1, len(x) // group)
    most = -(-len(x) // groups)
    short = most * groups - len(x)
    members = F.pad(x.flatten(1), (0, 0, 0, short)).unflatten(0, (most, groups))
    there = (torch.arange(most * groups, device=x.device) < len(x)).view(most, groups, 1)
    count = there.sum(0)
    variance = ((members - members.sum(0) / count) * there).square().sum(0) / count
    return (variance + SMALL).sqrt().mean(1).repeat(most)[: len(x)]


class ResidualDown(nn.Module):
    """Two convolutions and a way around them, which halve the sides.

    Arguments:
        inputs, outputs: channels before and after.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = EqualConv(inputs, inputs), EqualConv(inputs, outputs, down=True)
        self.skip = EqualConv(inputs, outputs, side=1, down=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H/2, W/2)."""
        return (leaky(self.second(leaky(self.first(x)))) + self.skip(x)) / math.sqrt(2)


class StyleGAN2Critic(Critic):
    """From images to a score.

    Arguments:
        shape: (C, H, W) of a datum, with sides of one power of two, 8 or more.
        width: channels of a map, at most.
        product: of a map's side and its channels, where these then are fewer.
        group: data whose deviation each of them is told, of a batch in one process; 0 for none.
        mapping: layers between a condition and what features are compared with.
        vector: the width of condition.vector, 0 for none.

    Raises UserError for other sides, and in training for a batch in which there is nothing to compare.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int = 512,
        product: int = 16384,
        group: int = 4,
        mapping: int = 8,
        vector: int = 0,
    ) -> None:
        super().__init__()
        if group < 0 or group == 1:
            raise ValueError(f"group={group} must be at least 2, or 0 for none")
        widths = widths_of(shape, width, product, "critic")
        last = widths[0]
        self.group, self.whole_batch = group, group > 0
        self.colours = EqualConv(shape[0], widths[-1], side=1)
        self.blocks = nn.Sequential(*(ResidualDown(*pair) for pair in pairwise(reversed(widths))))
        self.conv = EqualConv(last + (group > 0), last)
        self.dense = EqualLinear(last * FIRST**2, last)
        self.score = EqualLinear(last, last if vector else 1)
        self.mapping = Mapping(0, last, mapping, vector) if vector else None

    def forward(self, x: Tensor, condition: Condition | None = None) -> Judged:
        x = self.blocks(leaky(self.colours(x)))
        if self.group:
            x = torch.cat([x, self._deviation(x)], dim=1)
        f = leaky(self.dense(leaky(self.conv(x)).flatten(1)))
        score = self.score(f)
        if self.mapping is None:
            return Judged(score.squeeze(1), f)
        of_condition = self.mapping(None, condition)
        return Judged((score * of_condition).float().sum(1) / math.sqrt(score.shape[1]), f)

    def _deviation(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            raise UserError(
                "critic.group: compares the data of a batch, and trainer.batch_size=1 leaves none to compare; take "
                "batches of 2 or more, or critic.group=0"
            )
        with torch.autocast(x.device.type, enabled=False):
            deviation = group_deviation(x.to(torch.promote_types(x.dtype, torch.float32)), self.group)
        return deviation.to(x.dtype)[:, None, None, None].expand(-1, 1, *x.shape[2:])
