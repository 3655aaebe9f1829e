"""A language model that writes: texts after prompts, whole or as tokens come, and the likeliest next tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from gpt_tasks.backbone.isolation import evaluating
from gpt_tasks.backbone.load import load_backbone
from gpt_tasks.backbone.precision import in_precision, resolve_device, resolve_writing_precision
from gpt_tasks.backbone.tokens import end_tokens
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.generation.engine import CachedLoop, Engine, Generating, can_loop
from gpt_tasks.generation.int8 import int8_engine
from gpt_tasks.generation.rows import BatchOutputs, GeneratedText
from gpt_tasks.limits import machine_memory
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.progress import advance
from gpt_tasks.tasks.encoding import encode_text, start_of_text
from gpt_tasks.threads import LOADING

__all__ = ["GeneratedText", "Generator", "NextToken", "open_writer"]

BATCH_TOKENS = 8192
GREEDY = Decoding.checked()


@dataclass(frozen=True, slots=True)
class NextToken:
    """A token that may come next: its id, its text, and its probability."""

    id: int
    text: str
    probability: float


class Generator:
    """Writes with one causal language model, on its device and unchanged; `window` is the most tokens it reads."""

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        window: int | None,
        precision: str = "float32",
    ) -> None:
        self.tokenizer = tokenizer
        self.window = window
        self.precision = precision
        self._model = model
        self._ends = end_tokens(model, tokenizer)
        self._made: tuple[Engine, tuple[Any, ...]] | None = None

    def end_also_at(self, tokens: Iterable[int]) -> None:
        """End texts at these tokens too."""
        self._ends = self._ends.union(tokens)

    def write(
        self,
        prompts: Sequence[str],
        decoding: Decoding,
        *,
        on_text: Callable[[str], None] | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> list[list[GeneratedText]]:
        """Return the texts for each prompt, `num_return_sequences` of them.

        `on_text` gets the text as it comes, in pieces; it is for one prompt and one text. A batch holds at most
        `batch_tokens` tokens. Raises DataError for a prompt that leaves no room in the model's window.
        """
        encoded = [self._encoded(prompt) for prompt in prompts]
        return self.write_on(encoded, decoding, on_text=on_text, batch_tokens=batch_tokens)

    def write_on(
        self,
        encoded: Sequence[Sequence[int]],
        decoding: Decoding,
        *,
        on_text: Callable[[str], None] | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> list[list[GeneratedText]]:
        """Return the texts after each prompt's tokens, as `write` does."""
        if on_text is not None and (len(encoded) * decoding.num_return_sequences != 1 or decoding.num_beams > 1):
            raise ValueError("text can be shown as it comes for one prompt and one text only, without beams")
        max_new_tokens = [self._room(ids, decoding) for ids in encoded]
        self._check_size(encoded, max_new_tokens, decoding)
        found: list[list[GeneratedText]] = [[] for _ in encoded]
        copies = decoding.num_return_sequences
        generator = torch.Generator(self._model.device).manual_seed(decoding.seed)
        with evaluating(self._model):
            engine = self._engine_for(decoding)
            for batch in _batches(encoded, max_new_tokens, batch_tokens, decoding, self._bound(engine)):
                rows = BatchOutputs(
                    self.tokenizer,
                    [encoded[place] for place in batch for _ in range(copies)],
                    [max_new_tokens[place] for place in batch for _ in range(copies)],
                    ends=self._ends,
                    stop=decoding.stop,
                    on_text=on_text,
                )
                engine.write([encoded[place] for place in batch], decoding, rows, generator)
                texts = rows.written()
                for number, place in enumerate(batch):
                    found[place] = texts[number * copies : (number + 1) * copies]
                advance(len(batch))
        return found

    def next_tokens(self, text: str, number: int) -> list[NextToken]:
        """Return the likeliest next tokens after a text, the likeliest first."""
        ids = self._encoded(text)
        if self.window is not None and len(ids) > self.window:
            raise _too_long(len(ids), f"the model reads at most {self.window}")
        logits = self._engine_for(GREEDY).logits(ids)
        probabilities, tokens = logits.softmax(-1).topk(min(number, len(logits)))
        return [
            NextToken(token, self._text_of(token, ids), probability)
            for token, probability in zip(tokens.tolist(), probabilities.tolist(), strict=True)
        ]

    def _text_of(self, token: int, before: Sequence[int]) -> str:
        """Return the text of a token after others, which decide whether it begins with a space."""
        known, whole = (str(self.tokenizer.decode(list(ids))) for ids in (before, [*before, token]))
        return whole[len(known) :] if whole.startswith(known) else str(self.tokenizer.decode([token]))

    def _encoded(self, prompt: str) -> list[int]:
        return encode_text(self.tokenizer, prompt, control=True) or start_of_text(self.tokenizer)

    def _engine_for(self, decoding: Decoding) -> Engine:
        """Return the fastest engine; packed weights are packed again where they have changed since."""
        if decoding.num_beams > 1 and self.precision == "int8":
            raise UsageError("--precision int8 follows one text at a time", "Leave out --num-beams, or --precision.")
        if decoding.num_beams > 1:
            return Generating(self._model, self.tokenizer, self.precision)
        made_of = tuple((each.data_ptr(), _version(each)) for each in self._model.parameters())
        if self._made is None or self._made[1] != made_of:
            with LOADING:
                if self._made is None or self._made[1] != made_of:
                    self._made = _engine(self._model, self.tokenizer, self.precision), made_of
        return self._made[0]

    def _bound(self, engine: Engine) -> int | None:
        return self.window if engine.stays_in_window else None

    def _check_size(self, encoded: Sequence[Sequence[int]], room: Sequence[int], decoding: Decoding) -> None:
        """Raise UsageError for more texts of one prompt than the memory of this machine holds the states of."""
        config = self._model.config.get_text_config()
        copies = max(decoding.num_return_sequences, decoding.num_beams)
        longest = max((len(ids) + more for ids, more in zip(encoded, room, strict=True)), default=0)
        heads = getattr(config, "num_attention_heads", None) or 1
        share = (getattr(config, "num_key_value_heads", None) or heads) / heads
        layers, width = (getattr(config, name, 0) for name in ("num_hidden_layers", "hidden_size"))
        states = 2 * layers * width * share * self._model.dtype.itemsize
        needed, there = copies * (longest * states + 4 * config.vocab_size), machine_memory()
        if copies > 1 and needed > there:
            flag = "--num-beams" if decoding.num_beams > 1 else "--num-return-sequences"
            raise UsageError(
                f"{flag} {copies}: so many texts of {longest:,} tokens take {needed / 1e9:,.0f} GB, and this machine "
                f"has {there / 1e9:,.0f} GB",
                "Give fewer, or lower --max-new-tokens.",
            )

    def _room(self, ids: Sequence[int], decoding: Decoding) -> int:
        room = decoding.room(len(ids), self.window)
        if room < 1:
            longest = decoding.longest(self.window)
            raise _too_long(len(ids), f"prompt and text together may have {longest}")
        return room


def open_writer(
    model: str,
    *,
    device: str = "auto",
    precision: str = "auto",
    trust_remote_code: bool = False,
    verify: bool = True,
) -> Generator:
    """Load what a user names (a preset, a folder, a run or a hub id) and make a writer of it.

    Without `verify` the files of a run are taken as they are. Raises UsageError, ModelError or MachineError.
    """
    where = resolve_device(device)
    exact = resolve_writing_precision(precision, where)
    presets = installed_plugins().registry.backbones
    backbone = load_backbone(model, presets, trust_remote_code=trust_remote_code, verify=verify)
    causal_lm: Any = backbone.model
    moved = in_precision(causal_lm.to(where), "bf16" if exact == "bf16" else "float32").eval()
    return Generator(moved, backbone.tokenizer, window=backbone.context_length, precision=exact)


def _engine(model: Any, tokenizer: PreTrainedTokenizerBase, precision: str) -> Engine:
    if precision == "int8":
        return int8_engine(model, tokenizer)
    if can_loop(model):
        return CachedLoop(model, "bf16" if precision == "bf16" or model.dtype == torch.bfloat16 else "float32")
    return Generating(model, tokenizer, precision)


def _version(weight: torch.Tensor) -> int:
    """Return a number that changes whenever the weight does; of one that cannot change, 0."""
    return 0 if weight.is_inference() else weight._version


def _batches(
    encoded: Sequence[Sequence[int]],
    max_new_tokens: Sequence[int],
    batch_tokens: int,
    decoding: Decoding,
    bound: int | None,
) -> Iterator[list[int]]:
    """Cut prompts, the longest first, into batches that hold at most so many tokens when they are written.

    Where there is a `bound`, no batch is longer than that from its first token to its last.
    """
    each = max(decoding.num_return_sequences, decoding.num_beams)
    batch: list[int] = []
    longest = 0
    for place in sorted(range(len(encoded)), key=lambda place: -len(encoded[place])):
        if batch:
            longest = max(longest, max_new_tokens[place])
            width = len(encoded[batch[0]]) + longest
            too_long = bound is not None and width > bound
            # Beams know one length only.
            unlike = decoding.num_beams > 1 and max_new_tokens[place] != max_new_tokens[batch[0]]
            if too_long or unlike or width * (len(batch) + 1) * each > batch_tokens:
                yield batch
                batch = []
        if not batch:
            longest = max_new_tokens[place]
        batch.append(place)
    if batch:
        yield batch


def _too_long(tokens: int, limit: str) -> DataError:
    return DataError(f"The prompt has {tokens:,} tokens, and {limit}", "Shorten it, or take a model with more room.")
