"""Every transform and architecture, small, in double precision, with weights that are not those of the start."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from genlab.core.rng import Rng
from genlab.models.flow.actnorm import ActNorm
from genlab.models.flow.affine import Gate, MeanScale
from genlab.models.flow.autoregressive import Inverted, MaskedAutoregressive
from genlab.models.flow.batch_norm import BatchNorm
from genlab.models.flow.conv1x1 import Conv1x1
from genlab.models.flow.coupling import Alternate, Checkerboard, Coupling, Halves
from genlab.models.flow.elementwise import Shift, SigmoidAffine, TanhAffine
from genlab.models.flow.glow import Glow, TopPrior
from genlab.models.flow.iaf import IAF
from genlab.models.flow.logit import Logit
from genlab.models.flow.maf import MAF
from genlab.models.flow.nice import NICE
from genlab.models.flow.nice_scaling import Scaling
from genlab.models.flow.nsf import NSF
from genlab.models.flow.permutation import Permutation, random_order, reversed_order
from genlab.models.flow.planar import Planar
from genlab.models.flow.realnvp import CheckerboardFlow, RealNVP, RealNVPVector
from genlab.models.flow.spline import RationalQuadratic
from genlab.models.flow.split import Split
from genlab.models.flow.squeeze import Squeeze, corners_together
from genlab.models.flow.transform import Composition, Flatten, MultiScale, Transform
from genlab.networks.coupling_nets import Dense, GlowConv, ResidualConv

CONTEXT = 3


def dense(inputs: int, outputs: int) -> nn.Module:
    return Dense(inputs, outputs, [8], CONTEXT)


def residual(inputs: int, outputs: int) -> nn.Module:
    return ResidualConv(inputs, outputs, 8, 1, CONTEXT)


def glow_conv(inputs: int, outputs: int) -> nn.Module:
    return GlowConv(inputs, outputs, 8, CONTEXT)


IMAGE, VECTOR, ODD = (2, 4, 4), (6,), (5,)
MAKE: dict[str, tuple[tuple[int, ...], Callable[[], Transform]]] = {
    "actnorm": (IMAGE, lambda: ActNorm(2)),
    "actnorm of vectors": (VECTOR, lambda: ActNorm(6)),
    "batch norm": (IMAGE, lambda: BatchNorm(2)),
    "conv1x1 lu": ((4, 2, 3), lambda: Conv1x1(4)),
    "conv1x1 plain": ((4, 2, 3), lambda: Conv1x1(4, lu=False)),
    "conv1x1 of vectors": (VECTOR, lambda: Conv1x1(6)),
    "permutation": (VECTOR, lambda: Permutation(random_order(6, seed=1))),
    "corners": ((8, 2, 2), lambda: Permutation(corners_together(2))),
    "reversal": (IMAGE, lambda: Permutation(reversed_order(2))),
    "squeeze": (IMAGE, Squeeze),
    "flatten": (IMAGE, lambda: Flatten(IMAGE)),
    "scaling": (VECTOR, lambda: Scaling(6)),
    "logit": (IMAGE, lambda: Logit(0.05)),
    "halves": (VECTOR, lambda: Coupling(Halves(6), TanhAffine(3), dense, CONTEXT)),
    "alternate": (ODD, lambda: Coupling(Alternate(5), TanhAffine(2), dense, CONTEXT)),
    "alternate swapped": (ODD, lambda: Coupling(Alternate(5, swap=True), Shift(), dense, CONTEXT)),
    "checkerboard": (IMAGE, lambda: Coupling(Checkerboard(2), TanhAffine(2), residual, CONTEXT)),
    "checkerboard swapped": ((2, 3, 3), lambda: Coupling(Checkerboard(2, True), SigmoidAffine(), residual, CONTEXT)),
    "channels": (IMAGE, lambda: Coupling(Halves(2, swap=True), SigmoidAffine(), glow_conv, CONTEXT)),
    "top prior": (IMAGE, lambda: TopPrior(2, CONTEXT)),
    "composition": (IMAGE, lambda: Composition([ActNorm(2), Squeeze(), Conv1x1(8)])),
    "multi-scale": (
        IMAGE,
        lambda: MultiScale(IMAGE, [Squeeze(), Squeeze(), ActNorm(8)], [Split(8, learned=True), Split(16)]),
    ),
    "nice": ((2, 2, 2), lambda: NICE((2, 2, 2), 3, [8], CONTEXT)),
    "checkerboard flow": (IMAGE, lambda: CheckerboardFlow(IMAGE, 2, 8, 1, CONTEXT)),
    "realnvp": ((1, 4, 4), lambda: RealNVP((1, 4, 4), 2, 8, 1, "batch", CONTEXT)),
    "realnvp of three scales": ((1, 4, 8), lambda: RealNVP((1, 4, 8), 3, 8, 1, "act")),
    "realnvp of vectors": (ODD, lambda: RealNVPVector(ODD, 3, [8], "act", CONTEXT)),
    "autoregressive": (VECTOR, lambda: MaskedAutoregressive(MeanScale(), 6, [8, 9], random_order(6, 1), CONTEXT)),
    "autoregressive, no layers between": (ODD, lambda: MaskedAutoregressive(MeanScale(), 5, [], None, CONTEXT)),
    "autoregressive spline": (ODD, lambda: MaskedAutoregressive(RationalQuadratic(4, 0.6), 5, [8])),
    "inverse autoregressive": (VECTOR, lambda: Inverted(MaskedAutoregressive(Gate(), 6, [8], None, CONTEXT))),
    "spline": (VECTOR, lambda: Coupling(Halves(6), RationalQuadratic(5, 0.7), dense, CONTEXT)),
    "maf": ((2, 2, 2), lambda: MAF((2, 2, 2), 3, [12], "batch", "reversed", CONTEXT)),
    "maf in any order": (ODD, lambda: MAF(ODD, 3, [8, 8], "act", "random")),
    "iaf": (ODD, lambda: IAF(ODD, 3, [8], "reversed", CONTEXT)),
    "planar": (ODD, lambda: Planar(ODD, 3, CONTEXT)),
    "nsf": (ODD, lambda: NSF(ODD, 3, "coupling", [8], 4, 1.5, "lu", CONTEXT)),
    "nsf shuffled": (VECTOR, lambda: NSF(VECTOR, 2, "coupling", [8], 4, 1.5, "shuffle")),
    "nsf autoregressive": (ODD, lambda: NSF(ODD, 2, "autoregressive", [8], 4, 1.5, "none", CONTEXT)),
    "glow": ((1, 4, 4), lambda: Glow((1, 4, 4), 2, 2, 8, vector=CONTEXT)),
    "glow additive": ((2, 4, 4), lambda: Glow((2, 4, 4), 1, 2, 8, "additive", "plain")),
    "glow shuffled": ((1, 4, 4), lambda: Glow((1, 4, 4), 2, 2, 8, mixing="shuffle", recompute=True)),
}


def rows(name: str, count: int = 3) -> tuple[Tensor, Tensor]:
    """Data in (0, 1), which all transforms take, and a context."""
    shape, _ = MAKE[name]
    rng = Rng(3, torch.arange(count))
    x = rng.stage("x").uniform(*shape, dtype=torch.float64)
    return x, rng.stage("context").normal(CONTEXT, dtype=torch.float64)


def made(name: str) -> Transform:
    """The transform with all of its parameters, and running averages, moved."""
    torch.manual_seed(0)
    transform = MAKE[name][1]().double().eval()
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        for key, buffer in transform.named_buffers():
            if "averages" in key:
                buffer += torch.rand_like(buffer)
    return transform
