"""A backbone that a run keeps by reference: where it is and the checksums of its files, in place of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from gpt_tasks.backbone import hub
from gpt_tasks.backbone.adapter import merge_adapter, read_adapter_config
from gpt_tasks.backbone.folder import GENERATION, check_tensors
from gpt_tasks.backbone.locate import Location, locate
from gpt_tasks.backbone.methods import with_options
from gpt_tasks.backbone.tokens import add_tokens
from gpt_tasks.checksums import checksums, find_damage
from gpt_tasks.errors import ModelError, PluginError, UsageError
from gpt_tasks.extensions import BackbonePreset, Method
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.saved_json import checked, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REFERENCE = "backbone.json"
ADAPTER = "adapter.safetensors"
MODEL_FILES = (
    hub.CONFIG,
    *hub.WEIGHT_FILES,
    *hub.TOKENIZER_FILES,
    hub.ADAPTER_CONFIG,
    hub.ADAPTER_WEIGHTS,
    REFERENCE,
    ADAPTER,
)
"""The files by which a model's folder is recognized, as patterns."""


class Reference(BaseModel):
    """Where a backbone is, as `--backbone` names it, and what a run adds to it: `backbone.json`.

    `place` is a preset, a commit of the hub, an absolute path, or a path from the folder itself, as `../adapter`;
    `checksums` are the SHA-256 of its files, `tokens` those that were added for the task. `method` is the one that
    prepares it with its `method_options`, fills in the run's `adapter.safetensors` and finishes it; empty where the
    backbone is unchanged. `base` is the reference to the base model of an adapter that holds none itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    place: str
    checksums: Mapping[str, str]
    tokens: list[str] = []
    method: str = ""
    method_options: Mapping[str, Any] = {}
    base: Reference | None = None

    def locate(self, model: Path) -> Location:
        """Find the backbone that the `model` of a run refers to. Raises ModelError where it is gone."""
        if self.place.startswith("../"):
            folder = model.parent / self.place.removeprefix("../")
            return Location(str(folder), folder)
        try:
            return locate(self.place, installed_plugins().registry.backbones)
        except (ModelError, UsageError) as error:
            way_out = "Put the backbone there again, or a link to it."
            raise ModelError(
                f"{model}: its backbone is kept by reference. {error.message}",
                way_out if Path(self.place).is_absolute() else error.hint,
            ) from error


def reference_to(
    location: Location,
    presets: Mapping[str, BackbonePreset],
    *,
    tokens: Sequence[str] = (),
    method: Method | None = None,
    options: Mapping[str, Any] | None = None,
) -> Reference:
    """Return the reference to a backbone; `method`, with its `options`, has added to it what the run holds."""
    spec, folder = location.spec, location.folder
    place = str(presets[spec].location()) if spec in presets else spec
    of_hub = (hub.HUB_FILE if location.gguf else hub.HUB_ID).fullmatch(place)
    if location.commit and of_hub:
        found = f"{of_hub['repo']}@{location.commit}"
        place = f"hf:{found}:{of_hub['file']}" if location.gguf else found
    elif spec in presets:
        place = spec
    else:
        place = str((location.gguf or folder).resolve())
    files = [location.gguf] if location.gguf else [file for pattern in MODEL_FILES for file in folder.glob(pattern)]
    names = [file.relative_to(folder).as_posix() for file in files]
    others = hub.is_adapter(folder) and not (folder / REFERENCE).is_file()
    return Reference(
        place=place,
        checksums=checksums(folder, names),
        tokens=list(tokens),
        method=method.name if method else "",
        method_options=options or {},
        base=reference_to(base_of(folder), presets) if others else None,
    )


def read_reference(model: Path) -> Reference:
    """Read the reference in the folder of a model; that of an adapter without one is its own word."""
    file = model / REFERENCE
    if hub.is_adapter(model) and not file.is_file():
        return Reference(place=read_adapter_config(model).base, checksums={})
    return checked(file, read_json(file), Reference, "Copy the run again.")


def refers(model: Path) -> bool:
    """Return whether the folder of a model holds only what is added to another."""
    return (model / REFERENCE).is_file() or hub.is_adapter(model)


def base_of(model: Path) -> Location:
    """Find the backbone that a model refers to, in a folder for which `refers` is true.

    That of an adapter is the one that its configuration names; where there is none, the place that the run recorded.
    Raises ModelError where it is gone, or adapters refer to each other.
    """
    found = at = _base_of(model)
    seen = {model.resolve()}
    while hub.is_adapter(at.folder):
        if at.folder.resolve() in seen:
            raise ModelError(
                f"{at.folder / hub.ADAPTER_CONFIG}: 'base_model_name_or_path': its base models lead back to itself",
                "Write there where the base model is.",
            )
        seen.add(at.folder.resolve())
        at = _base_of(at.folder)
    return found


def _base_of(model: Path) -> Location:
    if not hub.is_adapter(model):
        return read_reference(model).locate(model)
    file, named = model / hub.ADAPTER_CONFIG, read_adapter_config(model).base
    field = f"{file}: 'base_model_name_or_path'"
    if not named:
        raise ModelError(f"{field}: the adapter does not name its base model", "Write its path or hub id there.")
    try:
        return locate(named, installed_plugins().registry.backbones)
    except (ModelError, UsageError) as error:
        if (model / REFERENCE).is_file():
            return read_reference(model).locate(model)
        raise ModelError(f"{field}: {error.message}", f"Write there where the base model is. {error.hint}") from error


def verify_reference(model: Path) -> None:
    """Raise ModelError where a model refers to a backbone that is gone, or is no longer the one that it was."""
    if refers(model):
        folder = base_of(model).folder
        _verify(read_reference(model), model, folder)
        verify_reference(folder)


def _verify(reference: Reference, model: Path, folder: Path) -> None:
    damage = find_damage(folder, reference.checksums)
    if damage is not None and hub.is_adapter(model):
        raise ModelError(
            f"{model / REFERENCE}: 'checksums': the adapter was trained on another base model than {folder}: {damage}",
            f"Restore that file, or name the right base model in {hub.ADAPTER_CONFIG}: 'base_model_name_or_path'. "
            "A run is opened unchecked with --no-verify.",
        )
    if damage is not None:
        raise ModelError(
            f"{model}: its backbone is kept by reference. {reference.place} is no longer the one of the training: "
            f"{damage}",
            "Restore that file, or train again. Opened unchecked: with --no-verify.",
        )
    if reference.base is not None:
        _verify(reference.base, folder, base_of(folder).folder)


def restore(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    reference: Reference,
    methods: Mapping[str, Method],
) -> None:
    """Add to a backbone, whose own tokenizer is given, what a run added: tokens, and what its method trained."""
    import torch
    from transformers import GenerationConfig

    from gpt_tasks.backbone.isolation import OwnGenerator
    from gpt_tasks.backbone.tensors import fill, moving

    add_tokens(model, tokenizer, reference.tokens)
    if (folder / GENERATION).is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    if reference.method:
        if reference.method not in methods:
            raise PluginError(
                f"{folder / REFERENCE}: the run needs the method '{reference.method}', which no installed plugin "
                "provides",
                "Install the plugin that it was trained with; gpt-tasks plugins lists the installed ones.",
            )
        check_tensors(folder / ADAPTER)
        method = recorded_method(methods[reference.method], reference.method_options, folder / REFERENCE)
        # What is drawn for new weights is filled over, and must not come from the generator of a training.
        with OwnGenerator(torch.Generator()):
            prepared = method.prepare(model.base_model)
            fill(prepared, moving(prepared), folder / ADAPTER, "method")
            method.finish(prepared)
    if hub.is_adapter(folder):
        merge_adapter(model, folder)
    model.requires_grad_(True).eval()


def recorded_method(method: Method, options: Mapping[str, Any], file: Path) -> Method:
    """Return a method with the options that a file records. Raises ModelError, naming it, where it has no such."""
    try:
        return with_options(method, options)
    except UsageError as error:
        raise ModelError(
            f"{file}: 'method_options': {error.message}", "Install the version that trained it."
        ) from error
