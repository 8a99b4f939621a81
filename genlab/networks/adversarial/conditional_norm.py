"""Batch normalisation whose gains and biases are told by the condition.

    y = (1 + A c) (x - mean) / deviation + B c

Mean and deviation are of the batch in training, and running ones of all batches else; so in training what is made of a
datum depends on the others of its batch, in its own process. A and B start from zero, when all conditions are alike.

References:
    A Learned Representation For Artistic Style (Dumoulin, Shlens & Kudlur, 2017), eq. 5.
    cGANs with Projection Discriminator (Miyato & Koyama, 2018), section 4.
"""

import torch
from torch import Tensor, nn

from genlab.networks.condition import Condition, parts


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation of maps; a plain one where there is no condition.

    Arguments:
        channels: C.
        vector: the width of condition.vector, 0 for none.
    """

    def __init__(self, channels: int, vector: int = 0) -> None:
        super().__init__()
        self.vector = vector
        self.norm = nn.BatchNorm2d(channels, affine=vector == 0)
        self.told = nn.Linear(vector, 2 * channels) if vector else None
        if self.told is not None:
            nn.init.zeros_(self.told.weight)
            nn.init.zeros_(self.told.bias)

    def forward(self, x: Tensor, condition: Condition | None = None) -> Tensor:
        """(B, C, H, W) to the same.

        Raises UserError where it is told nothing and should be, or the other way round.
        """
        vector, _, _ = parts(condition, self.vector)
        y = self.norm(x)
        if self.told is None:
            return y
        gain, bias = self.told(vector)[:, :, None, None].to(y.dtype).chunk(2, dim=1)
        return torch.addcmul(bias, y, 1 + gain)
