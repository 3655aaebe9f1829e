"""Where the backbone is that a user names: a preset, a folder, a run, a file in GGUF, or a model of the hub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpt_tasks.backbone import hub
from gpt_tasks.backbone.gguf.header import SUFFIX, only_file
from gpt_tasks.backbone.verify import RECORD, refuse_unfinished_folder
from gpt_tasks.errors import ModelError
from gpt_tasks.extensions import BackbonePreset
from gpt_tasks.paths import user_path

_PLACES = "Give a preset, a folder, a file in GGUF, a hub id OWNER/NAME[@REVISION], or hf:OWNER/NAME:FILE.gguf."


@dataclass(frozen=True)
class Location:
    """Where a spec leads: a folder on this machine, and the hub's commit where it is a snapshot of the hub.

    `run` is the folder of the run that the model is of, by whose checksums it is checked when it is opened. `gguf` is
    the model's file in the folder where it is one in GGUF. With `adapter` the folder holds an adapter, and its base is
    checked by the checksums that the adapter has of it.
    """

    spec: str
    folder: Path
    commit: str | None = None
    run: Path | None = None
    gguf: Path | None = None
    adapter: bool = False


def locate(spec: str, presets: Mapping[str, BackbonePreset], *, with_code: bool = False) -> Location:
    """Find the folder of a preset, of a folder (or run folder), a GGUF file or a hub id, in this order.

    What is new is downloaded.
    Imports no torch, so that a wrong spec or a missing network is reported at once.
    """
    place = presets[spec].location() if spec in presets else spec
    folder = user_path(place, "model")
    if folder.is_dir():
        refuse_unfinished_folder(folder)
        if hub.is_adapter(folder):
            return Location(spec, folder, adapter=True)
        if not (folder / hub.CONFIG).is_file() and (folder / "model" / hub.CONFIG).is_file():
            return Location(spec, folder / "model", run=folder if (folder / RECORD).is_file() else None)
        return Location(spec, folder, gguf=None if (folder / hub.CONFIG).is_file() else only_file(folder))
    if folder.suffix == SUFFIX and folder.is_file():
        return Location(spec, folder.parent, gguf=folder)
    hub_file = hub.HUB_FILE.fullmatch(str(place))
    if hub_file:
        snapshot = hub.fetch(hub_file["repo"], hub_file["revision"], file=hub_file["file"])
        return Location(spec, snapshot.folder, snapshot.commit, gguf=snapshot.folder / hub_file["file"])
    hub_id = hub.HUB_ID.fullmatch(str(place))
    looks_like_path = isinstance(place, Path) or folder.is_absolute() or spec.startswith((".", "~")) or folder.exists()
    if hub_id and not looks_like_path:
        try:
            snapshot = hub.fetch(hub_id["repo"], hub_id["revision"], with_code=with_code)
        except ModelError as error:
            otherwise = presets[spec].otherwise if spec in presets else ""
            raise ModelError(error.message, f"{error.hint} {otherwise}".strip()) from error
        return Location(spec, snapshot.folder, snapshot.commit, adapter=hub.is_adapter(snapshot.folder))
    if looks_like_path or os.sep in spec:
        kind = "a file, not a folder" if folder.is_file() else "no such folder"
        raise ModelError(f"Backbone '{place}': {kind}", _PLACES)
    presets[spec]  # raises: the registry knows the nearest name and whether a failed plugin had this one
    raise AssertionError(spec)
