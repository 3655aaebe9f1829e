"""The settings of a pretraining, their record in the output folder, and what a resume may change of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from gpt_tasks.backbone.shapes import SHAPES, Shape
from gpt_tasks.backbone.verify import PRETRAIN_RECORD as RECORD
from gpt_tasks.errors import ModelError, UsageError
from gpt_tasks.files import write_json
from gpt_tasks.limits import machine_memory
from gpt_tasks.paths import OutputFolder, free_folder, user_path
from gpt_tasks.saved_json import first_fault, read_json

BUDGETS = ("epochs", "tokens", "minutes")
# What the modules of one block take besides their weights.
BYTES_OF_A_BLOCK = 20_000
SCHEMA_VERSION = 1


class PretrainConfig(BaseModel):
    """The settings of one pretraining."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    text: list[Path] = Field(min_length=1, description="A file, folder or glob of .txt or .jsonl, also .gz or .xz.")
    output: Path = Field(description="Folder for the model, its checkpoints and its card.")
    validation: Path | None = Field(None, description="A held-out text, to measure bits per byte on.")
    preset: str = Field("tiny", description="The model's shape, of which the next five replace parts.")
    layers: int | None = Field(None, ge=1, description="Blocks.")
    heads: int | None = Field(None, ge=1, description="Attention heads; they divide the width.")
    width: int | None = Field(None, ge=1, description="Hidden dimensions.")
    vocab_size: int | None = Field(None, ge=258, description="Entries of the byte-level BPE vocabulary.")
    context: int | None = Field(None, ge=8, description="Tokens in a window.")
    epochs: float | None = Field(None, gt=0, le=10_000, description="Budget in passes over the text. Default: 1.")
    tokens: int | None = Field(None, ge=1, le=10**15, description="Budget in tokens.")
    minutes: float | None = Field(None, gt=0, le=10**7, description="Budget in minutes: the speed is measured first.")
    optimizer: Literal["muon", "adamw"] = Field("muon", description="muon: for matrices, with AdamW for the rest.")
    batch_tokens: int = Field(8192, ge=1, description="Tokens of one update, over all processes.")
    accumulate: int = Field(1, ge=1, description="Parts in which each process computes its share of an update.")
    learning_rate: float = Field(5e-3, gt=0, le=1, description="AdamW's peak learning rate.")
    muon_learning_rate: float = Field(0.02, gt=0, le=1, description="Muon's peak learning rate.")
    warmup: float = Field(0.02, ge=0, lt=1, description="The share of all updates spent warming up.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="Decoupled weight decay of the matrices.")
    seed: int = Field(0, ge=0, lt=2**32, description="Draws the first weights and the order of the text.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where to compute.")
    precision: Literal["auto", "float32", "bf16"] = Field("auto", description="auto: bf16 where it is native.")
    checkpoint_steps: int | None = Field(
        None, ge=1, description="Updates between checkpoints. Default: a twentieth of all."
    )
    evaluate_steps: int | None = Field(
        None, ge=1, description="Updates between validations. Default: a twentieth of all."
    )
    prompt: list[str] = Field(["The"], description="The beginning of a sample printed after each validation.")
    about_text: Path | None = Field(None, description="Markdown for the card: the text's origin and licence.")
    resume: bool = Field(False, exclude=True, description="Continue in --output from the last checkpoint.")

    @field_validator("text", "output", "validation", "about_text", mode="before")
    @classmethod
    def _as_meant(cls, given: Any, field: ValidationInfo) -> Any:
        flag = f"--{str(field.field_name).replace('_', '-')}"
        if isinstance(given, list):
            return [str(user_path(each, flag)) if isinstance(each, str | Path) else each for each in given]
        return str(user_path(given, flag)) if isinstance(given, str | Path) else given

    def shape(self) -> Shape:
        """The preset's shape with what was set in its place. Raises UsageError where the parts do not fit."""
        if self.preset not in SHAPES:
            raise UsageError(f"--preset {self.preset}: no such shape", f"Choose one of {', '.join(SHAPES)}")
        own = {name: value for name in Shape.model_fields if (value := getattr(self, name)) is not None}
        shape = SHAPES[self.preset].model_copy(update=own)
        if shape.width % shape.heads:
            raise UsageError(
                f"--width {shape.width} is not divisible by --heads {shape.heads}",
                f"Try --width {(shape.width // shape.heads + 1) * shape.heads}",
            )
        return shape

    def budget(self) -> dict[str, float]:
        """The budgets that are set, by name: one at most, where `check` raises nothing."""
        return {name: value for name in BUDGETS if (value := getattr(self, name)) is not None}

    def check(self) -> None:
        """Raise UsageError for settings that do not go together."""
        if len(self.budget()) > 1:
            given = " and ".join(f"--{name} {value:g}" for name, value in self.budget().items())
            raise UsageError(f"{given}: --epochs, --tokens and --minutes are three budgets", "Give one of them")
        least = self.shape().context * self.accumulate
        if self.batch_tokens < least:
            raise UsageError(f"--batch-tokens {self.batch_tokens} holds no window", f"Give at least {least}")
        self._check_size()
        if self.about_text is not None:
            read_about(self.about_text)

    def _check_size(self) -> None:
        """Raise UsageError for a model that this machine's memory cannot hold while it is trained."""
        shape = self.shape()
        # On a CPU weights, gradients and two averages are there at a time, elsewhere the weights.
        held = 16 if self.device == "cpu" else 4
        needed, there = held * shape.parameters + BYTES_OF_A_BLOCK * shape.layers, machine_memory()
        if needed > there:
            sizes = ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in shape.model_dump().items())
            raise UsageError(
                f"A model of {sizes} has {shape.parameters:,} parameters, which take {needed / 1e9:,.0f} GB: this "
                f"machine has {there / 1e9:,.0f} GB",
                "Give a smaller shape.",
            )

    def refuse_useless(self) -> None:
        """Raise UsageError for a setting that is given and has no effect."""
        useless = {
            "muon_learning_rate": (self.optimizer != "muon", "is for --optimizer muon"),
            "evaluate_steps": (self.validation is None, "is for --validation"),
        }
        for name, (without_effect, why) in useless.items():
            if without_effect and name in self.model_fields_set and getattr(self, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')} {why}: {getattr(self, name)}", "Leave it out")


class _Record(BaseModel):
    """What the record of a pretraining holds."""

    config: PretrainConfig
    steps: int | None
    folder: Path | None = None


def read_about(file: Path) -> str:
    """Read what the card says of the text. Raises UsageError where it is no text."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"--about-text {file} cannot be read: {cause}", "Give a file of Markdown") from error


def begin(config: PretrainConfig) -> tuple[PretrainConfig, int | None]:
    """Open the output folder; return the settings to train with, and the number of updates where it is known already.

    A resume takes what was recorded: the device and the precision may change, and another budget counts from the last
    checkpoint on; the same one changes nothing. Raises UsageError for anything else that differs, and for a folder that
    is in use.
    """
    record = config.output / RECORD
    if not config.resume:
        config.refuse_useless()
        config.check()
        if record.is_file():
            raise UsageError(
                f"--output {config.output} holds a pretraining", "Give --resume to continue in it, or another folder."
            )
        free_folder(config.output)
        OutputFolder.of(config.output).make()
        write_record(config, None)
        return config, None
    if not record.is_file():
        raise UsageError(f"--resume: {config.output} holds no pretraining", "Leave --resume out to begin one there")
    again = "Begin again in another folder"
    recorded = read_json(record, again)
    if recorded.get("schema_version") != SCHEMA_VERSION:
        raise ModelError(
            f"{record}: schema version {recorded.get('schema_version')!r:.20}, and this is {SCHEMA_VERSION}",
            "Resume it with the version of gpt-tasks that began it",
        )
    try:
        whole = _Record.model_validate(recorded)
    except ValidationError as error:
        raise ModelError(f"{record}: {first_fault(error)}", again) from error
    kept, steps, here = whole.config, whole.steps, config
    if whole.folder not in (None, Path.cwd()):
        kept, here = _placed(kept, whole.folder), _placed(config, Path.cwd())
    budget = config.budget()
    free = {"device", "precision", "about_text", "prompt"}
    for name in sorted(config.model_fields_set - {*free, *BUDGETS, "output", "resume"}):
        if getattr(here, name) != getattr(kept, name):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"--resume: {flag} was {_shown(getattr(kept, name))}", "Leave it out, or begin anew")
    changed: dict[str, Any] = {"output": config.output, "resume": True}
    changed |= {name: getattr(config, name) for name in free & config.model_fields_set}
    if budget not in ({}, kept.budget() or {"epochs": 1}):
        changed, steps = {**changed, **dict.fromkeys(BUDGETS), **budget}, None
    kept = kept.model_copy(update=changed)
    kept.check()
    return kept, steps


def write_record(config: PretrainConfig, steps: int | None) -> None:
    """Record the settings, and the number of updates once it is fixed, whole or not at all."""
    settings, folder = config.model_dump(mode="json"), str(Path.cwd())
    content = {"schema_version": SCHEMA_VERSION, "config": settings, "steps": steps, "folder": folder}
    write_json(config.output / RECORD, content)


def _placed(config: PretrainConfig, folder: Path) -> PretrainConfig:
    """Return settings whose relative paths begin in a folder."""
    paths = {name: getattr(config, name) for name in ("validation", "about_text")}
    placed = {name: (folder / path).resolve() for name, path in paths.items() if path is not None}
    return config.model_copy(update={"text": [(folder / path).resolve() for path in config.text], **placed})


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
