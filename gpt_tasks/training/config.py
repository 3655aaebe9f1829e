"""Everything that can be set of a fine-tuning, as one model: a YAML file and flags fill it, run.json records it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, PlainSerializer
from pydantic_core import PydanticCustomError

from gpt_tasks.data.in_memory import InMemory
from gpt_tasks.errors import UsageError
from gpt_tasks.tasks.options import validated

M = TypeVar("M", bound=BaseModel)
# From Python a place may be a Path; it is recorded as text.
Place = Annotated[str, BeforeValidator(lambda place: str(place) if isinstance(place, PurePath) else place)]


def _held(data: Any) -> Any:
    """Return data that a program holds as such; a path as it is."""
    held = InMemory.of(data)
    if held is None and not isinstance(data, str | PurePath):
        kind = {"kind": type(data).__name__}
        raise PydanticCustomError("data", "a {kind} is no path, no data frame, and no list of mappings", kind)
    return held or data


# Of data that a program holds a description is recorded.
Data = Annotated[Place | InstanceOf[InMemory], BeforeValidator(_held), PlainSerializer(str)]


class FinetuneConfig(BaseModel):
    """The settings of one fine-tuning. What is None is settled by the method for the backbone's size."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    data: Data | None = Field(
        None, description="Training data: a file, a folder, hf:OWNER/NAME, sqlite:FILE#TABLE. Default: samples."
    )
    validation: Data | None = Field(None, description="Validation data, where it is in a separate file.")
    test: Data | None = Field(None, description="Test data, where it is in a separate file.")
    column: dict[str, str] = Field(
        {}, description="The column of a field: FIELD=COLUMN, as in text=review. Repeatable."
    )
    encoding: str | None = Field(None, description="The encoding of text files, as in cp1251. Default: detected.")
    skip_invalid: bool = Field(False, description="Leave out rows that cannot be used; they are counted.")
    limit: int | None = Field(None, ge=2, description="Train on at most this many rows.")
    backbone: Place = Field("tiny", description="A preset, a hub id OWNER/NAME[@REVISION], or a folder.")
    method: str = Field("full", description="Which weights are trained: full, lora, head, or a plugin's.")
    epochs: float | None = Field(
        None, gt=0, le=10_000, description="Passes over the training data; by default at least 100 updates."
    )
    learning_rate: float | None = Field(None, gt=0, le=1, description="The peak learning rate.")
    warmup: float | None = Field(None, ge=0, lt=1, description="The share of all updates spent warming up.")
    weight_decay: float | None = Field(None, ge=0, le=1, description="AdamW's decoupled weight decay.")
    batch_tokens: int | None = Field(None, ge=1, description="Tokens in a batch, padding included.")
    accumulate: int | None = Field(
        None, ge=1, description="Batches whose gradients make one update. Default: 1, more where texts are long."
    )
    max_length: int = Field(512, ge=2, description="Tokens of an example; of a longer one the task says what is read.")
    patience: int | None = Field(None, ge=1, description="Stop after this many evaluations without improvement.")
    best_by: str | None = Field(None, description="The metric that chooses the best checkpoint, or 'loss'.")
    metric: tuple[str, ...] = Field(
        (), description="A further metric of the reports: a registered one, or evaluate:NAME_OR_FOLDER."
    )
    class_weights: Literal["none", "balanced"] = Field("none", description="Weigh the labels in the loss.")
    lm_weight: float = Field(
        0.0, ge=0, le=100, description="Weight of the texts' own language-modelling loss added to the task's."
    )
    gradient_checkpointing: bool = Field(False, description="Less memory for a third more computing.")
    checkpoint_steps: int | None = Field(
        None, ge=1, description="Updates between checkpoints. Default: an epoch, at most 500."
    )
    precision: Literal["auto", "float32", "bf16"] = Field("auto", description="auto: bf16 where it is native.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where to compute.")
    seed: int = Field(0, ge=0, lt=2**32, description="Draws splits, order, dropout and new weights.")
    options: dict[str, Any] = Field({}, description="The task's own options.")


def configured(settings: dict[str, Any], read: dict[str, Any], file: Path | None = None) -> FinetuneConfig:
    """Build the configuration from what was `read` of a YAML file and from settings, which win.

    Raises UsageError naming the setting that is wrong, and the file that sets it.
    """
    origins = {name: str(file) for name in read if name not in settings}
    return validated(FinetuneConfig, merged(read, settings), origins)


def merged(settings: dict[str, Any], winning: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with the winning ones in their place; columns and options are replaced one by one."""
    both = {**settings, **winning}
    for nested in ("column", "options"):
        if isinstance(settings.get(nested), dict) and isinstance(winning.get(nested), dict):
            both[nested] = {**settings[nested], **winning[nested]}
    return both


def read_yaml(file: Path, options: Collection[str]) -> dict[str, Any]:
    """Read settings from a YAML file, a task's `options` under their names or under `options`.

    Raises UsageError where it is missing or is no mapping.
    """
    import yaml

    try:
        read = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no configuration file {file}", "Check --config.") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{file} cannot be read: {' '.join(str(error).split())}", "Fix the YAML.") from None
    if not isinstance(read, dict):
        raise UsageError(f"{file} holds no settings", "Write one 'name: value' a line, as in 'epochs: 3'.")
    named = {str(name).replace("-", "_"): value for name, value in read.items()}
    own = {name: named.pop(name) for name in options if name in named}
    return merged(named, {"options": own}) if own else named
