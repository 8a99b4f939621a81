"""How the C library treats memory that tensors have given back."""

import ctypes
from contextlib import suppress

# mallopt's numbers for its options, and what they are set to, in bytes.
KEPT = {"M_MMAP_THRESHOLD": (-3, 2**25), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 2**27)}


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for what comes next, where there is a glibc.

    On a CPU each layer's output is memory that comes and goes in every step. Given back to the system and asked for
    again, every page of it is cleared anew, which takes up to a tenth of a step.
    """
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in KEPT.values():
            mallopt(option, value)
