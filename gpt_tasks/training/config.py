"""Everything that can be set of a fine-tuning, as one model: a YAML file and flags fill it, run.json records it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PlainSerializer,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from gpt_tasks.data.in_memory import InMemory
from gpt_tasks.errors import GptTasksError, UsageError
from gpt_tasks.extensions import Method, MethodOptions
from gpt_tasks.paths import base_name, user_path
from gpt_tasks.strict_yaml import YamlError, parse_yaml
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.options import TaskOptions, check_setting, validated

OPTIONS = "options"
METHOD_OPTIONS = "method_options"
NESTED = ("column", OPTIONS, METHOD_OPTIONS)
FLAGS_ALONE = ("config", "output", "resume", "json")
"""What is no setting: it says where one run is written and how it is shown."""
COUNTS = "+counts"
"""What is added to a method's name where words are counted beside the model."""
PLACES = ("data", "validation", "test", "backbone")


def _place(place: Any, field: ValidationInfo) -> Any:
    """Return a path as text, as it was given. Raises UsageError for one that cannot be meant."""
    if not isinstance(place, str | PurePath):
        return place
    user_path(place, f"--{field.field_name}")
    return str(place)


def _held(data: Any, field: ValidationInfo) -> Any:
    """Return data that a program holds as such; a path as text."""
    held = InMemory.of(data)
    if held is None and not isinstance(data, str | PurePath):
        kind = {"kind": type(data).__name__}
        raise PydanticCustomError("data", "a {kind} is no path, no data frame, and no list of mappings", kind)
    return held or _place(data, field)


Place = Annotated[str, BeforeValidator(_place)]
# Of data that a program holds a description is recorded.
Data = Annotated[str | InstanceOf[InMemory], BeforeValidator(_held), PlainSerializer(str)]


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
    limit: int | None = Field(
        None, ge=2, description="Train on at most this many rows, and validate and test in proportion."
    )
    limit_validation: int | None = Field(None, ge=1, description="Validate on at most this many rows.")
    limit_test: int | None = Field(None, ge=1, description="Test on at most this many rows.")
    backbone: Place = Field("tiny", description="A preset, a folder, a GGUF file, or a hub id OWNER/NAME[@REVISION].")
    method: str = Field(
        "full",
        description="Which weights are trained: full, lora, head, or a plugin's; +counts counts words as well.",
    )
    backbone_by_reference: bool = Field(
        False, description="Keep where the backbone is, and its checksums, instead of its weights: head, lora."
    )
    keep_adapter: bool = Field(
        False, description="Keep what lora trained as a peft adapter, too: in adapter/, beside the merged model."
    )
    freeze_layers: int | None = Field(
        None, ge=0, description="Leave the embeddings and this many of the first layers as they are."
    )
    load_in: Literal["8bit", "4bit"] | None = Field(
        None, description="Train lora beside weights of 8 or 4 bits (QLoRA): bitsandbytes, on a GPU."
    )
    epochs: float | None = Field(
        None, gt=0, le=10_000, description="Passes over the training data; by default at least 100 updates."
    )
    learning_rate: float | None = Field(None, gt=0, le=1, description="The peak learning rate.")
    layer_lr_decay: float | None = Field(
        None, gt=0, le=1, description="A layer's learning rate is that of the layer above it times this."
    )
    warmup: float | None = Field(None, ge=0, lt=1, description="The share of all updates spent warming up.")
    weight_decay: float | None = Field(
        None, ge=0, le=1, description="AdamW's decoupled weight decay; of embedding rows, those of used tokens."
    )
    optimizer: Literal["adamw_torch_fused", "adafactor", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit"] = Field(
        "adamw_torch_fused", description="By transformers' name; 8bit and paged need bitsandbytes, and a GPU."
    )
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
    private: bool = Field(False, description="Keep no text of the data in the run, and no full paths.")
    options: dict[str, Any] = Field(
        {}, description="In a file: the task's own options, which can also be among the other settings."
    )
    method_options: dict[str, Any] = Field(
        {}, description="In a file: the method's own options, which can also be among the other settings."
    )

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def tuning(self) -> str:
        """The name of the method that trains the weights, without `+counts`."""
        return self.method.removesuffix(COUNTS)

    @property
    def counts(self) -> bool:
        """Whether counted words answer beside the model."""
        return self.method.endswith(COUNTS)

    @classmethod
    def restored(cls, values: Mapping[str, Any], origins: Mapping[str, str]) -> Self:
        """Return the configuration that run.json records, with its origins."""
        config = cls(**values)
        config._origins.update(origins)
        return config

    @contextmanager
    def named_by_origin(self) -> Iterator[None]:
        """Name the setting that an error begins with by its place in a file, where it is in one, and not as a flag."""
        try:
            yield
        except GptTasksError as error:
            found = re.match(r"--([a-z][a-z0-9-]*)(?: ([^ =]+)=)?", error.message)
            if found:
                name = found[1].replace("-", "_")
                places = (name, f"{OPTIONS}.{name}", f"{METHOD_OPTIONS}.{name}", f"{name}.{found[2]}")
                origins = [self._origins.get(full) for full in places]
                place = next(filter(None, origins), "given")
                if ":" in place:  # the others are words, as `given` and `default`
                    error.message = f"{place}: {name}{error.message[found.end(1) :]}"
            raise

    def recorded(self) -> dict[str, Any]:
        """Return what run.json records, as JSON values; of the paths of a private run only the last parts."""
        values = self.model_dump(mode="json")
        cut = {name: base_name(values[name]) for name in PLACES if self.private and values[name]}
        return {**values, **cut}

    def origins(self, method: Method, task: Task, parameters: int) -> dict[str, str]:
        """Return where the value of each setting comes from, as run.json records it: see `configured`.

        For a setting that was not given it is `method` or `task`, where these have a default for a backbone of this
        number of parameters, or `default`. A column and an option of the task are named as in `column.text`.
        """
        by_default = {
            **dict.fromkeys(method.defaults(parameters), "method"),
            **dict.fromkeys(task.defaults(method.name, parameters), "task"),
        }
        names = [name for name in FinetuneConfig.model_fields if name not in NESTED]
        names += [f"{nested}.{name}" for nested in NESTED for name in getattr(self, nested)]
        found = {name: self._origins.get(name) or by_default.get(name, "default") for name in names}
        return {name: PurePath(origin).name for name, origin in found.items()} if self.private else found


@dataclass(frozen=True)
class ConfigFile:
    """The settings that a configuration file holds, and where in it each of them is, as in `settings.yaml:3`."""

    settings: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)


def configured(settings: dict[str, Any], file: ConfigFile | None = None) -> FinetuneConfig:
    """Build the configuration from a file and from settings, which win.

    It remembers the origin of each value: `given`, or a place in the file. Raises UsageError naming the setting that is
    wrong, and the file that sets it.
    """
    file = file or ConfigFile()
    given = dict.fromkeys(_flat(settings), "given")
    places = {name: place for name, place in file.places.items() if name not in settings}
    config = validated(FinetuneConfig, merged(file.settings, settings), places)
    config._origins.update({**file.places, **given})
    return config


def merged(settings: dict[str, Any], winning: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with the winning ones in their place; columns and options are replaced one by one."""
    both = {**settings, **winning}
    for nested in NESTED:
        if isinstance(settings.get(nested), dict) and isinstance(winning.get(nested), dict):
            both[nested] = {**settings[nested], **winning[nested]}
    return both


def with_method_options(settings: dict[str, Any], methods: Mapping[str, Method]) -> dict[str, Any]:
    """Return settings with those that are options of methods, by whose names `methods` are, below `method_options`.

    The values are of the options' types where they can be: whoever resumes a run may give a number as text.
    """
    mine = {name: value for name, value in settings.items() if name in methods and value is not None}
    rest = {name: value for name, value in settings.items() if name not in methods}
    others = rest.get(METHOD_OPTIONS, {})
    if not isinstance(others, dict) or not (mine or others):
        return rest
    both = {**mine, **others}
    typed = {name: _typed(methods[name], name, value) if name in methods else value for name, value in both.items()}
    return {**rest, METHOD_OPTIONS: typed}


def _typed(method: Method, name: str, value: Any) -> Any:
    """Return the value of an option in its type, or as it is where it is no value of it: another error says so."""
    field = method.options.model_fields[name]
    kind: Any = Annotated[field.annotation, field]
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return value


def settings_of_files(options: type[TaskOptions], methods: Mapping[str, Method] | None = None) -> tuple[str, ...]:
    """Return the names that a YAML file may hold: the settings of every training, and the options of a task and of the
    methods.
    """
    return (*(methods or ()), *FinetuneConfig.model_fields, *options.model_fields)


def read_config(file: Path, options: type[TaskOptions], methods: Mapping[str, Method] | None = None) -> ConfigFile:
    """Read settings from a YAML file, a task's `options` under their names or under `options`.

    `methods` are those that have options, by the options' names: these stand likewise, or under `method_options`.

    Types are strict: a number is no text, and `yes` no boolean. Raises UsageError, naming the line, for a file that is
    missing or no mapping, and for a setting that is unknown, repeated, empty or of another type.
    """
    methods = methods or {}
    try:
        parsed = parse_yaml(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no configuration file {file}", "Check --config.") from None
    except YamlError as error:
        raise UsageError(f"--config {file}:{error.line or 1}: {error}", "Fix the YAML.") from None
    except (UnicodeDecodeError, OSError) as error:
        raise UsageError(f"--config {file} cannot be read: {' '.join(str(error).split())}", "Fix the file.") from None
    if not isinstance(parsed.value, dict):
        raise UsageError(f"--config {file} holds no settings", "Write one 'name: value' a line, as in 'epochs: 3'.")
    settings: dict[str, Any] = {}
    places: dict[str, str] = {}
    for key, value in parsed.value.items():
        name, place = str(key).replace("-", "_"), f"{file}:{parsed.lines.get(str(key), 1)}"
        if name in NESTED and not (isinstance(value, dict) and value):
            raise UsageError(f"{place}: {name} is no mapping", "Write its entries below it, as in 'text: review'.")
        is_option = name in options.model_fields
        for inner, each in value.items() if name in NESTED else [(name, value)]:
            home_of = OPTIONS if is_option else METHOD_OPTIONS if name in methods else ""
            full = f"{name}.{inner}" if name in NESTED else f"{home_of}.{name}" if home_of else name
            if full in places:
                raise UsageError(f"{place}: {inner} is given twice, first in {places[full]}", "Give it once.")
            if name in FLAGS_ALONE and not is_option:
                raise UsageError(f"{place}: {name} is no setting of a file", f"Give it as a flag: --{name}.")
            if name == "column":
                check_setting(FinetuneConfig, name, {inner: each}, place)
            else:
                model, known = _having(full, options, methods)
                check_setting(model, inner, each, place, known=known)
            places[full] = place
            home = settings.setdefault(full.partition(".")[0], {}) if "." in full else settings
            home[inner] = each
    return ConfigFile(settings, places)


def _having(
    name: str, options: type[TaskOptions], methods: Mapping[str, Method]
) -> tuple[type[BaseModel], Sequence[str]]:
    """Return the model that a setting is of, by its full name, and the names of all that could be meant."""
    home, _, option = name.rpartition(".")
    match home:
        case "options":
            return options, ()
        case "method_options":
            return methods[option].options if option in methods else MethodOptions, tuple(methods)
        case _:
            return FinetuneConfig, settings_of_files(options, methods)


def _flat(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of settings, those of columns and options as in `column.text`."""
    mappings = {name: settings[name] for name in NESTED if isinstance(settings.get(name), dict)}
    nested = [f"{name}.{inner}" for name, mapping in mappings.items() for inner in mapping]
    return [name for name, value in settings.items() if name not in NESTED and value is not None] + nested
