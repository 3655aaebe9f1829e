"""An adapter in peft's layout: which base model it is for, whether it fits, and merging it; and writing one."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from gpt_tasks.backbone import hub
from gpt_tasks.backbone.folder import check_tensors
from gpt_tasks.backbone.hub import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from gpt_tasks.errors import ModelError, said
from gpt_tasks.files import give_usual_rights
from gpt_tasks.saved_json import checked, read_json
from gpt_tasks.threads import ignoring_warnings

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

_PICKLED = "adapter_model.bin"
# What peft puts before the names of the model that it wraps.
_WRAPPER = "base_model.model."
_FIT = "The adapter must be one that was trained on this base model; copy or download it again."


class AdapterConfig(BaseModel):
    """What is read of an adapter's configuration before peft reads it."""

    peft_type: str
    base_model_name_or_path: str | None = None
    revision: str | None = None
    r: int | None = Field(None, ge=1)
    rank_pattern: dict[str, int] | None = None
    # These would import a module, and build another model.
    megatron_config: None = None
    layer_replication: None = None

    @property
    def base(self) -> str:
        """The base model as `--backbone` names it; empty where the adapter does not say."""
        name, revision = self.base_model_name_or_path or "", self.revision
        found = hub.HUB_ID.fullmatch(name)
        return (
            f"{name}@{revision}" if revision and found and not found["revision"] and not Path(name).exists() else name
        )


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read the configuration of an adapter. Raises ModelError naming the file and the field that is wrong."""
    file = folder / ADAPTER_CONFIG
    return checked(file, read_json(file), AdapterConfig)


def check_adapter(folder: Path) -> None:
    """Raise ModelError where the weights of an adapter are missing, pickled or truncated."""
    if not (folder / ADAPTER_WEIGHTS).is_file() and (folder / _PICKLED).is_file():
        raise ModelError(
            f"{folder}: the adapter's weights are pickled ({_PICKLED}), which can run code when opened",
            "Save them as safetensors once: open the adapter with peft, and call save_pretrained(FOLDER).",
        )
    check_tensors(folder / ADAPTER_WEIGHTS)


def merge_adapter(causal_lm: Any, folder: Path) -> None:
    """Add an adapter to the weights of its base model.

    Raises ModelError, naming the file and the field or the weight, for an adapter that cannot be merged, or that is of
    another shape than the model. A head that it holds is left behind.
    """
    import torch
    from peft import PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    from gpt_tasks.backbone.isolation import OwnGenerator

    known, file = read_adapter_config(folder), folder / ADAPTER_WEIGHTS
    ends = causal_lm.get_input_embeddings(), causal_lm.get_output_embeddings()
    tied = ends[0].weight is ends[1].weight
    check_adapter(folder)
    state = load_file(file)
    _check_rank(known, state, folder)
    # What is drawn for new weights is filled over, and must not come from the generator of a training.
    with OwnGenerator(torch.Generator()), ignoring_warnings():
        try:
            config: Any = PeftConfig.from_pretrained(str(folder))
            _check_kind(config, folder)
            config.task_type, config.inference_mode = None, True
            state = _without_heads(config, state, causal_lm)
            adapted: Any = get_peft_model(causal_lm, config)
            expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        except (MemoryError, ModelError):
            raise
        except Exception as error:
            raise ModelError(
                f"{folder / ADAPTER_CONFIG}: peft cannot add it to the base model: {said(error)}", _FIT
            ) from error
        for name in sorted(expected.keys() | state.keys()):
            found, asked = (list(each[name].shape) if name in each else "missing" for each in (state, expected))
            if found != asked:
                raise ModelError(f"{file}: '{name}' is {found}, the base model asks for {asked}", _FIT)
        try:
            set_peft_model_state_dict(adapted, state)
            if tied and ends != (causal_lm.get_input_embeddings(), causal_lm.get_output_embeddings()):
                _untie(causal_lm, ends[1])
            # Each weight is replaced, and not changed in place: other models may have the same in memory.
            adapted.merge_and_unload(safe_merge=True)
        except MemoryError:
            raise
        except Exception as error:
            raise ModelError(f"{file}: peft cannot merge it: {said(error)}", _FIT) from error
    causal_lm.requires_grad_(True).eval()


def write_adapter(
    folder: Path,
    adapted: Any,
    causal_lm: Any,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    base: str,
    revision: str | None,
) -> None:
    """Write the adapter of a `PeftModel` around the base model of a language model, as peft opens it for the latter.

    `base` is what the configuration names as the base model, `revision` its commit where it is of the hub. Without a
    tokenizer it is read with the base model's.
    """
    from peft import get_peft_model_state_dict

    from gpt_tasks.backbone.tensors import write_tensors

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    place = _place(causal_lm, adapted.get_base_model())
    state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    write_tensors(
        folder / ADAPTER_WEIGHTS,
        {name.replace(_WRAPPER, f"{_WRAPPER}{place}", 1): tensor for name, tensor in state.items()},
    )
    config = copy.copy(adapted.peft_config[adapted.active_adapter])
    config.base_model_name_or_path, config.revision = base, revision
    config.task_type, config.inference_mode = "CAUSAL_LM", True
    config.save_pretrained(str(folder))
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    if causal_lm.generation_config is not None:
        causal_lm.generation_config.save_pretrained(folder)
    give_usual_rights(folder)


def _place(causal_lm: Any, base: nn.Module) -> str:
    """Return where in a language model its base model is, as in `transformer.`"""
    names = (name for name, module in causal_lm.named_modules() if module is base)
    name = next(names, causal_lm.base_model_prefix)
    return f"{name}." if name else ""


def _check_kind(config: Any, folder: Path) -> None:
    """Raise ModelError for an adapter that adds something else than to weights."""
    from peft import PEFT_TYPE_TO_TUNER_MAPPING

    if not hasattr(PEFT_TYPE_TO_TUNER_MAPPING.get(config.peft_type), "merge_and_unload"):
        raise ModelError(
            f"{folder / ADAPTER_CONFIG}: 'peft_type': an adapter of type {config.peft_type.value} cannot be merged",
            "Take an adapter of LoRA, or of another kind that peft merges.",
        )


def _check_rank(config: AdapterConfig, state: dict[str, Tensor], folder: Path) -> None:
    """Raise ModelError for a rank that none of the matrices has: a wrong one could be as large as the memory."""
    found = [tensor.shape[0] for name, tensor in state.items() if ".lora_A." in name and tensor.ndim == 2]
    named = {"r": config.r, **{f"rank_pattern.{name}": rank for name, rank in (config.rank_pattern or {}).items()}}
    for name, rank in named.items():
        if config.peft_type == "LORA" and found and rank is not None and not 1 <= rank <= max(found):
            told = f"'{name}': {rank}, but the matrices in {ADAPTER_WEIGHTS} have rank {max(found)}"
            raise ModelError(f"{folder / ADAPTER_CONFIG}: {told}", _FIT)


def _untie(causal_lm: Any, output: Any) -> None:
    """Give the output matrix weights of its own: an adapter changes the embedding alone, or this matrix alone."""
    from torch import nn

    output.weight = nn.Parameter(output.weight.detach().clone())
    causal_lm.config.tie_word_embeddings = False
    causal_lm.all_tied_weights_keys = {}


def _without_heads(config: Any, state: dict[str, Tensor], causal_lm: Any) -> dict[str, Tensor]:
    """Return the weights without those of modules that were saved whole and are not the language model's own."""
    saved = list(getattr(config, "modules_to_save", None) or ())
    names = [name for name, _ in causal_lm.named_modules()]
    heads = [head for head in saved if not any(name == head or name.endswith(f".{head}") for name in names)]
    if not heads:
        return state
    config.modules_to_save = [name for name in saved if name not in heads] or None
    return {name: tensor for name, tensor in state.items() if not set(name.split(".")) & set(heads)}
