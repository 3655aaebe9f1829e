"""What a training shows while it runs, and what observers get of it."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gpt_tasks.events import Observers
from gpt_tasks.processes import rank
from gpt_tasks.progress import duration
from gpt_tasks.shown import tell
from gpt_tasks.types import EventKind

LINE_SECONDS = 60.0


class ProgressBar(TrainerCallback):
    """Loss, last validation figure and time left on stderr: a bar, or where that is no terminal a line an epoch.

    Of long epochs there is a line every minute.
    """

    def __init__(self, best_by: str) -> None:
        self.best_by = best_by
        self.figures: dict[str, str] = {}
        self.lines = rank() == 0 and not sys.stderr.isatty()
        self.began = self.said = 0.0
        self.began_at = 0
        self.progress = Progress(
            TextColumn("[bold]training[/]"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty() or rank() != 0,
            transient=True,
        )

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Show the bar, at the resumed step."""
        self.began = self.said = time.monotonic()
        self.began_at = state.global_step
        self.progress.start()
        self.bar = self.progress.add_task("", total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Move the bar."""
        self.progress.update(self.bar, completed=state.global_step)
        if time.monotonic() - self.said > LINE_SECONDS:
            self._say(state)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Say how far it is."""
        self._say(state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Show the newest loss and validation figure."""
        for key, name in (("loss", "loss"), (f"eval_{self.best_by}", f"validation {self.best_by}")):
            if logs and key in logs:
                self.figures[name] = f"{name} {logs[key]:.3f}"
        self.progress.update(self.bar, description="  ".join(self.figures.values()))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Take the bar away."""
        self.stop()

    def _say(self, state: TrainerState) -> None:
        self.said = time.monotonic()
        if self.lines:
            left = (self.said - self.began) / max(1, state.global_step - self.began_at)
            left *= state.max_steps - state.global_step
            place = f"epoch {state.epoch or 0.0:.1f} of {state.num_train_epochs}, update {state.global_step:,}"
            figures = "".join(f", {figure}" for figure in self.figures.values())
            tell(f"{place} of {state.max_steps:,}{figures}, {duration(left)} left")

    def stop(self) -> None:
        """Give the terminal back, also when training ends by an error."""
        self.progress.stop()


class ObserverCallback(TrainerCallback):
    """Sends the Trainer's steps, evaluations and checkpoints to observers."""

    def __init__(self, observers: Observers) -> None:
        self.observers = observers

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Send a step, or an evaluation."""
        logs = logs or {}
        evaluated = any(key.startswith("eval_") for key in logs)
        if evaluated or "loss" in logs:
            values = {key.removeprefix("eval_"): value for key, value in logs.items() if key != "epoch"}
            kind: EventKind = "evaluated" if evaluated else "step"
            self.observers.send(kind, values, state.global_step, state.epoch or 0.0)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Send a checkpoint."""
        self.observers.send("saved", {}, state.global_step, state.epoch or 0.0)
