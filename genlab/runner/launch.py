"""From the words of a command line to a composed config and a task, and from what went wrong to one line.

What is raised outside a task is a mistake in what was asked. Inside it only `UserError` is, and a disk that is full or
may not be written to; anything else is a bug and keeps its traceback.
"""

import errno
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from genlab.core.errors import Interrupted, UserError
from genlab.core.memory import keep_freed_memory
from genlab.runner.arguments import Words, prepared, quoted, split
from genlab.runner.compose import run_folder, task_overrides, typed_names
from genlab.runner.configs import config_folder, extra_folder, fail
from genlab.runner.folders import OUTPUTS, forget_empty, forget_sweeps
from genlab.runner.mistakes import explain
from genlab.runner.place import leads
from genlab.runner.schema import register

INTERRUPTED = 130
# Of the system, when a file cannot be written.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


class JobFailed(Exception):
    """A job that another process does for a sweep ended with a user's mistake; the other jobs go on."""


class Stopped(KeyboardInterrupt):
    """The user stopped a job, which has said so; with it the sweep ends."""


def launch(command: str, arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    keep_freed_memory()
    with ExitStack() as stack:
        stack.enter_context(as_found())
        try:
            words = split(arguments)
            check_config_folder(extra_folder(arguments))
            told = prepared(command, words) + folders(command, words, stack)
        except UserError as error:
            return mistake(error)
        return Launch(command, words.sweep)(told)


@contextmanager
def as_found() -> Iterator[None]:
    """Leave what Hydra reads and changes of this process as it was."""
    arguments, full, on_interrupt = sys.argv, os.environ.get("HYDRA_FULL_ERROR"), signal.getsignal(signal.SIGINT)
    # Hydra then raises what went wrong instead of printing it, and one place turns it into a line for the user.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with warnings.catch_warnings():
            # Said by libraries to programmers; none of it is about what the user asked for.
            warnings.filterwarnings("ignore", module=r"(lightning|torch|hydra|omegaconf)\b.*")
            yield
    finally:
        sys.argv = arguments
        with suppress(ValueError):  # not in the main thread, where no signal comes
            signal.signal(signal.SIGINT, on_interrupt)
        GlobalHydra.instance().clear()
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]


def check_config_folder(folder: Path | None) -> None:
    """A user's own folder of configs may add files, and not replace shipped ones, which Hydra would go on using."""
    if folder is None:
        return
    if not folder.is_dir():
        raise UserError(f"--config-dir: there is no folder {folder}")
    for path in folder.rglob("*.yaml"):
        relative = path.relative_to(folder)
        if (config_folder() / relative).exists():
            raise UserError(f"--config-dir: {relative} has the name of a shipped config; give it another name")


def folders(command: str, words: Words, stack: ExitStack) -> list[str]:
    """Where Hydra is told to make folders, beside what the configs say."""
    if not leads():
        # The first process makes the folder of a run, and tells the others.
        nowhere = quoted(stack.enter_context(tempfile.TemporaryDirectory()))
        return [f"hydra.run.dir={nowhere}", f"hydra.sweep.dir={nowhere}"]
    resume = words.value("resume")
    if resume is not None:
        if words.sweep:
            raise UserError("resume: one run is continued at a time; leave -m out")
        if not resume:
            raise UserError("resume is empty: name a run folder or a checkpoint file")
        from genlab.runner.checkpoint import resolve, run_of

        try:
            checkpoint = resolve(resume)
        except UserError as error:
            raise UserError(f"resume={error}") from error
        if checkpoint.parent.name == "checkpoints" and not words.names("hydra.run.dir"):
            return [f"hydra.run.dir={quoted(str(run_of(checkpoint)))}"]
    if words.sweep and command != "train" and not words.names("hydra.sweep.dir"):
        # What such jobs write goes beside the run; Hydra's own record of the sweep is of no use to anyone.
        return [f"hydra.sweep.dir={quoted(stack.enter_context(tempfile.TemporaryDirectory()))}"]
    return []


def task(command: str) -> Callable[[DictConfig], None]:
    """The command's function, imported late since some bring torch and lightning with them."""
    if command == "train":
        from genlab.runner.train import train

        return train
    if command == "sample":
        from genlab.runner.sample import sample

        return sample
    from genlab.runner.evaluate import evaluate

    return evaluate


def mistake(error: BaseException, message: str | None = None) -> int:
    """One line, with the traceback before it where the user asks for it."""
    if os.environ.get("GENLAB_DEBUG") == "1":
        traceback.print_exception(error)
    return fail(str(error) if message is None else message)


class Launch:
    """One command, of one job or of a sweep over several.

    Arguments:
        sweep: whether lines before, and after, the jobs tell them apart.
    """

    def __init__(self, command: str, sweep: bool) -> None:
        self.command, self.sweep = command, sweep and leads()
        self.process = os.getpid()
        self.statuses: list[int] = []
        self.bugs: list[BaseException] = []
        self.sweep_folder: Path | None = None

    def __call__(self, told: list[str]) -> int:
        """Compose, run, and return the exit status."""
        register()
        there = set(OUTPUTS.glob("*")) if OUTPUTS.exists() else None
        sys.argv = ["genlab", *told]
        try:
            hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=self.command)(self.job)()
        except JobFailed:
            # In another process, which has said why.
            self.statuses.append(2)
        except Stopped:
            self.statuses.append(INTERRUPTED)
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else 2
        except (HydraException, OmegaConfBaseException, YAMLError, OSError, ValueError) as error:
            if error in self.bugs:
                raise
            return mistake(error, explain(error))
        finally:
            self.closing_line()
            forget_sweeps(there)
        return max(self.statuses, default=0)

    def job(self, config: DictConfig) -> None:
        """Run the task; what the user can mend is a line, and the job of a sweep then ends alone."""
        if HydraConfig.get().mode == RunMode.MULTIRUN and leads():
            self.opening_line()
        try:
            task(self.command)(config)
            self.statuses.append(0)
            return
        except Interrupted as error:
            print(f"genlab: {error}", file=sys.stderr)
            raise Stopped from error
        except UserError as error:
            self.statuses.append(mistake(error, in_options_words(str(error), config)))
        except OmegaConfBaseException as error:
            self.statuses.append(mistake(error, explain(error)))
        except SystemExit as error:
            # How Lightning ends where it is interrupted.
            raise KeyboardInterrupt from error
        except OSError as error:
            if error.errno not in UNWRITABLE:
                self.bugs.append(error)
                raise
            what = error.filename or "a file"
            self.statuses.append(mistake(error, f"{what} could not be written: {error.strerror}"))
        except Exception as error:
            self.bugs.append(error)
            raise
        finally:
            if self.command == "train":
                forget_empty(run_folder())
        if os.getpid() != self.process:
            raise JobFailed

    def opening_line(self) -> None:
        """Which job of the sweep begins, and where it writes."""
        found = HydraConfig.get()
        line = f"job {found.job.num}: {' '.join(override.lstrip('+') for override in task_overrides())}"
        if self.command == "train":
            self.sweep_folder = Path(found.sweep.dir)
            line += f", into {run_folder()}"
        print(line, file=sys.stderr, flush=True)

    def closing_line(self) -> None:
        """How many jobs of the sweep are done."""
        if not self.sweep or not self.statuses:
            return
        done, count = self.statuses.count(0), len(self.statuses)
        where = f", in {self.sweep_folder}" if self.sweep_folder is not None else ""
        print(f"sweep: {done} of {count} jobs done{where}", file=sys.stderr)


def in_options_words(message: str, config: DictConfig) -> str:
    """A message about model.network.width, say, as one about network.width, which is what the user can set."""
    for place, name in typed_names(config).items():
        message = message.replace(f"{place}.", f"{name}.").replace(f"{place}:", f"{name}:")
    return message
