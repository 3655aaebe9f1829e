"""LoRA (Hu et al., 2021, https://arxiv.org/abs/2106.09685), by peft: low-rank matrices beside linear layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from gpt_tasks.errors import ModelError, UsageError, said
from gpt_tasks.extensions import MethodOptions
from gpt_tasks.threads import ignoring_warnings

if TYPE_CHECKING:
    from torch import nn

ALL_LINEAR = "all-linear"
_MAMBA = frozenset(["falcon_h1", "falcon_mamba", "mamba", "mamba2"])
# Layers of Mamba that are never called: a kernel takes their weights, without what peft adds.
_IN_KERNELS = frozenset(["dt_proj", "out_proj"])
_DEFAULT_RANK = 16


class LoraOptions(MethodOptions):
    """The settings of `--method lora`, by the names of peft's `LoraConfig`."""

    lora_r: int = Field(_DEFAULT_RANK, ge=1, le=65_536, description="The rank of LoRA's matrices.")
    lora_alpha: int = Field(32, ge=1, le=1_000_000, description="LoRA's matrices are scaled by this over the rank.")
    lora_dropout: float = Field(0.05, ge=0, lt=1, description="Dropout before LoRA's matrices.")
    lora_target_modules: tuple[str, ...] = Field(
        (),
        description="A layer that LoRA adapts, by the end of its name, as q_proj; or all-linear. Default: what peft "
        "adapts of the architecture.",
    )
    lora_use_dora: bool = Field(False, description="DoRA: the length of each weight vector is trained by itself.")
    lora_use_rslora: bool = Field(False, description="rsLoRA: scale by lora_alpha over the root of the rank.")


def add_lora(backbone: nn.Module, options: LoraOptions | None = None) -> nn.Module:
    """Add low-rank matrices to the target modules, or where there are none, to those that peft names.

    Raises UsageError, naming the option, for targets that are not there or cannot be adapted so, and a rank beyond the
    layers' own; ModelError for a model that peft adapts nowhere.
    """
    from peft import LoraConfig, get_peft_model

    model: Any = backbone
    options = options or LoraOptions.model_validate({})
    targets = _targets(model, options.lora_target_modules)
    _check_rank(model, targets, options.lora_r)
    config = LoraConfig(
        r=options.lora_r,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules=targets,
        use_dora=options.lora_use_dora,
        use_rslora=options.lora_use_rslora,
    )
    with ignoring_warnings():  # peft warns that it transposes GPT-2's Conv1D
        try:
            return get_peft_model(model, config)
        except (ValueError, NotImplementedError, TypeError, AttributeError) as error:
            raise _refused(error, options, model.config.model_type) from error


def merge_lora(backbone: nn.Module) -> nn.Module:
    """Add the matrices to the weights of the layers that they are beside, and return the plain model."""
    model: Any = backbone
    merged: nn.Module = model.merge_and_unload()
    return merged


def _targets(model: Any, given: Sequence[str]) -> list[str]:
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TARGETS

    kind = model.config.model_type
    linear = _linear_layers(model)
    if not given:
        return linear if kind in _MAMBA or kind not in TARGETS else list(TARGETS[kind])
    hidden = _hidden_from_lora(model)
    for name in given:
        found = list(_named(model, [name]))
        if name != ALL_LINEAR and not (found and all(_is_linear(each) for each in found) and name not in hidden):
            raise UsageError(
                f"--lora-target-modules {name}: a backbone of type '{kind}' has no such linear layer",
                f"It has {', '.join(linear)}; {ALL_LINEAR} means all of them.",
            )
    return sorted({*given, *linear} - {ALL_LINEAR}) if ALL_LINEAR in given else list(given)


def _named(model: nn.Module, targets: Sequence[str]) -> Iterator[nn.Module]:
    """Yield the modules that peft takes targets for: those of such a name, or whose name ends so."""
    for name, module in model.named_modules():
        if any(name == target or name.endswith(f".{target}") for target in targets):
            yield module


def _linear_layers(model: Any) -> list[str]:
    """Return the names of the linear layers, without those of experts, which peft adapts only without dropout."""
    linear = {name for name, module in model.named_modules() if _is_linear(module)}
    return sorted({name.rpartition(".")[2] for name in linear} - _hidden_from_lora(model))


def _is_linear(module: nn.Module) -> bool:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def _hidden_from_lora(model: Any) -> frozenset[str]:
    return _IN_KERNELS if model.config.model_type in _MAMBA else frozenset()


def _check_rank(model: nn.Module, targets: Sequence[str], rank: int) -> None:
    """Raise UsageError for a rank beyond that of every layer that is adapted."""
    weights = [getattr(module, "weight", None) for module in _named(model, targets)]
    widest = max((min(weight.shape) for weight in weights if weight is not None and weight.ndim == 2), default=rank)
    if rank > max(widest, _DEFAULT_RANK):
        raise UsageError(
            f"--lora-r {rank}: the layers that are adapted have at most {widest} dimensions",
            f"Give a rank below {widest}: at most a quarter of it is usual.",
        )


def _refused(error: Exception, options: LoraOptions, kind: str) -> UsageError | ModelError:
    """Return why peft refuses a configuration, by the option that it is about."""
    if options.lora_use_dora and "dora" in str(error).lower():
        return UsageError(f"--lora-use-dora: peft refuses it for these layers: {said(error)}", "Leave it out.")
    if options.lora_target_modules:
        names = ", ".join(options.lora_target_modules)
        return UsageError(
            f"--lora-target-modules {names}: peft cannot adapt them: {said(error)}", "Name linear layers."
        )
    return ModelError(
        f"--method lora: peft adapts no model of type '{kind}': {said(error)}", "Take --method full or head."
    )
