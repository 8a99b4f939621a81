"""CelebA: faces of celebrities, aligned, through torchvision; cut and resized as papers on generation do.

References:
    Deep Learning Face Attributes in the Wild (Liu, Luo, Wang & Tang, 2015).
    Autoencoding beyond Pixels Using a Learned Similarity Metric (Larsen et al., 2016), the cut of 148 pixels.
"""

from pathlib import Path

from genlab.core.spec import Field, Spec
from genlab.data.contract import SplitName
from genlab.data.images import Files, Pictures, in_threads
from genlab.data.root import below, obtain

WINDOW = 148
PUBLISHED: dict[SplitName, str] = {"train": "train", "validation": "valid", "test": "test"}


class CelebA:
    """202,599 aligned faces, the middle 148x148 pixels resized to 64x64, without labels.

    The published 162,770 train, 19,867 validation and 19,962 test data.

    Arguments:
        root: has celeba/img_align_celeba/*.jpg and the published celeba/list_*.txt.
        size: the side to resize to, at most 148.
        flip: turn half of the training images left to right.
        in_memory: keep the resized images in memory, 2.5 GB of 64x64 pixels in all; false reads the files each time.
        download: fetch what is absent.
    """

    classes = None

    def __init__(
        self,
        root: str | None = None,
        size: int = 64,
        flip: bool = True,
        in_memory: bool = False,
        download: bool = True,
    ) -> None:
        if not 1 <= size <= WINDOW:
            raise ValueError(f"size must be at least 1 and at most {WINDOW}, not {size}")
        self.root, self.size, self.flip, self.in_memory, self.download = root, size, flip, in_memory, download
        self._loaded: dict[SplitName, Pictures] = {}

    @property
    def spec(self) -> Spec:
        return {"x": Field((3, self.size, self.size), levels=256)}

    @property
    def identity(self) -> str:
        return f"celeba-{self.size}"

    def split(self, name: SplitName) -> Pictures:
        if name not in self._loaded:
            files = Files(self._paths(PUBLISHED[name]), self.size, 3, WINDOW)
            kept = list(in_threads(files.__getitem__, range(len(files)), "decoding faces")) if self.in_memory else None
            self._loaded[name] = Pictures(kept or files, self.size, flip=self.flip and name == "train")
        return self._loaded[name]

    def _paths(self, part: str) -> list[Path]:
        from torchvision import datasets

        folder = below(self.root, "celeba")
        expected = "celeba/img_align_celeba and celeba/list_*.txt"

        def load(download: bool) -> datasets.CelebA:
            return datasets.CelebA(str(folder.parent), part, target_type=[], download=download)

        data = obtain(load, folder.parent, expected, self.download)
        return [folder / "img_align_celeba" / name for name in data.filename]
