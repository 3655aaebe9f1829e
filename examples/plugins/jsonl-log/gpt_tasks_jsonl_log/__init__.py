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
    file = os.environ.get("GPT_TASKS_LOG") or event.run / "events.jsonl"
    values = {name: value if _is_json(value) else None for name, value in event.values.items()}
    line = {"time": round(time.time(), 3), "run": str(event.run), "event": event.kind, "step": event.step, **values}
    with Path(file).open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def _is_json(value):
    return not isinstance(value, float) or math.isfinite(value)
