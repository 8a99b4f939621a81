"""VGG16 up to its last convolution, trained on ImageNet by others: feature maps of five sizes.

    five stages of convolutions 3x3 with ReLU: 2, 2, 3, 3, 3 of them, with 64, 128, 256, 512, 512 channels; between them
    a maximum halves the sides

References:
    Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan & Zisserman, 2015), table 1, D.
"""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from genlab.core.errors import UserError

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
FILE = "vgg16-397923af.pth"
URL = f"https://download.pytorch.org/models/{FILE}"
ADVICE = f"put {FILE} in a folder and set GENLAB_WEIGHTS to it, or train with perceptual=null"
# Of ImageNet's images in [0, 1].
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def published(path: str | None) -> Mapping[str, Tensor]:
    """The weights in a file, in the folder that GENLAB_WEIGHTS names, or fetched once into torch's own cache."""
    here = Path(path).expanduser() if path else Path(os.environ.get("GENLAB_WEIGHTS") or ".").expanduser() / FILE
    try:
        if path or here.is_file():
            return torch.load(here, map_location="cpu", weights_only=True)
        return torch.hub.load_state_dict_from_url(URL, map_location="cpu", check_hash=True, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        where = f"{here} is not a file of them" if path or here.is_file() else "they are not here and cannot be fetched"
        raise UserError(f"perceptual.network: the weights of VGG16: {where}; {ADVICE}") from error


class VGG16(nn.Module):
    """The convolutions, fixed.

    Arguments:
        weights: the file with torchvision's names; None for one in the folder of GENLAB_WEIGHTS, else torch's cache,
            else the network.

    Raises UserError where the weights are not to be had.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        self.ends: list[int] = []
        now = 3
        for stage in STAGES:
            parts += [nn.MaxPool2d(2)] if parts else []
            for channels in stage:
                parts += [nn.Conv2d(now, channels, 3, padding=1), nn.ReLU()]
                now = channels
            self.ends.append(len(parts) - 1)
        self.features = nn.Sequential(*parts)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION)[:, None, None], persistent=False)
        state = published(weights)
        try:
            self.load_state_dict({name: state[name] for name in self.state_dict()})
        except (KeyError, RuntimeError, TypeError) as error:
            raise UserError(f"perceptual.network: these are not the weights of VGG16; {ADVICE}") from error
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (B, 1 or 3, H, W) in [-1, 1] to (B, C, h, w) of each stage."""
        if min(x.shape[2:]) < 16:
            raise UserError(f"perceptual.network: VGG16 sees images of 16 pixels or more, not of {list(x.shape[2:])}")
        h, maps = ((x + 1) / 2 - self.mean) / self.deviation, []
        for place, part in enumerate(self.features):
            h = part(h)
            if place in self.ends:
                maps.append(h)
        return maps
