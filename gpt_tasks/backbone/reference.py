"""A backbone that a run keeps by reference: where it is and the checksums of its files, in place of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from gpt_tasks.backbone import hub
from gpt_tasks.backbone.folder import GENERATION, check_tensors
from gpt_tasks.backbone.locate import Location, locate
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
_READ = (hub.CONFIG, *hub.WEIGHT_FILES, *hub.TOKENIZER_FILES, REFERENCE, ADAPTER)


class Reference(BaseModel):
    """Where a backbone is, as `--backbone` names it, and what a run adds to it: `backbone.json`.

    `place` is a preset, a commit of the hub or an absolute path; `checksums` are the SHA-256 of its files, `tokens`
    those that were added for the task. `method` is the one that prepares it, fills in the run's `adapter.safetensors`
    and finishes it; empty where the backbone is unchanged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    place: str
    checksums: Mapping[str, str]
    tokens: list[str] = []
    method: str = ""

    def locate(self, model: Path) -> Location:
        """Find the backbone that the `model` of a run refers to. Raises ModelError where it is gone."""
        try:
            return locate(self.place, installed_plugins().registry.backbones)
        except (ModelError, UsageError) as error:
            way_out = "Put the backbone there again, or a link to it; or train without --backbone-by-reference."
            raise ModelError(
                f"{model}: its backbone is kept by reference. {error.message}",
                way_out if Path(self.place).is_absolute() else error.hint,
            ) from error


def reference_to(
    location: Location, presets: Mapping[str, BackbonePreset], *, tokens: Sequence[str] = (), method: str = ""
) -> Reference:
    """Return the reference to a backbone."""
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
    files = [location.gguf] if location.gguf else [file for pattern in _READ for file in folder.glob(pattern)]
    names = [file.relative_to(folder).as_posix() for file in files]
    return Reference(place=place, checksums=checksums(folder, names), tokens=list(tokens), method=method)


def read_reference(model: Path) -> Reference:
    """Read the reference in the folder of a model."""
    file = model / REFERENCE
    return checked(file, read_json(file), Reference, "Copy the run again.")


def verify_reference(model: Path) -> None:
    """Raise ModelError where a model refers to a backbone that is gone, or is no longer the one that it was."""
    if not (model / REFERENCE).is_file():
        return
    reference = read_reference(model)
    folder = reference.locate(model).folder
    damage = find_damage(folder, reference.checksums)
    if damage is not None:
        raise ModelError(
            f"{model}: its backbone is kept by reference. {reference.place} is no longer the one of the training: "
            f"{damage}",
            "Restore that file, or train again. Opened unchecked: with --no-verify.",
        )
    verify_reference(folder)


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
        method = methods[reference.method]
        # What is drawn for new weights is filled over, and must not come from the generator of a training.
        with OwnGenerator(torch.Generator()):
            prepared = method.prepare(model.base_model)
            fill(prepared, moving(prepared), folder / ADAPTER, "method")
            method.finish(prepared)
    model.requires_grad_(True).eval()
