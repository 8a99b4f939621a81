"""An invertible matrix for the channels of each place.

    z[:, h, w] = W x[:, h, w],    log_det = H W log |det W|
    W = P L (U + diag(d)),        log |det W| = sum_c log |d_c|

In the second form P is a fixed permutation, L is lower triangular with ones on its diagonal and U is strictly upper
triangular; the signs of d are fixed and log |d| is learned, so that W stays invertible. W begins as a random rotation.

References:
    Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma & Dhariwal, 2018), section 3.2.
"""

import torch
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.models.flow.transform import Mapped, Transform

# A matrix whose inverse loses all digits of single precision is as good as singular.
WORST_CONDITION = 1e7


def random_rotation(channels: int) -> Tensor:
    """An orthogonal matrix (C, C), drawn from torch's generator as first weights are."""
    q, r = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))
    return (q * r.diagonal().sign()).float()


def check_regular(weight: Tensor) -> None:
    """Raise a UserError where a matrix has no inverse that could be computed with."""
    found = weight.detach().double()
    if not found.isfinite().all() or float(torch.linalg.cond(found)) > WORST_CONDITION:
        raise UserError(
            f"a 1x1 convolution of {len(weight)} channels has a singular weight and no inverse; train with "
            "transform.mixing=lu, which keeps it regular, or with a lower optim.lr"
        )


def multiplied(weight: Tensor, x: Tensor) -> Tensor:
    """W times the channels of x (B, C, *), in full precision also where networks are in half of it."""
    with torch.autocast(x.device.type, enabled=False):
        return torch.einsum("ij,bj...->bi...", weight.to(x.dtype), x)


class PlainWeight(nn.Module):
    """W itself is learned; nothing keeps it from becoming singular.

    Arguments:
        weight: (C, C), with which it begins.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        check_regular(weight)
        self.weight = nn.Parameter(weight.clone())

    def forward(self) -> tuple[Tensor, Tensor]:
        """W and log |det W|. The determinant of a singular W is found out when the model is used, and not in training,
        since a look would wait for the device; there it makes the loss infinite."""
        if not self.training:
            check_regular(self.weight)
        return self.weight, torch.linalg.slogdet(self.weight)[1]


class LUWeight(nn.Module):
    """W by its factors.

    Arguments:
        weight: (C, C), with which it begins.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        check_regular(weight)
        permutation, lower, upper = torch.linalg.lu(weight.double())
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation.float())
        self.register_buffer("sign", diagonal.sign().float())
        self.log_diagonal = nn.Parameter(diagonal.abs().log().float())
        self.lower, self.upper = nn.Parameter(lower.tril(-1).float()), nn.Parameter(upper.triu(1).float())

    def forward(self) -> tuple[Tensor, Tensor]:
        """W and log |det W|."""
        with torch.autocast(self.sign.device.type, enabled=False):
            upper = self.upper.triu(1) + (self.sign * self.log_diagonal.exp()).diag()
            lower = self.lower.tril(-1) + torch.eye(len(upper), dtype=upper.dtype, device=upper.device)
            return self.permutation @ lower @ upper, self.log_diagonal.sum()


class Conv1x1(Transform):
    """The map above.

    Arguments:
        channels: C of x (B, C, *).
        lu: learn W by its factors.
        weight: (C, C), with which it begins; None for a random rotation.

    Raises UserError where the weight is singular.
    """

    def __init__(self, channels: int, lu: bool = True, weight: Tensor | None = None) -> None:
        super().__init__()
        weight = random_rotation(channels) if weight is None else weight
        self.matrix = LUWeight(weight) if lu else PlainWeight(weight)

    def forward(self, x: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        weight, log_det = self.matrix()
        return multiplied(weight, x), self._log_det(log_det, x)

    def inverse(self, z: Tensor, context: Tensor | None = None, rng: Rng | None = None) -> Mapped:
        weight, log_det = self.matrix()
        inverse, _ = torch.linalg.inv_ex(weight.double())
        return multiplied(inverse, z), -self._log_det(log_det, z)

    def _log_det(self, log_det: Tensor, x: Tensor) -> Tensor:
        return (log_det * (x[0].numel() // x.shape[1])).expand(len(x))
