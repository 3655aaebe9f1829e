"""The folder of a trained model: a language model that transformers opens, with its head and its task."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from gpt_tasks.backbone.folder import check_tensors
from gpt_tasks.backbone.hub import CONFIG
from gpt_tasks.backbone.isolation import OwnGenerator
from gpt_tasks.backbone.load import Backbone, open_backbone
from gpt_tasks.backbone.locate import Location
from gpt_tasks.backbone.quiet import quiet_transformers
from gpt_tasks.backbone.reference import ADAPTER, REFERENCE, Reference, recorded_method
from gpt_tasks.backbone.shared import SharedBackbones
from gpt_tasks.backbone.tensors import fill, in_stored_precision, moving, write_tensors
from gpt_tasks.errors import MachineError, ModelError, PluginError
from gpt_tasks.extensions import HeadSpec, Method
from gpt_tasks.files import give_usual_rights, machine_errors, write_json
from gpt_tasks.saved_json import checked, read_json
from gpt_tasks.signals import uninterrupted
from gpt_tasks.threads import LOADING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEAD = "head.safetensors"
METHOD = "method.safetensors"
TASK = "task.json"


class TaskRecord(BaseModel):
    """What task a saved model was trained for: `task.json`.

    `plugin` is the distribution that provides the task, `head` the kind of head (none where the model generates) and
    `outputs` the number of its logits, `state` what restores the task (its labels in order, its prompt), `method` the
    one whose weights are saved separately, where there is one, with its `method_options`; with `counts`, counted words
    answer beside the model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    plugin: str
    plugin_version: str
    head: str
    outputs: int
    state: Mapping[str, Any]
    method: str = ""
    method_options: Mapping[str, Any] = {}
    counts: bool = False


@dataclass(frozen=True)
class SavedModel:
    """What the folder of a trained model holds, loaded.

    `transformer` is the base model of the backbone, wrapped by its method where that is saved separately.
    """

    backbone: Backbone
    head: nn.Module | None
    record: TaskRecord
    transformer: nn.Module


def save_model(
    folder: Path,
    causal_lm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    head: nn.Module | None,
    record: TaskRecord,
    added: nn.Module | None = None,
    *,
    precision: torch.dtype = torch.float32,
    reference: Reference | None = None,
    adapter: Mapping[str, Tensor] | None = None,
    save_counts: Callable[[Path], None] | None = None,
) -> None:
    """Write a model so that `AutoModelForCausalLM` opens the folder, with its head and its task.

    The trained weights of `added`, the model as a method prepared it, are saved too. Weights that were read in the
    16-bit `precision`, and are still exact in it, are written in it. With a `reference` the folder refers to the
    backbone instead of holding it, and holds its `adapter`, if there is one. `save_counts` adds files of its own. The
    folder is written under another name and renamed when it is complete: whenever the process dies, `load_model` finds
    the old model or the new one. Raises MachineError where it cannot be written.
    """
    with quiet_transformers(), _replacing(folder) as new:
        if reference is None:
            _save_weights(causal_lm, new, precision)
        else:
            causal_lm.config.save_pretrained(new)
            if causal_lm.generation_config is not None:
                causal_lm.generation_config.save_pretrained(new)
            (new / REFERENCE).write_text(reference.model_dump_json(indent=2) + "\n", encoding="utf-8")
        tokenizer.save_pretrained(new)
        parts: dict[str, Mapping[str, Tensor]] = {ADAPTER: adapter} if adapter else {}
        parts |= {HEAD: head.state_dict()} if head is not None else {}
        parts |= {METHOD: moving(added)} if added is not None else {}
        for name, tensors in parts.items():
            write_tensors(new / name, tensors)
        if save_counts is not None:
            save_counts(new)
        (new / TASK).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        give_usual_rights(new)


def load_model(
    folder: Path,
    heads: Mapping[str, HeadSpec],
    methods: Mapping[str, Method] | None = None,
    shared: SharedBackbones | None = None,
) -> SavedModel:
    """Load what `save_model` wrote, in evaluation mode; a backbone that it refers to, from the `shared` ones.

    Raises ModelError naming the file that is missing, broken or does not fit the others, and PluginError where the
    plugin that provides the head, or the method, is not installed.
    """
    if not folder.exists() and _retired(folder).is_dir():
        folder = _retired(folder)
    if not folder.is_dir():
        raise ModelError(f"{folder}: there is no such folder", "Give the folder of a run that has ended.")
    record = checked(folder / TASK, read_json(folder / TASK), TaskRecord, "Copy the run again.")
    # What a method fills in, it fills in in place.
    shared = None if record.method else shared
    if not record.head:
        backbone = open_backbone(Location(str(folder), folder), shared=shared)
        return SavedModel(backbone, None, record, backbone.model.base_model)
    if record.head not in heads:
        raise PluginError(
            f"{folder / TASK}: task '{record.task}' needs the head '{record.head}', which no installed plugin provides",
            f"Install {record.plugin} {record.plugin_version}.",
        )
    if record.method and record.method not in (methods or {}):
        raise PluginError(
            f"{folder / TASK}: the run needs the method '{record.method}', which no installed plugin provides",
            "Install the plugin that it was trained with; gpt-tasks plugins lists the installed ones.",
        )
    check_tensors(folder / HEAD)
    backbone = open_backbone(Location(str(folder), folder), shared=shared)
    # What is drawn for new weights is filled over, and must not come from the generator by which another thread trains.
    with LOADING, OwnGenerator(torch.Generator()):
        head = heads[record.head].build(backbone.hidden_size, record.outputs)
        fill(head, head.state_dict(), folder / HEAD, "head")
        transformer: nn.Module = backbone.model.base_model
        if methods and record.method:
            check_tensors(folder / METHOD)
            method = recorded_method(methods[record.method], record.method_options, folder / TASK)
            transformer = method.prepare(transformer)
            fill(transformer, moving(transformer), folder / METHOD, "method")
    return SavedModel(backbone, head.eval(), record, transformer.eval())


def _save_weights(causal_lm: PreTrainedModel, folder: Path, precision: torch.dtype) -> None:
    with in_stored_precision(causal_lm, precision) as is_whole:
        causal_lm.save_pretrained(folder)
    if not is_whole:
        # transformers names the precision of the first weight, by which others would open the trained ones.
        file = folder / CONFIG
        write_json(file, {**read_json(file), "dtype": "float32"})


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Yield a new folder to write into; it replaces `folder` at the end, or is removed if anything fails."""
    new, old = folder.with_name(f".{folder.name}-new"), _retired(folder)
    try:
        with machine_errors():
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            yield new
            _flush(new)
            if folder.exists():
                shutil.rmtree(old, ignore_errors=True)
                folder.rename(old)
            new.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
    except MachineError as error:
        raise MachineError(f"{folder} cannot be written: {error.message}", error.hint) from error
    finally:
        with uninterrupted():
            shutil.rmtree(new, ignore_errors=True)


def _retired(folder: Path) -> Path:
    """The path of the old model while the new one replaces it."""
    return folder.with_name(f".{folder.name}-old")


def _flush(folder: Path) -> None:
    """Flush what was written to disk, so that the renaming cannot precede it when the power fails."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
