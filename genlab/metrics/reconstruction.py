"""How much of data comes back from their codes.

    MSE = |x - x'|^2 / D,    PSNR = 10 log10(4 / MSE) dB,    x' = decode(encode(x)),  both in [-1, 1]

    SSIM = mean over places of (2 m m' + c_1)(2 c + c_2) / ((m^2 + m'^2 + c_1)(v + v' + c_2)),  both in [0, 1]

m, v and c are means, variances and the covariance in a window of 11 x 11 pixels with normal weights of deviation 1.5,
c_1 = 0.01^2 and c_2 = 0.03^2; places count whose window lies within the image. Each is computed for every datum, and
then the mean over data. The Frechet distance between the features of data and of their reconstructions is the "rFID".

References:
    Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al., 2004).
    Taming Transformers for High-Resolution Image Synthesis (Esser, Rombach & Ommer, 2021), section 4.4, for the rFID.
"""

import torch
from torch import Tensor

from genlab.core.errors import UserError
from genlab.core.spec import Field
from genlab.core.units import psnr, to_uint8
from genlab.metrics.contract import Codes
from genlab.metrics.features import Extractor
from genlab.metrics.frechet import frechet_distance
from genlab.metrics.likelihood import Sums
from genlab.metrics.moments import Moments
from genlab.metrics.record import How, Number

# The side of the SSIM's window.
WINDOW = 11


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """(B,) of images (B, C, H, W) in [-1, 1], with sides of at least `WINDOW`."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    data, decoded = ((images.double() + 1) / 2 for images in (x, y))
    found = structural_similarity_index_measure(decoded, data, reduction="none", data_range=1.0, return_full_image=True)
    # Of the places, those whose window lies within the image.
    edge = WINDOW // 2
    return found[1][..., edge:-edge, edge:-edge].flatten(1).mean(1)


class Reconstruction:
    """MSE, and for data with levels PSNR, for images SSIM, and if it is asked for the rFID.

    Arguments:
        fid: also the Frechet distance, on the features that metric.features names; both sides are rounded to the data's
            levels, as samples are.
    """

    needs = frozenset({"codes", "decode"})

    def __init__(self, fid: bool = False) -> None:
        self.fid = fid

    def check(self, codes: Codes) -> None:
        if self.fid and not codes.spec["x"].is_image:
            raise UserError("metric.reconstruction.fid=true: it is for images, and the data are none")

    def evaluate(self, codes: Codes) -> list[Number]:
        self.check(codes)
        field, sums = codes.spec["x"], {name: Sums() for name in quantities(codes.spec["x"])}
        judge = Judge(codes.extractor(), codes.count) if self.fid else None
        for x, y in codes.decoded():
            mse = (x.double() - y.double()).square().flatten(1).mean(1)
            found = {"mse": mse, "psnr": psnr(mse)}
            if "ssim" in sums:
                found["ssim"] = ssim(x, y)
            for name, total in sums.items():
                total.add(found[name])
            if judge is not None:
                judge.add(*(to_uint8(images, field.levels) for images in (x, y)))
        numbers = []
        for name, (said, unit) in quantities(field).items():
            mean, error, _, count = sums[name].mean()
            how: How = {"is": said, "n": count, "data": codes.name, "error": "standard error over data"}
            numbers.append(Number(f"reconstruction/{name}", float(mean), float(error), unit, how))
        return numbers if judge is None else [*numbers, judge.number(codes.name)]


def quantities(field: Field) -> dict[str, tuple[str, str]]:
    """What is computed of such data: its name, what it is, and its unit."""
    if field.levels is None:
        return {"mse": ("mean square of a value's error, in the data's own units", "")}
    found = {
        "mse": ("mean square of a value's error, data in [-1, 1]", ""),
        "psnr": ("peak signal-to-noise ratio of each datum, range 2", "dB"),
    }
    if field.is_image and min(field.shape[1:]) >= WINDOW:
        found["ssim"] = (f"structural similarity, window {WINDOW}, sigma 1.5, range 1", "")
    return found


class Judge:
    """The features of data and of their reconstructions, as they pass by.

    Arguments:
        extractor: their network.
        count: how many data there will be.
    """

    def __init__(self, extractor: Extractor, count: int) -> None:
        if count <= extractor.dimension:
            raise UserError(
                f"metric.reconstruction.fid: on {extractor.dimension} features it needs at least "
                f"{extractor.dimension + 1} data, not {count}; choose metric.features=classifier on labelled data"
            )
        self.extractor = extractor.eval()
        self.device = next(extractor.parameters()).device
        kept = self.device if self.device.type == "cuda" else "cpu"
        self.sides = [Moments(extractor.dimension, kept) for _ in range(2)]

    def add(self, *sides: Tensor) -> None:
        """Images (B, C, H, W) in uint8, of data and of their reconstructions."""
        for moments, images in zip(self.sides, sides, strict=True):
            with torch.autocast(self.device.type, enabled=False), torch.no_grad():
                moments.add(self.extractor(images.to(self.device))[0])

    def number(self, name: str) -> Number:
        """The distance, over all processes."""
        data, decoded = (moments.all_merge().statistics() for moments in self.sides)
        how: How = {
            "is": "Frechet distance between data and their reconstructions",
            "features": self.extractor.name,
            **self.extractor.how,
            "n": data.count or 0,
            "data": name,
        }
        return Number(f"reconstruction/fid/{self.extractor.name}", frechet_distance(data, decoded), None, "", how)
