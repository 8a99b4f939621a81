"""The U-Net with its defaults is the published one: with equal weights it gives what diffusers gives."""

import re

import pytest
import torch
from torch import nn

from genlab.networks.unet import ResidualBlock, UNet

NAMES = [
    (r"time_embedding\.linear_1", "embedding.noise.1"),
    (r"time_embedding\.linear_2", "embedding.noise.3"),
    (r"conv_in", "first"),
    (r"conv_norm_out", "norm"),
    (r"conv_out", "last"),
    (r"(down|up)_blocks\.(\d)\.resnets\.(\d)", r"\1.\2.cells.\3.block"),
    (r"(down|up)_blocks\.(\d)\.attentions\.(\d)", r"\1.\2.cells.\3.attention"),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.coarser.layer"),
    (r"up_blocks\.(\d)\.upsamplers\.0", r"up.\1.finer.layer"),
    (r"mid_block\.resnets\.(\d)", r"middle.\1.block"),
    (r"mid_block\.attentions\.(\d)", r"middle.\1.attention"),
    (r"conv_shortcut", "shortcut"),
    (r"group_norm", "norm"),
    (r"to_out\.0", "out"),
]


def translated(theirs: nn.Module, ours: UNet) -> dict[str, torch.Tensor]:
    """The weights of diffusers' U-Net under our names, with what we hold in one piece put together."""
    state = {}
    for key, value in theirs.state_dict().items():
        for pattern, name in NAMES:
            key = re.sub(pattern, name, key)
        state[key] = value
    for kind in ("weight", "bias"):
        for key in [k for k in state if k.endswith(f"to_q.{kind}")]:
            stem = key.removesuffix(f"to_q.{kind}")
            state[f"{stem}queries_keys_values.{kind}"] = torch.cat([state.pop(f"{stem}to_{n}.{kind}") for n in "qkv"])
        blocks = [name for name, module in ours.named_modules() if isinstance(module, ResidualBlock)]
        state[f"modulation.{kind}"] = torch.cat([state.pop(f"{name}.time_emb_proj.{kind}") for name in blocks])
    return state


def test_the_network_of_ddpm_on_cifar10():
    diffusers = pytest.importorskip("diffusers")
    plain, attending = ("DownBlock2D", "AttnDownBlock2D")
    kinds = [plain, attending, plain, plain]
    torch.manual_seed(0)
    theirs = diffusers.UNet2DModel(
        sample_size=32,
        block_out_channels=(128, 256, 256, 256),
        down_block_types=kinds,
        up_block_types=[kind.replace("Down", "Up") for kind in reversed(kinds)],
        attention_head_dim=None,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
    ).eval()
    ours = UNet((3, 32, 32)).eval()
    ours.load_state_dict(translated(theirs, ours))
    x, noise = torch.randn(2, 3, 32, 32), torch.tensor([3, 977])
    with torch.no_grad():
        torch.testing.assert_close(ours(x, noise), theirs(x, noise).sample, rtol=1e-4, atol=1e-4)
