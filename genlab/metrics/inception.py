"""The 2015 Inception network that the field measures FID with, up to its 2048 pooled features and its 1008 logits.

    uint8 image -> bilinear 299 x 299 -> (v - 128) / 128 -> convolutions -> mean over 8 x 8 = features
    logits = W features

The resizing is TensorFlow 1's (pixel i of the output lies at i in / out of the input), pooled means leave padding out,
the last block pools by maximum, and the logits have no bias: all as when the published statistics were made.

What makes it quick changes its numbers by rounding alone. Batch normalisation is folded into the convolutions. The 1x1
convolutions of a block that read the same input are one; the one behind a mean pool can join them, since a pooled mean
and a 1x1 convolution commute: mean(W x + b) = W mean(x) + b. So do ReLU and a maximum.

References:
    Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2016).
    GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genlab.core.errors import UserError
from genlab.metrics.features import Extractor, fingerprint

SIDE = 299
EPSILON = 1e-3
FEATURES, CLASSES = 2048, 1008
CHUNK = {False: 16, True: 256}
"""Images that pass at once, off and on a GPU."""


class Convolution(nn.Module):
    """Convolutions of one shape that read the same input, as one, each with its batch normalisation folded in.

    Arguments:
        inputs: channels that come in.
        outputs: the name of each convolution in the published weights, and how many channels it puts out.
        kernel, stride, padding: of all of them.
    """

    def __init__(
        self,
        inputs: int,
        outputs: dict[str, int],
        kernel: tuple[int, int] = (1, 1),
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.kernel, self.stride, self.padding = inputs, outputs, kernel, stride, padding
        total = sum(outputs.values())
        self.weight = nn.Parameter(torch.empty(total, inputs, *kernel))
        self.bias = nn.Parameter(torch.empty(total))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the published weights, by name."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name, out in self.outputs.items():
            shapes[f"{name}.conv.weight"] = (out, self.inputs, *self.kernel)
            for part in ("bias", "running_mean", "running_var", "weight"):
                shapes[f"{name}.bn.{part}"] = (out,)
        return shapes

    @torch.no_grad()
    def fold(self, state: Mapping[str, Tensor], prefix: str) -> None:
        """Take W' = W g / sqrt(var + eps) and b' = b - mean g / sqrt(var + eps), with g = 1 where none is given."""
        weights, biases = [], []
        for name in self.outputs:
            normal = {
                key: state[f"{prefix}{name}.bn.{key}"].double() for key in ("bias", "running_mean", "running_var")
            }
            gain = state.get(f"{prefix}{name}.bn.weight", torch.ones_like(normal["bias"])).double()
            gain = gain / (normal["running_var"] + EPSILON).sqrt()
            weights.append(state[f"{prefix}{name}.conv.weight"].double() * gain[:, None, None, None])
            biases.append(normal["bias"] - normal["running_mean"] * gain)
        self.weight.copy_(torch.cat(weights))
        self.bias.copy_(torch.cat(biases))

    def forward(self, x: Tensor) -> Tensor:
        """Before the ReLU."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def each(self, x: Tensor) -> tuple[Tensor, ...]:
        """What each of the convolutions puts out, before the ReLU."""
        return self(x).split(list(self.outputs.values()), dim=1)


def single(
    name: str, inputs: int, out: int, kernel: tuple[int, int], stride: int = 1, pad: bool = False
) -> Convolution:
    """One convolution; `pad` keeps the sides."""
    padding = (kernel[0] // 2, kernel[1] // 2) if pad else (0, 0)
    return Convolution(inputs, {name: out}, kernel, stride, padding)


def pooled_mean(x: Tensor) -> Tensor:
    """Over 3 x 3 pixels, of those that there are."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def pooled_maximum(x: Tensor) -> Tensor:
    """Over 3 x 3 pixels."""
    return F.max_pool2d(x, 3, stride=1, padding=1)


class MixedA(nn.Module):
    """35 x 35: 1x1, 5x5, two 3x3 and a pooled branch."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.first = Convolution(
            inputs, {"branch1x1": 64, "branch5x5_1": 48, "branch3x3dbl_1": 64, "branch_pool": pooled}
        )
        self.five = single("branch5x5_2", 48, 64, (5, 5), pad=True)
        self.double_2 = single("branch3x3dbl_2", 64, 96, (3, 3), pad=True)
        self.double_3 = single("branch3x3dbl_3", 96, 96, (3, 3), pad=True)

    def forward(self, x: Tensor) -> Tensor:
        one, five, double, pool = self.first.each(x)
        five = self.five(five.relu())
        double = self.double_3(self.double_2(double.relu()).relu_())
        return torch.cat([one, five, double, pooled_mean(pool)], 1).relu_()


class MixedB(nn.Module):
    """35 x 35 to 17 x 17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.three = single("branch3x3", inputs, 384, (3, 3), stride=2)
        self.double_1 = single("branch3x3dbl_1", inputs, 64, (1, 1))
        self.double_2 = single("branch3x3dbl_2", 64, 96, (3, 3), pad=True)
        self.double_3 = single("branch3x3dbl_3", 96, 96, (3, 3), stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.double_2(self.double_1(x).relu_()).relu_()
        return torch.cat([self.three(x).relu_(), self.double_3(double).relu_(), F.max_pool2d(x, 3, stride=2)], 1)


class MixedC(nn.Module):
    """17 x 17: 1x1, a 7x7 in two, another in four, and a pooled branch."""

    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        names = {"branch1x1": 192, "branch7x7_1": inner, "branch7x7dbl_1": inner, "branch_pool": 192}
        self.first = Convolution(inputs, names)
        self.seven_2 = single("branch7x7_2", inner, inner, (1, 7), pad=True)
        self.seven_3 = single("branch7x7_3", inner, 192, (7, 1), pad=True)
        self.double_2 = single("branch7x7dbl_2", inner, inner, (7, 1), pad=True)
        self.double_3 = single("branch7x7dbl_3", inner, inner, (1, 7), pad=True)
        self.double_4 = single("branch7x7dbl_4", inner, inner, (7, 1), pad=True)
        self.double_5 = single("branch7x7dbl_5", inner, 192, (1, 7), pad=True)

    def forward(self, x: Tensor) -> Tensor:
        one, seven, double, pool = self.first.each(x)
        seven = self.seven_3(self.seven_2(seven.relu()).relu_())
        double = self.double_3(self.double_2(double.relu()).relu_()).relu_()
        double = self.double_5(self.double_4(double).relu_())
        return torch.cat([one, seven, double, pooled_mean(pool)], 1).relu_()


class MixedD(nn.Module):
    """17 x 17 to 8 x 8."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.first = Convolution(inputs, {"branch3x3_1": 192, "branch7x7x3_1": 192})
        self.three_2 = single("branch3x3_2", 192, 320, (3, 3), stride=2)
        self.seven_2 = single("branch7x7x3_2", 192, 192, (1, 7), pad=True)
        self.seven_3 = single("branch7x7x3_3", 192, 192, (7, 1), pad=True)
        self.seven_4 = single("branch7x7x3_4", 192, 192, (3, 3), stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three, seven = self.first.each(x)
        three = self.three_2(three.relu()).relu_()
        seven = self.seven_4(self.seven_3(self.seven_2(seven.relu()).relu_()).relu_()).relu_()
        return torch.cat([three, seven, F.max_pool2d(x, 3, stride=2)], 1)


class MixedE(nn.Module):
    """8 x 8: 1x1, a 3x3 divided in two, another behind a 3x3, and a pooled branch.

    Arguments:
        inputs: channels that come in.
        pool: over 3 x 3 pixels; the last block takes the maximum, the one before it the mean.
    """

    def __init__(self, inputs: int, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first = Convolution(inputs, {"branch1x1": 320, "branch3x3_1": 384, "branch3x3dbl_1": 448})
        self.three_a = single("branch3x3_2a", 384, 384, (1, 3), pad=True)
        self.three_b = single("branch3x3_2b", 384, 384, (3, 1), pad=True)
        self.double_2 = single("branch3x3dbl_2", 448, 384, (3, 3), pad=True)
        self.double_a = single("branch3x3dbl_3a", 384, 384, (1, 3), pad=True)
        self.double_b = single("branch3x3dbl_3b", 384, 384, (3, 1), pad=True)
        self.last = single("branch_pool", inputs, 192, (1, 1))
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        one, three, double = self.first.each(x)
        three, double = three.relu(), self.double_2(double.relu()).relu_()
        doubles = [self.double_a(double), self.double_b(double)]
        parts = [one, self.three_a(three), self.three_b(three), *doubles, self.last(self.pool(x))]
        return torch.cat(parts, 1).relu_()


class Inception(nn.Module):
    """From normalised images to pooled features, with the published names at the top."""

    def __init__(self) -> None:
        super().__init__()
        self.stem_1a = single("Conv2d_1a_3x3", 3, 32, (3, 3), stride=2)
        self.stem_2a = single("Conv2d_2a_3x3", 32, 32, (3, 3))
        self.stem_2b = single("Conv2d_2b_3x3", 32, 64, (3, 3), pad=True)
        self.stem_3b = single("Conv2d_3b_1x1", 64, 80, (1, 1))
        self.stem_4a = single("Conv2d_4a_3x3", 80, 192, (3, 3))
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = MixedA(192, 32), MixedA(256, 64), MixedA(288, 64)
        self.Mixed_6a = MixedB(288)
        self.Mixed_6b, self.Mixed_6c = MixedC(768, 128), MixedC(768, 160)
        self.Mixed_6d, self.Mixed_6e = MixedC(768, 160), MixedC(768, 192)
        self.Mixed_7a = MixedD(768)
        self.Mixed_7b, self.Mixed_7c = MixedE(1280, pooled_mean), MixedE(2048, pooled_maximum)

    def convolutions(self) -> list[tuple[str, Convolution]]:
        """Every convolution with what precedes its names in the published weights: "" or the name of its block."""
        found = [(name, part) for name, part in self.named_modules() if isinstance(part, Convolution)]
        return [(name[: name.rfind(".") + 1], part) for name, part in found]

    def forward(self, x: Tensor) -> Tensor:
        """(N, 2048) of x (N, 3, 299, 299)."""
        x = self.stem_2a(self.stem_1a(x).relu_()).relu_()
        x = F.max_pool2d(self.stem_2b(x), 3, stride=2).relu_()
        x = F.max_pool2d(self.stem_4a(self.stem_3b(x).relu_()), 3, stride=2).relu_()
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3), dtype=torch.float32)


def resize(x: Tensor) -> Tensor:
    """x (N, C, H, W) at 299 x 299, bilinear, in memory channel after channel as the convolutions want it.

    Output i lies at i H / 299 of the input and is mixed of its two neighbours, first along rows, then along columns.
    """

    def neighbours(length: int) -> tuple[Tensor, Tensor, Tensor]:
        place = torch.arange(SIDE, dtype=torch.float32, device=x.device) * torch.tensor(length / SIDE)
        low = place.long()
        return low, (low + 1).clamp(max=length - 1), (place - low).to(x.dtype)

    left, right, across = neighbours(x.shape[3])
    top, bottom, down = neighbours(x.shape[2])
    x = x.permute(0, 2, 3, 1).contiguous()
    x = torch.lerp(x.index_select(2, left), x.index_select(2, right), across[:, None])
    x = torch.lerp(x.index_select(1, top), x.index_select(1, bottom), down[:, None, None])
    return x.permute(0, 3, 1, 2)


class InceptionFeatures(Extractor):
    """The pooled features of the 2015 network, and its logits where the weights have the head.

    Arguments:
        state: the published weights by their names there, with or without `fc`.
        source: where they came from, for messages and for the reader of a number.
        dtype: of the convolutions. bfloat16 is quicker where the hardware has it and moves the numbers.
    """

    def __init__(self, state: Mapping[str, Tensor], source: str, dtype: torch.dtype = torch.float32) -> None:
        network = Inception()
        check(state, network, source)
        super().__init__("inception-2015", FEATURES, CLASSES if "fc.weight" in state else 0, {})
        for prefix, convolution in network.convolutions():
            convolution.fold(state, prefix)
        self.network = network.to(dtype).to(memory_format=torch.channels_last)
        self.head = nn.Parameter(state["fc.weight"].float()) if self.has_logits else None
        self.dtype = dtype
        self.how.update(inception_weights=source, inception_fingerprint=fingerprint(self.state_dict()))
        if dtype != torch.float32:
            self.how["inception_precision"] = str(dtype).removeprefix("torch.")
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise UserError(f"Inception judges images of 1 or 3 channels, not data of {tuple(images.shape[1:])}")
        features = torch.cat([self._features(part) for part in images.split(CHUNK[images.is_cuda])])
        return features, None if self.head is None else features @ self.head.T

    def _features(self, images: Tensor) -> Tensor:
        x = resize((images.float() - 128) / 128).expand(-1, 3, -1, -1)
        return self.network(x.to(self.dtype).contiguous(memory_format=torch.channels_last))


def check(state: Mapping[str, Tensor], network: Inception, source: str) -> None:
    """An error of one line where the weights are not those of the network."""
    needed = {prefix + name: shape for prefix, part in network.convolutions() for name, shape in part.shapes().items()}
    optional = {"fc.weight": (CLASSES, FEATURES), "fc.bias": (CLASSES,)}
    for name in [name for name in needed if name.endswith("bn.weight")]:
        optional[name] = needed.pop(name)
        optional[name.replace("bn.weight", "bn.num_batches_tracked")] = ()
    known = {**needed, **optional}
    wrong = [name for name in needed if name not in state] + [name for name in state if name not in known]
    wrong += [name for name, tensor in state.items() if name in known and tuple(tensor.shape) != known[name]]
    if wrong:
        raise UserError(
            f"{source} does not hold the weights of the 2015-12-05 Inception network: {len(wrong)} names are missing, "
            f"unknown or of another shape, as {wrong[0]}"
        )
