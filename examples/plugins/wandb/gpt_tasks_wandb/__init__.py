"""Track runs with Weights & Biases: into `./wandb`, and to its server only where WANDB_MODE says `online`."""

import os

from gpt_tasks import hookimpl

GPT_TASKS_HOOKS = 1

_runs = {}


@hookimpl
def observe(event):
    if event.kind == "run_started":
        # Here, so that commands which run nothing do not wait for it.
        import wandb

        _runs[event.run] = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "gpt-tasks"),
            job_type=event.command,
            name=event.run and event.run.name,
            config=dict(event.values),
            mode=os.environ.get("WANDB_MODE", "offline"),
            reinit="create_new",
        )
    run = _runs[event.run]
    if event.kind in ("step", "evaluated"):
        part = "train" if event.kind == "step" else "eval"
        figures = {f"{part}/{name}": value for name, value in event.values.items()}
        run.log({**figures, "epoch": event.epoch}, step=event.step if event.step else None)
    if event.kind == "run_ended":
        run.summary.update(event.values)
        for path in event.artifacts:
            if path.is_file():
                run.save(str(path), base_path=str(path.parent), policy="now")
        run.finish(exit_code=0 if event.values["status"] == "finished" else 1)
        del _runs[event.run]
