"""A backbone with a head: the module that is trained, and the folder in which it is kept."""

from __future__ import annotations

import inspect
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from gpt_tasks.backbone import speed
from gpt_tasks.backbone.load import Backbone, Location, check_tensors, open_backbone, quiet_transformers, read_json
from gpt_tasks.errors import MachineError, ModelError, PluginError, UsageError
from gpt_tasks.extensions import HeadKind, Method
from gpt_tasks.files import machine_errors
from gpt_tasks.heads.lm import text_loss
from gpt_tasks.heads.losses import LOSSES, UNLABELLED
from gpt_tasks.tasks.headed import Loss

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEAD = "head.safetensors"
METHOD = "method.safetensors"
TASK = "task.json"


class TaskModel(nn.Module):
    """A transformer without its language model head, and a task's head on its last hidden states.

    `backbone` is the base model (`causal_lm.base_model`), wrapped by a tuning method or not; `loss` says what the head
    learns by. `class_weights` `[outputs]` weigh the examples of each label in it; they should average 1 over the
    training data, because the loss is divided by the number of goals. With `lm_weight` the texts' own
    language-modelling loss, by the output matrix `[vocabulary, hidden]`, is added with that weight.
    """

    # Trainer then passes `num_items_in_batch`, the number of labelled examples of an accumulated batch on all ranks.
    accepts_loss_kwargs = True

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        class_weights: Tensor | None = None,
        *,
        loss: Loss = "cross_entropy",
        output_matrix: Tensor | None = None,
        lm_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.loss = loss
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)
        # In a tuple, so that it is no part of this module's state: the backbone's own, or none that moves.
        self._output_matrix = (output_matrix,)
        self.lm_weight = lm_weight

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor | None = None,
        choices: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """Return `logits` `[batch, outputs]`, and with `labels`, their goals, the `loss`.

        `input_ids` and `attention_mask` are `[batch, length]`; or `[batch, sequences, length]`, where a sequence whose
        mask is 0 all over is not there. The logits are the mean of those of the sequences; where these are choices,
        they are those of each choice, `[batch, choices]`, minus infinity for one that is not there; `choices`
        `[batch, sequences]` say which one a sequence is about. Goals are
        `[batch]` or `[batch, outputs]`, and those of -100 do not count. The loss is summed and divided by
        `num_items_in_batch`, or else by the number of goals.
        """
        owners, there, examples = None, None, len(input_ids)
        if input_ids.dim() == 3:
            there = attention_mask.any(dim=-1)
            owners, input_ids, attention_mask = there.nonzero()[:, 0], input_ids[there], attention_mask[there]
        with_texts = labels is not None and self.lm_weight > 0
        last_only = getattr(self.head, "reads_last_token_only", False) and not with_texts
        hidden, mask = last_hidden_state(self.backbone, input_ids, attention_mask, last_only=last_only)
        logits = self.head(hidden, mask)
        if self.loss == "choice":
            assert owners is not None
            assert choices is not None
            width = int(choices.max()) + 1
            of_choice = owners * width + choices[there]
            missing = torch.bincount(of_choice, minlength=examples * width) == 0
            scores = _means(logits, of_choice, examples * width)
            logits = scores[:, 0].masked_fill(missing, -math.inf).reshape(examples, width)
        elif owners is not None:
            logits = _means(logits, owners, examples)
        if labels is None:
            return {"logits": logits}
        total = LOSSES[self.loss](logits.float(), labels, self.class_weights)
        if num_items_in_batch is None:
            num_items_in_batch = (labels != UNLABELLED).sum().clamp(min=1)
        if with_texts:
            (matrix,) = self._output_matrix
            assert matrix is not None
            counts = labels.reshape(examples, -1)[:, 0] != UNLABELLED
            counts = counts if owners is None else counts[owners]
            total = total + self.lm_weight * text_loss(
                hidden[counts], matrix, input_ids[counts], attention_mask[counts]
            )
        return {"loss": total / num_items_in_batch, "logits": logits}

    def activation_checkpointing_enable(self, **settings: Any) -> None:
        """Recompute activations in the backward pass instead of keeping them; Trainer calls this.

        Raises UsageError for an architecture that cannot.
        """
        recompute_activations(self.backbone, **settings)


def _means(rows: Tensor, owners: Tensor, examples: int) -> Tensor:
    """Return the means `[examples, outputs]` of the rows `[n, outputs]` of each owner, of whom `owners` is `[n]`."""
    sums = rows.new_zeros(examples, rows.shape[1]).index_add(0, owners, rows)
    return sums / torch.bincount(owners, minlength=examples).to(rows.dtype)[:, None]


def recompute_activations(backbone: nn.Module, **settings: Any) -> None:
    """Have a transformer, wrapped or not, keep no activations. Raises UsageError for an architecture that cannot."""
    try:
        _base(backbone).activation_checkpointing_enable(**settings)
    except ValueError as error:
        raise UsageError(f"--gradient-checkpointing: {error}", "Lower --batch-tokens instead.") from error


def last_hidden_state(
    backbone: nn.Module, input_ids: Tensor, attention_mask: Tensor, *, last_only: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the hidden states `[batch, length, hidden]` after the last layer, and the attention mask that fits them.

    They are the same on either padding side: positions are counted by the attention mask; models that have no use for
    them (ALiBi) are not given any. With `last_only` it may be each row's last token alone, `[batch, 1, hidden]`.
    """
    base = _base(backbone)
    if speed.can_run(base):
        hidden = speed.hidden_states(base, input_ids, attention_mask, last=last_only)
        return hidden, attention_mask.amax(dim=-1, keepdim=True) if last_only else attention_mask
    positions = {}
    if "position_ids" in inspect.signature(base.forward).parameters:
        positions["position_ids"] = (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)
    outputs = backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **positions)
    return outputs.last_hidden_state, attention_mask


def _base(backbone: Any) -> Any:
    """Return the transformer itself, without peft's wrapper."""
    return backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone


class TaskRecord(BaseModel):
    """What task a saved model was trained for: `task.json`.

    `plugin` is the distribution that brings the task, `head` the kind of head (none where the model writes) and
    `outputs` the number of its logits, `state` what the task needs to be itself again (its labels in order, its
    prompt), `method` the one whose weights are kept beside the model, where there is one.
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

    `transformer` is the base model of the backbone, in what its method added where that is kept beside it.
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
    """Write a model so that `AutoModelForCausalLM` opens the folder, with its head and its task beside it.

    Of `added`, the model as a method prepared it, the weights that move are kept too. The folder is written under
    another name and renamed when it is whole: whenever the process dies, `load_model` finds the old model or the new
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


def load_model(folder: Path, heads: Mapping[str, HeadKind], methods: Mapping[str, Method] | None = None) -> SavedModel:
    """Load what `save_model` wrote, in evaluation mode.

    Raises ModelError naming the file that is missing, broken or does not fit the others, and PluginError where the
    plugin that brings the head, or the method that it needs, is not installed.
    """
    if not folder.exists() and _retired(folder).is_dir():
        folder = _retired(folder)
    if not folder.is_dir():
        raise ModelError(f"{folder}: there is no such folder", "Give the folder of a run that has ended.")
    try:
        record = TaskRecord.model_validate(read_json(folder / TASK))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelError(f"{folder / TASK}: '{where}': {first['msg'].lower()}", "Copy the run again.") from error
    labels = record.state.get("labels")
    if labels is not None and len(labels) != record.outputs:
        raise ModelError(
            f"{folder / TASK}: {len(labels)} labels ({', '.join(labels)}) for a head of {record.outputs} outputs",
            "Labels and head must belong together; copy the run again.",
        )
    if not record.head:
        backbone = open_backbone(Location(str(folder), folder))
        return SavedModel(backbone, None, record, backbone.model.base_model)
    if record.head not in heads:
        raise PluginError(
            f"{folder / TASK}: task '{record.task}' needs the head '{record.head}', which no installed plugin brings",
            f"Install {record.plugin} {record.plugin_version}.",
        )
    if record.method and record.method not in (methods or {}):
        raise PluginError(
            f"{folder / TASK}: the run needs the method '{record.method}', which no installed plugin brings",
            "Install the plugin that it was trained with; gpt-tasks plugins lists those that are here.",
        )
    check_tensors(folder / HEAD)
    backbone = open_backbone(Location(str(folder), folder))
    head = heads[record.head].build(backbone.hidden_size, record.outputs)
    _fill(head, head.state_dict(), folder / HEAD)
    transformer: nn.Module = backbone.model.base_model
    if methods and record.method:
        check_tensors(folder / METHOD)
        transformer = methods[record.method].prepare(transformer)
        _fill(transformer, _moving(transformer), folder / METHOD)
    return SavedModel(backbone, head.eval(), record, transformer.eval())


def _moving(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights that training moves, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _fill(module: nn.Module, places: Mapping[str, Tensor], file: Path) -> None:
    """Load those tensors of a module, its `places`, that a file holds, which must be all of them."""
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
    """Give a new folder to write into, which takes the place of `folder` at the end, or is gone if anything fails."""
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
        shutil.rmtree(new, ignore_errors=True)


def _retired(folder: Path) -> Path:
    """Where the old model stands while the new one takes its place."""
    return folder.with_name(f".{folder.name}-old")


def _flush(folder: Path) -> None:
    """Have the disk keep what was written, so that the renaming cannot outrun it when the power fails."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
