"""A language model that writes: texts after prompts, whole or as tokens come, and the likeliest next tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from gpt_tasks.backbone.load import load_backbone
from gpt_tasks.backbone.precision import resolve_device, resolve_precision
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.generation.ends import end_tokens
from gpt_tasks.generation.text import TextStream
from gpt_tasks.plugins import installed_plugins

BATCH_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Written:
    """A text that was written after a prompt: of so many `tokens`, and why it ended.

    `finish` is `end` where the model ended it, `stop` where a stop text came (which is not part of it), `length` where
    the most tokens were reached.
    """

    text: str
    tokens: int
    finish: Literal["end", "stop", "length"]


@dataclass(frozen=True, slots=True)
class NextToken:
    """A token that may come next: its id, the text it stands for, and its probability."""

    id: int
    text: str
    probability: float


class Writer:
    """Writes with one causal language model, where it stands and as it is; `window` is the most tokens it reads."""

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, *, window: int | None, precision: str = "float32"
    ) -> None:
        self.tokenizer = tokenizer
        self.window = window
        self.precision = precision
        self._model = model
        self._ends = end_tokens(model, tokenizer)

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
    ) -> list[list[Written]]:
        """Return the texts for each prompt, `num_return_sequences` of them.

        `on_text` gets the text as it comes, in pieces; it is for one prompt and one text. A batch holds at most
        `batch_tokens` tokens. Raises DataError for a prompt that leaves no room in the model's window.
        """
        if on_text is not None and len(prompts) * decoding.num_return_sequences != 1:
            raise ValueError("text can be shown as it comes for one prompt and one text only")
        encoded = [self._encoded(prompt) for prompt in prompts]
        return self.write_on(encoded, decoding, on_text=on_text, batch_tokens=batch_tokens)

    def write_on(
        self,
        encoded: Sequence[Sequence[int]],
        decoding: Decoding,
        *,
        on_text: Callable[[str], None] | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> list[list[Written]]:
        """Return the texts after each prompt's tokens, as `write` does."""
        rooms = [self._room(ids, decoding) for ids in encoded]
        found: list[list[Written]] = [[] for _ in encoded]
        was_training = self._model.training
        self._model.eval()
        try:
            with self._in_precision(), torch.random.fork_rng():
                torch.manual_seed(decoding.seed)
                for batch in _batches(encoded, rooms, batch_tokens, decoding.num_return_sequences):
                    prompts = [(place, encoded[place]) for place in batch]
                    for place, written in self._batch(prompts, rooms, decoding, on_text):
                        found[place].append(written)
        finally:
            self._model.train(was_training)
        return found

    @torch.inference_mode()
    def next_tokens(self, text: str, number: int) -> list[NextToken]:
        """Return the likeliest next tokens after a text, the likeliest first."""
        ids = self._encoded(text)
        if self.window is not None and len(ids) > self.window:
            raise _too_long(len(ids), f"the model reads at most {self.window}")
        with self._in_precision():
            logits = self._model(torch.tensor([ids], device=self._model.device)).logits[0, -1].float()
        probabilities, tokens = logits.softmax(-1).topk(min(number, len(logits)))
        return [
            NextToken(token, str(self.tokenizer.decode([token])), probability)
            for token, probability in zip(tokens.tolist(), probabilities.tolist(), strict=True)
        ]

    def _encoded(self, prompt: str) -> list[int]:
        ids: list[int] = self.tokenizer(prompt, verbose=False)["input_ids"]
        if ids:
            return ids
        start = self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.tokenizer.eos_token_id
        if start is None:
            raise UsageError("An empty prompt: this model has no token that stands before a text", "Give some text.")
        return [start]

    def _in_precision(self) -> AbstractContextManager[Any]:
        """Products in bfloat16, where that is asked for and the weights are kept in float32."""
        mixed = self.precision == "bf16" and self._model.dtype == torch.float32
        return torch.autocast(self._model.device.type, torch.bfloat16, enabled=mixed)

    def _room(self, ids: Sequence[int], decoding: Decoding) -> int:
        room = decoding.room(len(ids), self.window)
        if room < 1:
            longest = decoding.longest(self.window)
            raise _too_long(len(ids), f"prompt and text together may have {longest}")
        return room

    @torch.inference_mode()
    def _batch(
        self,
        prompts: Sequence[tuple[int, Sequence[int]]],
        rooms: Sequence[int],
        decoding: Decoding,
        on_text: Callable[[str], None] | None,
    ) -> Iterator[tuple[int, Written]]:
        width, copies = max(len(ids) for _, ids in prompts), decoding.num_return_sequences
        input_ids = torch.full((len(prompts), width), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(input_ids)
        for row, (_, ids) in enumerate(prompts):
            input_ids[row, width - len(ids) :] = torch.tensor(list(ids))
            mask[row, width - len(ids) :] = 1
        rows = [(place, ids) for place, ids in prompts for _ in range(copies)]
        streams = [TextStream(self.tokenizer, ids, decoding.stop) for _, ids in rows]
        watch = _Watch(streams, [rooms[place] for place, _ in rows], self._ends, on_text)
        drawing: dict[str, Any] = {}
        if decoding.samples:
            drawing = {
                "temperature": 1.0 if decoding.temperature is None else decoding.temperature,
                "top_p": decoding.top_p or 1.0,
                "top_k": decoding.top_k or 0,
            }
        self._model.generate(
            input_ids=input_ids.to(self._model.device),
            attention_mask=mask.to(self._model.device),
            generation_config=GenerationConfig(
                do_sample=decoding.samples,
                max_new_tokens=max(rooms[place] for place, _ in prompts),
                num_return_sequences=copies,
                repetition_penalty=decoding.repetition_penalty,
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=sorted(self._ends) or None,
                **drawing,
            ),
            stopping_criteria=StoppingCriteriaList([watch]),
        )
        for (place, _), stream, ended in zip(rows, streams, watch.ended, strict=True):
            rest = stream.finish()
            if on_text is not None and rest:
                on_text(rest)
            yield place, Written(stream.text, stream.tokens, "stop" if stream.stopped else "end" if ended else "length")


class _Watch(StoppingCriteria):
    """Turns tokens into text as they come, and ends each row by itself: at a stop text, at its end, at its length."""

    def __init__(
        self,
        streams: Sequence[TextStream],
        rooms: Sequence[int],
        ends: frozenset[int],
        on_text: Callable[[str], None] | None,
    ) -> None:
        self.ended = [False] * len(streams)
        self._done = [False] * len(streams)
        self._streams, self._rooms, self._ends, self._on_text = streams, rooms, ends, on_text

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Return which rows are done, `[rows]`."""
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if self._done[row]:
                continue
            stream = self._streams[row]
            if token in self._ends:
                self.ended[row] = self._done[row] = True
                continue
            piece = stream.push(token)
            if piece and self._on_text is not None:
                self._on_text(piece)
            self._done[row] = stream.stopped or stream.tokens >= self._rooms[row]
        return torch.tensor(self._done, device=input_ids.device)


def open_writer(
    model: str, *, device: str = "auto", precision: str = "auto", trust_remote_code: bool = False
) -> Writer:
    """Load what a user names (a preset, a folder, a run or a hub id) and make a writer of it.

    Raises UsageError, ModelError or MachineError.
    """
    where = resolve_device(device)
    exact = resolve_precision(precision, where)
    backbone = load_backbone(model, installed_plugins().registry.backbones, trust_remote_code=trust_remote_code)
    causal_lm: Any = backbone.model
    moved = causal_lm.to(where, torch.bfloat16 if exact == "bf16" else torch.float32).eval()
    return Writer(moved, backbone.tokenizer, window=backbone.context_length, precision=exact)


def _batches(
    encoded: Sequence[Sequence[int]], rooms: Sequence[int], batch_tokens: int, copies: int
) -> Iterator[list[int]]:
    """Cut prompts, the longest first, into batches that hold at most so many tokens when they are written."""
    batch: list[int] = []
    longest = 0
    for place in sorted(range(len(encoded)), key=lambda place: -len(encoded[place])):
        longest = max(longest, rooms[place])
        if batch and (len(encoded[batch[0]]) + longest) * (len(batch) + 1) * copies > batch_tokens:
            yield batch
            batch, longest = [], rooms[place]
        batch.append(place)
    if batch:
        yield batch


def _too_long(tokens: int, limit: str) -> DataError:
    return DataError(f"The prompt has {tokens:,} tokens, and {limit}", "Shorten it, or take a model with more room.")
