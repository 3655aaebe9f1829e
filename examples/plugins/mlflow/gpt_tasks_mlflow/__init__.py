"""Track runs with MLflow: in the files of `./mlruns`, or on the server that MLFLOW_TRACKING_URI names."""

import math
import os
import re

from gpt_tasks import hookimpl

GPT_TASKS_HOOKS = 1

_runs = {}


@hookimpl
def observe(event):
    client = _client()
    if event.kind == "run_started":
        experiment = client.get_experiment_by_name(event.command)
        number = experiment.experiment_id if experiment else client.create_experiment(event.command)
        _runs[event.run] = client.create_run(number, run_name=event.run and event.run.name).info.run_id
        for name, value in _flat(event.values):
            client.log_param(_runs[event.run], name, str(value)[:500])
    if event.kind in ("step", "evaluated", "run_ended"):
        part = {"step": "train", "evaluated": "eval", "run_ended": "final"}[event.kind]
        for name, value in _flat(event.values):
            if isinstance(value, int | float) and math.isfinite(value):
                client.log_metric(_runs[event.run], f"{part}/{name}", float(value), step=event.step)
    if event.kind == "run_ended":
        for path in event.artifacts:
            client.log_artifact(_runs[event.run], str(path))
        ended = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}[event.values["status"]]
        client.set_terminated(_runs.pop(event.run), ended)


def _client():
    # Here, so that commands which run nothing do not wait for it.
    from mlflow import MlflowClient

    # The file store needs no database; MLflow requires that it is chosen explicitly.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", "./mlruns"))


def _flat(values, prefix=""):
    for name, value in values.items():
        path = re.sub(r"[^\w./ -]", "_", f"{prefix}{name}")
        yield from _flat(value, f"{path}.") if isinstance(value, dict) else [(path, value)]
