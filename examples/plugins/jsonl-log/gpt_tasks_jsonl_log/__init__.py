"""Log every run in JSON lines: in `events.jsonl` in its folder, or in the file that GPT_TASKS_LOG names."""

import json
import math
import os
import time
from pathlib import Path

from gpt_tasks import hookimpl

GPT_TASKS_HOOKS = 1


@hookimpl
def observe(event):
    file = os.environ.get("GPT_TASKS_LOG") or (event.run and event.run / "events.jsonl")
    if file is None:
        return
    values = {name: value if _is_json(value) else None for name, value in event.values.items()}
    about = {"command": event.command, "run": event.run and str(event.run), "event": event.kind, "step": event.step}
    artifacts = {"artifacts": [str(path) for path in event.artifacts]} if event.artifacts else {}
    line = {"time": round(time.time(), 3), **about, **values, **artifacts}
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    with Path(file).open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def _is_json(value):
    return not isinstance(value, float) or math.isfinite(value)
