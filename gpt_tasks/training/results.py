"""What a fine-tuning leaves in its folder: the model, its report and its card."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from gpt_tasks.backbone.adapter import write_adapter
from gpt_tasks.backbone.hub import HUB_ID
from gpt_tasks.backbone.reference import REFERENCE, Reference, reference_to
from gpt_tasks.backbone.tensors import moving, stored_precision
from gpt_tasks.backbone.verify import CHECKSUMS, checksums_of
from gpt_tasks.checksums import checksums
from gpt_tasks.data.leaks import TRAINED_ROWS, load_trained, save_trained
from gpt_tasks.evaluation.card import model_card
from gpt_tasks.evaluation.evaluate import evaluate
from gpt_tasks.evaluation.report import Report
from gpt_tasks.extensions import Method
from gpt_tasks.files import atomic_write
from gpt_tasks.heads.saved import TaskRecord, save_model
from gpt_tasks.signals import uninterrupted

if TYPE_CHECKING:
    from gpt_tasks.training.session import Session


def close(session: Session, seconds: float) -> Report:
    """Leave model, report and card in the folder, and mark the run, of so many seconds, as finished."""
    session.training["total_seconds"] = round(seconds, 3)
    report = finish(session)
    _write_card(session, report)
    record = session.record()
    if session.config.private:
        record["fingerprints"]["data"] = ""
    else:
        trained = load_trained(session.backbone.location.folder)
        save_trained(session.folder.path / TRAINED_ROWS, session.splits.train.keys, trained)
    session.folder.write({**record, CHECKSUMS: checksums_of(session.folder.path)}, "finished")
    # Only now: until the run is marked as finished, it resumes from its checkpoints.
    with uninterrupted():
        shutil.rmtree(session.folder.checkpoints, ignore_errors=True)
    return report


def finish(session: Session) -> Report:
    """Calibrate on the validation split, save the model, and report it alongside the baselines."""
    assert session.validation is not None
    if session.settings.counts:
        session.note(session.learner.fit_counts(session.splits.train))
    session.learner = session.learner.calibrated_on(session.splits.validation, session.validation)
    session.training |= session.learner.count_figures()
    session.learner.fit_baselines(session.splits.train, session.splits.validation)
    if not (session.config.private and session.learner.baselines_hold_texts):
        session.learner.save_baselines(session.folder.baselines)
    save(session)
    return evaluate(
        session.learner,
        session.splits.test,
        split="test",
        metrics=session.learner.report_metrics(session.metrics),
        training=session.training,
        notes=session.splits.notes,
        output=session.folder.path,
        private=session.config.private,
        show_progress=True,
    )


def save(session: Session) -> None:
    """Save the model, as the method leaves it, with its head and the task."""
    model, method, config = session.learner.model, session.method, session.config
    # Before what is trained becomes part of the backbone.
    by_reference, location = config.backbone_by_reference, session.backbone.location
    reference = keep_adapter(session) if method.adapter and (by_reference or config.keep_adapter) else None
    apart = by_reference and not (method.saved_separately or method.frozen or method.adapter)
    adapter = moving(model.backbone) if apart else {}
    if by_reference and reference is None:
        reference = _reference(session, method if apart else None)
    model.backbone = method.finish(model.backbone)
    plugin = session.plugin
    task = session.task.private() if session.config.private else session.task
    record = TaskRecord(
        task=task.name,
        plugin=plugin.distribution,
        plugin_version=plugin.version,
        head=session.head.name if session.head else "",
        outputs=session.learner.outputs,
        state=task.state(),
        method=method.name if method.saved_separately else "",
        method_options=session.settings.method_options if method.saved_separately else {},
        counts=session.settings.counts,
    )
    save_model(
        session.folder.model,
        session.backbone.model,
        session.backbone.tokenizer,
        model.head if session.head else None,
        record,
        added=model.backbone if method.saved_separately else None,
        precision=stored_precision(location.folder),
        reference=reference if by_reference else None,
        adapter=adapter,
        save_counts=session.learner.save_counts if record.counts else None,
    )


def keep_adapter(session: Session) -> Reference:
    """Write what was trained as an adapter in peft's layout, and return the reference by which a model is opened so.

    It has a reference of its own, with the checksums of its base model.
    """
    folder, backbone = session.folder.adapter, session.backbone
    reference = _reference(session)
    presets = session.plugins.registry.backbones
    place, revision = reference.place, None
    of_hub = HUB_ID.fullmatch(place) if backbone.location.commit else None
    if of_hub:
        place, revision = of_hub["repo"], of_hub["revision"]
    elif place in presets and not session.config.private:
        # So that peft, which knows no presets, opens it as well.
        place = str(backbone.location.gguf or backbone.location.folder)
    adapted = session.learner.model.backbone
    tokenizer = backbone.tokenizer if session.added_tokens or session.head is None else None
    write_adapter(folder, adapted, backbone.model, tokenizer, base=place, revision=revision)
    (folder / REFERENCE).write_text(reference.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return Reference(place=f"../{folder.name}", checksums=checksums(folder))


def _reference(session: Session, method: Method | None = None) -> Reference:
    """Return the reference to the backbone of a training, to which `method` adds what is stored beside it."""
    return reference_to(
        session.backbone.location,
        session.plugins.registry.backbones,
        tokens=session.added_tokens,
        method=method,
        options=session.settings.method_options if method else {},
    )


def _write_card(session: Session, report: Report) -> None:
    config = session.config.recorded()
    card = model_card(
        report,
        task=session.task,
        run=session.folder.path.name,
        backbone=config["backbone"],
        method=session.config.method,
        rows=session.rows(),
        settings=session.settings.as_json(),
        data=config["data"] or "the task's embedded samples",
        fields=session.splits.train.fields,
        plots=sorted(plot.name for plot in session.folder.path.glob("*.png")),
        referred=_reference(session).place if session.config.backbone_by_reference else "",
        adapter=session.folder.adapter.name if session.folder.adapter.exists() else "",
    )
    with atomic_write(session.folder.path / "README.md") as file:
        file.write(card)
