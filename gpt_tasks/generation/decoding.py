"""How the next token is chosen and when a text ends: the settings of generation, checked."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpt_tasks.errors import UsageError

NEW_TOKENS = 100
# Below it, logits divided by it leave the range of float32.
LEAST_TEMPERATURE = 1e-4


class Decoding(BaseModel):
    """The settings of generation. Without `temperature`, `top_p` and `top_k` the likeliest token is taken each time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_new_tokens: int | None = Field(
        None, ge=1, lt=2**31, description=f"The most tokens to write. Default: {NEW_TOKENS}."
    )
    max_length: int | None = Field(None, ge=1, lt=2**31, description="The most tokens of prompt and text together.")
    temperature: float | None = Field(
        None, ge=0, le=100, description="Draw tokens; below 1 the likely ones more often. 0 takes the likeliest."
    )
    top_p: float | None = Field(None, gt=0, le=1, description="Draw from the likeliest that together have this share.")
    top_k: int | None = Field(None, ge=1, lt=2**31, description="Draw from so many of the likeliest.")
    num_return_sequences: int = Field(1, ge=1, lt=2**31, description="So many texts for one prompt.")
    repetition_penalty: float = Field(
        1.0, ge=0.01, le=100, description="Above 1, tokens that already appear are less likely."
    )
    num_beams: int = Field(
        1, ge=1, le=1000, description="So many texts are followed at a time, to find a likelier one."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Draws the tokens.")
    stop: tuple[str, ...] = Field((), description="A text at which writing ends. Repeatable.")

    @classmethod
    def checked(cls, **settings: Any) -> Self:
        """Return the settings. Raises UsageError, naming the flag, for one that cannot be."""
        try:
            found = cls(**settings)
        except ValidationError as error:
            first = error.errors()[0]
            flag = str(first["loc"][0]).replace("_", "-")
            cause = f"{first['msg'][0].lower()}{first['msg'][1:]}"
            raise UsageError(f"--{flag} {first['input']}: {cause}", "See gpt-tasks generate --help") from error
        if not all(found.stop):
            raise UsageError("--stop: the text to stop at is empty", "Give some text, or leave it out.")
        if found.temperature and found.temperature < LEAST_TEMPERATURE:
            raise UsageError(
                f"--temperature {found.temperature:g} is below {LEAST_TEMPERATURE:g}: it draws the likeliest alone",
                "Give 0, which takes the likeliest, or more.",
            )
        if found.temperature == 0 and (found.top_p is not None or found.top_k is not None):
            useless = f"--top-k {found.top_k}" if found.top_p is None else f"--top-p {found.top_p}"
            raise UsageError(f"{useless} is of no use: --temperature 0 draws nothing", "Leave one out.")
        if "seed" in found.model_fields_set and not found.samples:
            raise UsageError(
                f"--seed {found.seed} draws tokens, and the likeliest are taken",
                "Leave it out, or give --temperature, --top-p or --top-k.",
            )
        if found.num_beams > 1 and found.samples:
            raise UsageError(
                f"{found._drawing()} is of no use: --num-beams {found.num_beams} looks for the likeliest text, and "
                "nothing is drawn",
                "Leave it out, or --temperature, --top-p and --top-k.",
            )
        if 1 < found.num_beams < found.num_return_sequences:
            raise UsageError(
                f"--num-return-sequences {found.num_return_sequences}: --num-beams {found.num_beams} finds no more",
                "Raise --num-beams.",
            )
        if found.num_return_sequences > 1 and found.num_beams == 1 and not found.samples:
            raise UsageError(
                f"--num-return-sequences {found.num_return_sequences}: without drawing, all would be the same",
                "Give --temperature, --top-p, --top-k or --num-beams.",
            )
        return found

    def _drawing(self) -> str:
        names = [name for name in ("temperature", "top_p", "top_k") if getattr(self, name) is not None]
        return f"--{names[0].replace('_', '-')} {getattr(self, names[0])}"

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn, rather than the likeliest taken."""
        return bool(self.temperature) or (self.temperature is None and (self.top_p or self.top_k) is not None)

    def longest(self, window: int | None) -> int | None:
        """Return the most tokens that prompt and text may have together; None where there is no limit."""
        return min((limit for limit in (self.max_length, window) if limit is not None), default=None)

    def room(self, prompt: int, window: int | None) -> int:
        """Return how many tokens may be written after a prompt of so many; below 1 where there is no room."""
        longest = self.longest(window)
        limits = [] if longest is None else [longest - prompt]
        if self.max_new_tokens is not None or self.max_length is None:
            limits.append(self.max_new_tokens or NEW_TOKENS)
        return min(limits)
