"""What `observe` hooks get: the events of a training, a scoring or an evaluation, from its start to its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpt_tasks.errors import Terminated
from gpt_tasks.files import json_safe
from gpt_tasks.plugins import Plugins
from gpt_tasks.processes import rank
from gpt_tasks.types import Command, Event, EventKind


class Observers:
    """The plugins' `observe` hooks in one run of a command; on several processes only those of the first are called.

    One that raises is reported, and left out for the rest of the run. `run` is the folder, None where there is none.
    """

    def __init__(self, plugins: Plugins, command: Command, run: Path | None) -> None:
        self.plugins = plugins
        self.command: Command = command
        self.run = run
        self.listening = dict(plugins.observers) if rank() == 0 else {}
        self._figures: Mapping[str, Any] = {}
        self._artifacts: Sequence[Path] = ()

    def send(self, kind: EventKind, values: Mapping[str, Any], step: int = 0, epoch: float = 0.0) -> None:
        """Send an event to each observer."""
        self.plugins.notify(self.listening, Event(kind, self.run, step, epoch, values, self.command))

    def finish(self, figures: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        """Record the results: figures by name, and the files and folders that it leaves."""
        self._figures, self._artifacts = figures, artifacts

    def end(self, status: str) -> None:
        """Send the last event: its status is "finished", "interrupted" or "failed"."""
        values = {"status": status, **self._figures}
        artifacts = tuple(path for path in self._artifacts if path.exists())
        self.plugins.notify(self.listening, Event("run_ended", self.run, 0, 0.0, values, self.command, artifacts))


@contextmanager
def observed(
    plugins: Plugins, command: Command, run: Path | None, configuration: Mapping[str, Any]
) -> Iterator[Observers]:
    """Send the first event, with the whole configuration as JSON values, and the last one, however it ends."""
    observers = Observers(plugins, command, run)
    observers.send("run_started", json_safe(configuration))
    try:
        yield observers
    except BaseException as error:
        observers.end("interrupted" if isinstance(error, KeyboardInterrupt | Terminated) else "failed")
        raise
    observers.end("finished")
