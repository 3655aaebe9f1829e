"""Write the losses and figures of trainings for TensorBoard, into `logs/` of their folder, where it is installed."""

from __future__ import annotations

import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_tasks import Event, hookimpl

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_writers: dict[Path, SummaryWriter] = {}


@hookimpl
def observe(event: Event) -> None:
    """Write steps and evaluations as scalars, the configuration as a text; close the file when the run ends."""
    if event.run is None or event.command not in ("finetune", "pretrain") or find_spec("tensorboard") is None:
        return
    if event.kind == "run_ended":
        if event.run in _writers:
            _writers.pop(event.run).close()
        return
    if event.run not in _writers:
        from torch.utils.tensorboard import SummaryWriter

        _writers[event.run] = SummaryWriter(log_dir=str(event.run / "logs"))
    writer = _writers[event.run]
    if event.kind == "run_started":
        text = json.dumps(event.values, indent=2, ensure_ascii=False)
        writer.add_text("configuration", f"```json\n{text}\n```")
    prefix = "eval" if event.kind == "evaluated" else "train"
    for name, value in event.values.items() if event.kind in ("step", "evaluated") else ():
        if isinstance(value, int | float) and math.isfinite(value):
            writer.add_scalar(f"{prefix}/{name}", value, event.step)
