"""What a training shows while it runs, and what observers get of it."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gpt_tasks.events import Observers
from gpt_tasks.processes import rank
from gpt_tasks.types import EventKind


class ProgressBar(TrainerCallback):
    """A bar on stderr with loss, last validation figure and time left; silent where stderr is no terminal."""

    def __init__(self, best_by: str) -> None:
        self.best_by = best_by
        self.figures: dict[str, str] = {}
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
        self.progress.start()
        self.bar = self.progress.add_task("", total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Move the bar."""
        self.progress.update(self.bar, completed=state.global_step)

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
