"""Small squares of photographs without their mean: a classical table for density estimation, of any folder of pictures.

    p = (v + u) / 256,  u ~ U[0, 1);    x = (p - mean p) without its last number

v are the grey levels of a square at a random place, in rows. Their mean taken out, the last number follows from the
others, so that 8x8 pixels are 63 numbers. Of the photographs of BSDS300, of which 1,000,000 patches are for training,
50,000 for validation and 250,000 for testing, it is the published table made anew, with other random places.

References:
    RNADE: The Real-valued Neural Autoregressive Density-estimator (Uria, Murray & Larochelle, 2013), section 4.2.
    Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou & Murray, 2017), appendix D.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.rng import Rng
from genlab.core.spec import Field, Spec
from genlab.data.contract import InMemory, SplitName
from genlab.data.image_folder import ImageFolder
from genlab.data.images import Damaged, read

VALIDATION, TEST = 20, 4
"""A part of `size` for so many in training."""

SEED = 0


class Patches:
    """Squares of the pictures of a folder, as vectors: data.root=~/BSDS300/images

    A picture's patches are all in one split: those of the folders train, val and test, else by a hash of its path.

    Arguments:
        root: the folder.
        side: of a square, in pixels.
        size: training patches, equally many of each picture.
    """

    classes = None

    def __init__(self, root: str | None = None, side: int = 8, size: int = 1_000_000) -> None:
        if side < 2:
            raise ValueError(f"side must be at least 2, not {side}")
        if size < VALIDATION:
            raise ValueError(f"size must be at least {VALIDATION}, not {size}")
        self.side, self.size = side, size
        self.pictures = ImageFolder(root)
        self._made: dict[SplitName, InMemory] = {}

    @property
    def spec(self) -> Spec:
        return {"x": Field((self.side**2 - 1,))}

    @property
    def identity(self) -> str:
        return f"patches-{self.pictures.fingerprint[:16]}-{self.side}-{self.size}"

    def split(self, name: SplitName) -> InMemory:
        if name not in self._made:
            count = {"train": self.size, "validation": self.size // VALIDATION, "test": self.size // TEST}[name]
            self._made[name] = InMemory(self._patches(name, count))
        return self._made[name]

    def _patches(self, name: SplitName, count: int) -> Tensor:
        damaged: dict[str, str] = {}
        seen = [self._picture(path, damaged) for path in self.pictures.layout.splits[name]]
        self.pictures.tell(damaged)
        pictures = [picture for picture in seen if picture is not None]
        if not pictures:
            raise UserError(f"data.root={self.pictures.folder}: no {name} picture is sound")
        rng = Rng(SEED, torch.arange(count)).stage(f"patches {name}")
        place, noise = rng.uniform(2).numpy(), rng.uniform(self.side, self.side).numpy()
        patches = np.empty((count, self.side, self.side), dtype=np.float32)
        for number, picture in enumerate(pictures):
            mine = slice(number, count, len(pictures))
            windows = np.lib.stride_tricks.sliding_window_view(picture, (self.side, self.side))
            rows, columns = (place[mine] * windows.shape[:2]).astype(int).T
            patches[mine] = windows[rows, columns]
        flat = ((patches + noise) / 256).reshape(count, -1)
        return torch.from_numpy((flat - flat.mean(1, keepdims=True))[:, :-1])

    def _picture(self, path: str, damaged: dict[str, str]) -> np.ndarray | None:
        """Its grey levels (H, W); None of a damaged one, which is put down with the reason."""
        whole = Path(self.pictures.folder) / path
        try:
            image = read(whole, 1)
        except Damaged as error:
            damaged[path] = str(error)
            return None
        if min(image.size) < self.side:
            raise UserError(
                f"data.side={self.side}: {whole} has a side of {min(image.size)} pixels only: set data.side="
                f"{min(image.size)} or less, or take it away"
            )
        return np.asarray(image)
