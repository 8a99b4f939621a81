"""Attention over the pixels of a feature map, and from them to the tokens of a condition.

    out = x + W softmax(Q K^T / sqrt(d)) V,    Q from norm(x);  K and V from norm(x), or from the context

References:
    Attention Is All You Need (Vaswani et al., 2017).
    Denoising Diffusion Probabilistic Models (Ho, Jain & Abbeel, 2020).
    High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), section 3.3.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from genlab.core.errors import UserError
from genlab.networks.layers import GroupNorm, linear, variance_scaling_


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int, causal: bool = False) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V in so many heads.

    Arguments:
        queries: (B, N, C).
        keys, values: (B, L, C).
        causal: the n-th query attends to the first n keys alone.

    Returns:
        (B, N, C).
    """
    q, k, v = (t.unflatten(2, (heads, -1)).transpose(1, 2) for t in (queries, keys, values))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)


def head_count(channels: int, heads: int, head_width: int | None) -> int:
    """The number of heads: as asked for, or channels / head_width where that is given."""
    count = heads if head_width is None else max(1, channels // head_width)
    if channels % count:
        asked = f"network.heads={heads}" if head_width is None else f"network.head_width={head_width}"
        raise UserError(f"{asked} does not divide the {channels} channels that attention has")
    return count


class SelfAttention(nn.Module):
    """Each pixel attends to all pixels of its feature map; starts as the identity.

    Arguments:
        channels: C.
        heads: how many, each C / heads wide.
        groups: of the normalisation, at most.
        rescale: divide the sum by sqrt(2), so that its variance stays.
    """

    def __init__(self, channels: int, heads: int = 1, groups: int = 32, rescale: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.gain = math.sqrt(0.5) if rescale else 1.0
        self.norm = GroupNorm(channels, groups)
        self.queries_keys_values = linear(channels, 3 * channels)
        for weight in self.queries_keys_values.weight.split(channels):
            variance_scaling_(weight)
        self.out = linear(channels, channels, scale=0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same; copies nothing where x is channels-last."""
        pixels = self.norm(x).permute(0, 2, 3, 1).flatten(1, 2)
        queries, keys, values = self.queries_keys_values(pixels).chunk(3, dim=2)
        attended = attend(queries, keys, values, self.heads)
        sum_ = x + self.out(attended).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
        return sum_ if self.gain == 1 else self.gain * sum_


class CrossAttention(nn.Module):
    """Each pixel attends to the tokens of a context; starts as the identity.

    Arguments:
        channels: C.
        context: the width of a token.
        heads: how many, each C / heads wide.
        groups: of the normalisation, at most.
        rescale: divide the sum by sqrt(2), so that its variance stays.
    """

    def __init__(self, channels: int, context: int, heads: int = 1, groups: int = 32, rescale: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.gain = math.sqrt(0.5) if rescale else 1.0
        self.norm = GroupNorm(channels, groups)
        self.queries = linear(channels, channels)
        self.keys_values = linear(context, 2 * channels)
        for weight in self.keys_values.weight.split(channels):
            variance_scaling_(weight)
        self.out = linear(channels, channels, scale=0)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, C, H, W) and context (B, L, context) to (B, C, H, W)."""
        pixels = self.norm(x).permute(0, 2, 3, 1).flatten(1, 2)
        keys, values = self.keys_values(context).chunk(2, dim=2)
        attended = attend(self.queries(pixels), keys, values, self.heads)
        sum_ = x + self.out(attended).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
        return sum_ if self.gain == 1 else self.gain * sum_
