"""One piece of work in several processes on this machine, each with a device of its own.

This process starts them, waits, and takes no part: it joins no group, sets no rank, and is fit for the next job of a
sweep whatever became of this one. Where one process fails, the others are ended, and its error is raised here.
"""

import contextlib
import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch
import torch.distributed as dist

from genlab.core.errors import UserError
from genlab.runner.meeting import joined
from genlab.runner.place import OURS

# A failed process takes others with it; what it says counts, if it says it within this time.
GRACE = 2.0
# Processes that were asked to end, and do not, are killed after this time.
MERCY = 20.0


def run(work: Callable[..., None], arguments: tuple[Any, ...], count: int) -> None:
    """`work(*arguments)` in each of `count` new processes, which have met; returns when all are done.

    Ctrl-C and SIGTERM are passed on as SIGTERM, which work may heed; a second one ends everything at once.

    Raises:
        KeyboardInterrupt: the user stopped it.
        Exception: that of a process, a UserError first, with its traceback in a note.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    payload = pickle.dumps((multiprocessing.get_start_method(allow_none=True), work, arguments))
    threads = max(1, torch.get_num_threads() // count)
    team = Team()
    with team.signals_passed_on():
        team.start([(rank, count, store.port, threads, payload) for rank in range(count)])
        events = team.failures()
    _judge(events, team.asked)


@dataclass(frozen=True)
class Event:
    """How a process failed.

    Arguments:
        rank: of the process.
        error: what it raised.
        trace: where.
    """

    rank: int
    error: BaseException
    trace: str = ""


class Ended(RuntimeError):
    """A process ended and said nothing."""


def _judge(events: list[Event], asked: int) -> None:
    """Raise what is to be raised: what a user can mend before a bug, and what others suffered from it last."""
    mistakes = [event for event in events if isinstance(event.error, UserError)]
    if asked and not mistakes:
        raise KeyboardInterrupt
    for event in mistakes or events:
        event.error.add_note(f"in process {event.rank}:\n{event.trace}")
        raise event.error


class Team:
    """Processes that stand and fall together."""

    def __init__(self) -> None:
        self.processes: list[SpawnProcess] = []
        self.pipes: list[Connection] = []
        self.asked = 0

    @contextmanager
    def signals_passed_on(self) -> Iterator[None]:
        before = {}
        with contextlib.suppress(ValueError):  # not in the main thread, where no signal comes
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, self._pass_on)
        try:
            yield
        finally:
            for process in self.processes:
                if process.is_alive():
                    process.kill()
                process.join()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass_on(self, number: int, frame: object) -> None:
        self.asked += 1
        for process in self.processes:
            if self.asked == 1:
                process.terminate()
            else:
                process.kill()

    def start(self, works: list[tuple[Any, ...]]) -> None:
        context = multiprocessing.get_context("spawn")
        # A terminal's Ctrl-C reaches all processes; these leave it to the one that started them.
        with _ignored(signal.SIGINT):
            for work in works:
                here, there = context.Pipe(duplex=False)
                process = context.Process(target=_member, args=(there, *work), name=f"genlab-{work[0]}")
                process.start()
                there.close()
                self.processes.append(process)
                self.pipes.append(here)

    def failures(self) -> list[Event]:
        """How processes failed, in the order in which they did; nothing where all is well. Waits for all to end.

        After the first failure the others have a moment to say why they fail, too.
        """
        events: list[Event] = []
        running = {pipe: rank for rank, pipe in enumerate(self.pipes)}
        failed: set[int] = set()
        deadline = math.inf
        while running and time.monotonic() < deadline:
            for pipe in wait(list(running), timeout=0.5):
                assert isinstance(pipe, Connection)
                rank = running[pipe]
                try:
                    events.append(pipe.recv())
                    failed.add(rank)
                except EOFError:
                    del running[pipe]
                    self.processes[rank].join()
                    code = self.processes[rank].exitcode or 0
                    if code and rank not in failed:
                        events.append(Event(rank, self._death(rank, code)))
            if events and deadline == math.inf:
                deadline = time.monotonic() + (MERCY if self.asked else GRACE)
        return events

    def _death(self, rank: int, code: int) -> BaseException:
        who = f"process {rank} of {len(self.processes)}"
        if code == -signal.SIGKILL:
            return UserError(f"{who} was killed; is there too little memory?")
        return Ended(f"{who} ended with {signal.Signals(-code).name if code < 0 else f'status {code}'}")


@contextmanager
def _ignored(number: int) -> Iterator[None]:
    try:
        before = signal.signal(number, signal.SIG_IGN)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(number, before)


def _member(report: Connection, rank: int, count: int, port: int, threads: int, payload: bytes) -> None:
    """The life of one process, from torchrun's words to its report."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        GROUP_RANK="0",
        WORLD_SIZE=str(count),
        LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID=OURS,
        TORCHELASTIC_RESTART_COUNT="0",
        TORCHELASTIC_USE_AGENT_STORE="True",
    )
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    # As in the process that started this one.
    warnings.filterwarnings("ignore", module=r"(lightning|torch)\b.*")
    failure = None
    try:
        # Only now, since some modules look at the rank when they are imported.
        method, work, arguments = pickle.loads(payload)
        # Processes that load data are started as anywhere else, and not as this one was.
        multiprocessing.set_start_method(method, force=True)
        with joined():
            work(*arguments)
    except BaseException as error:
        failure = Event(rank, _sendable(error), traceback.format_exc())
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if failure is not None:
        report.send(failure)
        # No ends are tied up, some of which would wait for the others.
        os._exit(1)


def _sendable(error: BaseException) -> BaseException:
    """The error itself, or its name and message where it cannot be sent."""
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return Ended(f"stopped by {type(error).__name__}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
