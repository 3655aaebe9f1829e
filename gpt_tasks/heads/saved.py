"""The folder of a trained model: a language model that transformers opens, with its head and its task."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from gpt_tasks.backbone.folder import check_tensors
from gpt_tasks.backbone.isolation import OwnGenerator
from gpt_tasks.backbone.load import Backbone, Location, open_backbone
from gpt_tasks.backbone.quiet import quiet_transformers
from gpt_tasks.errors import MachineError, ModelError, PluginError
from gpt_tasks.extensions import HeadSpec, Method
from gpt_tasks.files import give_usual_rights, machine_errors
from gpt_tasks.saved_json import checked, read_json
from gpt_tasks.signals import uninterrupted
from gpt_tasks.threads import LOADING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEAD = "head.safetensors"
METHOD = "method.safetensors"
TASK = "task.json"


class TaskRecord(BaseModel):
    """What task a saved model was trained for: `task.json`.

    `plugin` is the distribution that provides the task, `head` the kind of head (none where the model generates) and
    `outputs` the number of its logits, `state` what restores the task (its labels in order, its prompt), `method` the
    one whose weights are saved separately, where there is one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    plugin: str
    plugin_version: str
    head: str
    outputs: int
    state: Mapping[str, Any]
    method: str = ""


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
) -> None:
    """Write a model so that `AutoModelForCausalLM` opens the folder, with its head and its task.

    The trained weights of `added`, the model as a method prepared it, are saved too. The folder is written under
    another name and renamed when it is complete: whenever the process dies, `load_model` finds the old model or the new
    one. Raises MachineError where it cannot be written.
    """
    from safetensors.torch import save_file

    with quiet_transformers(), _replacing(folder) as new:
        causal_lm.save_pretrained(new)
        tokenizer.save_pretrained(new)
        beside = [(HEAD, head.state_dict())] if head is not None else []
        beside += [(METHOD, _moving(added))] if added is not None else []
        for name, tensors in beside:
            state = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            save_file(state, new / name, metadata={"format": "pt"})
        (new / TASK).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        give_usual_rights(new)


def load_model(folder: Path, heads: Mapping[str, HeadSpec], methods: Mapping[str, Method] | None = None) -> SavedModel:
    """Load what `save_model` wrote, in evaluation mode.

    Raises ModelError naming the file that is missing, broken or does not fit the others, and PluginError where the
    plugin that provides the head, or the method, is not installed.
    """
    if not folder.exists() and _retired(folder).is_dir():
        folder = _retired(folder)
    if not folder.is_dir():
        raise ModelError(f"{folder}: there is no such folder", "Give the folder of a run that has ended.")
    record = checked(folder / TASK, read_json(folder / TASK), TaskRecord, "Copy the run again.")
    if not record.head:
        backbone = open_backbone(Location(str(folder), folder))
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
    backbone = open_backbone(Location(str(folder), folder))
    # What is drawn for new weights is filled over, and must not come from the generator by which another thread trains.
    with LOADING, OwnGenerator(torch.Generator()):
        head = heads[record.head].build(backbone.hidden_size, record.outputs)
        _fill(head, head.state_dict(), folder / HEAD)
        transformer: nn.Module = backbone.model.base_model
        if methods and record.method:
            check_tensors(folder / METHOD)
            transformer = methods[record.method].prepare(transformer)
            _fill(transformer, _moving(transformer), folder / METHOD)
    return SavedModel(backbone, head.eval(), record, transformer.eval())


def _moving(module: nn.Module) -> dict[str, Tensor]:
    """Return the trainable weights, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _fill(module: nn.Module, places: Mapping[str, Tensor], file: Path) -> None:
    """Load the tensors `places` of a module from a file, which must hold all of them."""
    from safetensors.torch import load_file

    stored = load_file(file)
    whose, asking = (
        ("head", "the labels and the backbone ask")
        if file.name == HEAD
        else ("method", "the method and the backbone ask")
    )
    for name, tensor in places.items():
        found = list(stored[name].shape) if name in stored else "missing"
        if found != list(tensor.shape):
            raise ModelError(
                f"{file}: '{name}' is {found}, but {asking} for {list(tensor.shape)}",
                "Labels, head, method and backbone must belong together; copy the run again.",
            )
    odd = sorted(set(stored) - set(places))
    if odd:
        raise ModelError(f"{file}: the {whose} has no place for '{odd[0]}'", "Was it saved by another version?")
    module.load_state_dict(stored, strict=False)


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
