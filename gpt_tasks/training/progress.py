"""What a training shows while it runs, and what observers are told of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback, is_tensorboard_available

from gpt_tasks.plugins import Plugins
from gpt_tasks.processes import rank
from gpt_tasks.types import Event, EventKind


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


class Observers(TrainerCallback):
    """Tells the plugins' `observe` hooks what happens; on several processes only the first does."""

    def __init__(self, plugins: Plugins, run: Path) -> None:
        self.plugins = plugins
        self.run = run
        self.listening = dict(plugins.observers) if rank() == 0 else {}

    def tell(self, event: Event) -> None:
        """Tell every observer that has not failed in this run."""
        self.plugins.notify(self.listening, event)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Tell of a step, or of an evaluation."""
        logs = logs or {}
        evaluated = any(key.startswith("eval_") for key in logs)
        if evaluated or "loss" in logs:
            values = {key.removeprefix("eval_"): value for key, value in logs.items() if key != "epoch"}
            kind: EventKind = "evaluated" if evaluated else "step"
            self.tell(Event(kind, self.run, state.global_step, state.epoch or 0.0, values))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell of a checkpoint."""
        self.tell(Event("saved", self.run, state.global_step, state.epoch or 0.0))


def tensorboard(logs: Path) -> list[TrainerCallback]:
    """Return the Trainer's TensorBoard callback, writing into `logs`, where TensorBoard is installed."""
    if rank() != 0 or not is_tensorboard_available():
        return []
    from torch.utils.tensorboard import SummaryWriter

    return [TensorBoardCallback(SummaryWriter(log_dir=str(logs)))]
