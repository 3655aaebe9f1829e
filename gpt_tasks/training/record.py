"""What run.json says of a run, as it is read back."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1
FOLDER = "folder"
"""In the record of an unfinished run: the working folder, where relative paths of its settings begin."""


class _Part(BaseModel):
    # What else is there is for people.
    model_config = ConfigDict(extra="allow", frozen=True)


class _Fingerprints(_Part):
    data: str
    backbone: str


class RunRecord(_Part):
    """The record of a run from its beginning on."""

    schema_version: int
    status: Literal["unfinished", "finished"]
    task: str
    config: dict[str, Any]
    origins: dict[str, str] = {}
    fingerprints: _Fingerprints | None = None
    folder: str | None = None


class _Plugin(_Part):
    name: str
    distribution: str
    version: str


class _Config(_Part):
    backbone: str
    column: dict[str, str]
    options: dict[str, Any]
    metric: list[str] = []


class _Settings(_Part):
    precision: Literal["float32", "bf16"]
    device: str
    max_length: int
    batch_tokens: int
    seed: int


class FinishedRecord(RunRecord):
    """The record of a finished run: with all that is needed to answer."""

    plugin: _Plugin
    config: _Config  # type: ignore[assignment]
    settings: _Settings
    fingerprints: _Fingerprints
