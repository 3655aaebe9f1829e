"""Score a model on a task of lm-evaluation-harness, by the harness's own code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import UsageError
from gpt_tasks.events import observed
from gpt_tasks.files import machine_errors, write_json
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.processes import barrier, rank
from gpt_tasks.scoring.responder import find_responder
from gpt_tasks.scoring.score_folder import (
    file_name,
    refuse_others,
    report,
    score_folder,
    versions,
    working_in,
)

if TYPE_CHECKING:
    from gpt_tasks.scoring.results import Scores

HARNESS = "lm-eval:"


def score_harness(
    model: str,
    task: str,
    *,
    shots: int | None,
    limit: int | None,
    seed: int,
    output: str | Path | None,
    say: Callable[[str], None],
    **how: Any,
) -> tuple[Scores, Path]:
    """Score a model on a task of lm-evaluation-harness, by its own code; the folder holds the figures only."""
    from gpt_tasks.scoring.lm_eval import VERSION, harness_tasks, score_lm_eval
    from gpt_tasks.scoring.results import SCORES, Scores
    from gpt_tasks.scoring.scorer import open_scorer

    if find_responder(model) is not None:
        raise UsageError(
            f"--suite {HARNESS}{task}: lm-evaluation-harness evaluates a model on this machine, not {model}",
            "It has its own models for endpoints.",
        )
    folder = score_folder(output, f"{file_name(model)}-lm-eval-{Path(task).stem}")
    backbone, scorer = open_scorer(model, **how)
    settings = {
        "precision": scorer.precision,
        "device": str(scorer.device),
        "shots": shots,
        "limit": limit,
        "seed": seed,
    }
    name = f"{HARNESS}{task}"
    refuse_others(folder, {"model": backbone.fingerprint, "suite": name, **settings})
    configuration = {"model": model, "suite": name, "tasks": [task], **settings}
    with machine_errors(), observed(installed_plugins(), "score", folder, configuration) as observers:
        found = score_lm_eval(task, scorer, shots=shots, limit=limit, seed=seed, say=say)
        scores = Scores(
            suite={"name": name, "sha256": name},
            model={"spec": model, "fingerprint": backbone.fingerprint, "parameters": backbone.parameters},
            settings=settings,
            versions={**versions(), "lm_eval": VERSION},
            tasks=harness_tasks(found),
        )
        with working_in(folder):
            if rank() == 0:
                write_json(folder / SCORES, scores.to_json())
                report(observers, scores.tasks, [folder / SCORES])
            barrier()
    return scores, folder
