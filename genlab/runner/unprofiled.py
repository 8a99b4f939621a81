"""Lightning's profiler, absent: it brackets some 80 places of each step, also where nobody asked for a profile."""

from contextlib import AbstractContextManager, nullcontext

from lightning.pytorch.profilers import PassThroughProfiler

NOTHING: AbstractContextManager[None] = nullcontext()


class Unprofiled(PassThroughProfiler):
    """Measures nothing, and takes no time for it."""

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return NOTHING
