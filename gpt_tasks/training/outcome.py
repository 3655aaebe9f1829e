"""What a training leaves in the run folder: the model, the baselines, the report and the card."""

from __future__ import annotations

import shutil

from gpt_tasks.evaluation.baselines import fit_baselines
from gpt_tasks.evaluation.card import model_card
from gpt_tasks.evaluation.evaluate import evaluate_examples, plain_texts
from gpt_tasks.evaluation.predictor import Predictor
from gpt_tasks.files import writing
from gpt_tasks.heads.model import TaskRecord, save_model
from gpt_tasks.training.session import Session
from gpt_tasks.types import Event


def finish(session: Session, seconds: float) -> None:
    """Save the trained model, evaluate it on the test split, and mark the run, of so many seconds, as finished."""
    folder, task, splits, settings = session.folder, session.task, session.splits, session.settings
    session.model.backbone = session.method.finish(session.model.backbone)
    save_model(
        folder.model, session.backbone.model, session.backbone.tokenizer, session.model.head, _task_record(session)
    )
    baselines = fit_baselines(
        plain_texts(splits.train),
        splits.train.labels,
        plain_texts(splits.validation),
        splits.validation.labels,
        len(task.labels),
        seed=settings.seed,
    )
    baselines.save(folder.baselines)
    report = evaluate_examples(
        Predictor(
            task,
            session.model,
            session.backbone.tokenizer,
            settings.max_length,
            settings.batch_tokens,
            settings.precision,
        ),
        splits.test,
        split="test",
        metrics=session.metrics,
        baselines=baselines,
        training={**session.training, "total_seconds": round(seconds, 3)},
        notes=(*splits.notes, *baselines.notes),
        output=folder.path,
    )
    card = model_card(
        report,
        run=folder.path.name,
        backbone=session.config.backbone,
        method=session.method.name,
        rows=session.rows(),
        settings=settings.as_json(),
        data=session.config.data or "the task's embedded samples",
        fields=splits.train.fields,
        plots=sorted(plot.name for plot in folder.path.glob("*.png")),
    )
    with writing(folder.path / "README.md") as file:
        file.write(card)
    folder.write(session.record(), "finished")
    # Only now: until the run is marked as finished, its checkpoints are what it goes on from.
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    scores = {name: score.value for name, score in report.metrics.items()}
    session.observers.tell(Event("run_ended", folder.path, values={"status": "finished", **scores}))


def _task_record(session: Session) -> TaskRecord:
    plugin = session.plugins.find(session.plugins.registry.tasks.owner(session.task.name))
    return TaskRecord(
        task=session.task.name,
        plugin=plugin.distribution,
        plugin_version=plugin.version,
        head=session.head.name,
        outputs=len(session.task.labels),
        state=session.task.state(),
    )
