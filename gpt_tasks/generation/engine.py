"""What computes the tokens of a batch: transformers' own `generate`, for any model, or our own loop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gpt_tasks.backbone import speed
from gpt_tasks.backbone.finite import FiniteLogits, check_logits
from gpt_tasks.backbone.isolation import OwnGenerator
from gpt_tasks.backbone.precision import WritingPrecision
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.generation.packed import PackedDecoder, can_pack
from gpt_tasks.generation.rows import BatchOutputs
from gpt_tasks.tasks.encoding import pad_token

# Settings of a model's generation config that may be ignored: `Decoding` has them too, or they affect no token.
_HARMLESS = frozenset(
    [
        "_from_model_config",
        "bos_token_id",
        "do_sample",
        "eos_token_id",
        "max_length",
        "max_new_tokens",
        "num_beams",
        "num_return_sequences",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "repetition_penalty",
        "return_dict_in_generate",
        "temperature",
        "top_k",
        "top_p",
        "transformers_version",
        "use_cache",
    ]
)
# Finished rows are removed when the share of the others falls to this: copying these costs about one step.
_LEFT = 0.75


class Engine(Protocol):
    """Writes the texts of a batch."""

    @property
    def stays_in_window(self) -> bool:
        """Whether the whole batch must fit the window, because rows that are done are computed on until it ends."""
        ...

    def write(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, rows: BatchOutputs, generator: torch.Generator
    ) -> None:
        """Give `rows` the tokens after the prompts, a prompt's `num_return_sequences` rows one after the other.

        Sampling draws from `generator`.
        """
        ...

    def logits(self, tokens: Sequence[int]) -> Tensor:
        """Return the logits `[vocabulary]` of what comes after the tokens, in float32."""
        ...


class Generating:
    """Any causal language model, by transformers' `generate`."""

    stays_in_window = True

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, precision: str) -> None:
        self._model, self._tokenizer, self._precision = model, tokenizer, precision
        self._name = str(model.name_or_path)

    @torch.inference_mode()
    def write(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, rows: BatchOutputs, generator: torch.Generator
    ) -> None:
        """Write with all settings of `decoding`, beams too."""
        width = max(map(len, prompts))
        # A row is padded with its own first token, which is not seen, and changes nothing for a repetition penalty.
        ids = torch.tensor([[prompt[0]] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        kept = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        stopping: list[StoppingCriteria] = []
        drawing: dict[str, Any] = {}
        if decoding.num_beams == 1:
            stopping = [_Each(rows)]
        elif decoding.stop:
            stopping = [StopStringCriteria(self._tokenizer, list(decoding.stop))]
        if decoding.samples:
            drawing = {
                "temperature": 1.0 if decoding.temperature is None else decoding.temperature,
                "top_p": decoding.top_p or 1.0,
                "top_k": decoding.top_k or 0,
            }
        device = self._model.device
        with self._in_precision(), OwnGenerator(generator) if decoding.samples else nullcontext():
            found = self._model.generate(
                input_ids=ids.to(device),
                attention_mask=kept.to(device),
                generation_config=GenerationConfig(
                    do_sample=decoding.samples,
                    num_beams=decoding.num_beams,
                    max_new_tokens=max(rows.max_new_tokens),
                    num_return_sequences=decoding.num_return_sequences,
                    repetition_penalty=decoding.repetition_penalty,
                    pad_token_id=pad_token(self._tokenizer),
                    eos_token_id=sorted(rows.ends) or None,
                    **drawing,
                ),
                logits_processor=LogitsProcessorList([FiniteLogits(self._name)]),
                stopping_criteria=StoppingCriteriaList(stopping),
            )
        if decoding.num_beams > 1:
            for row, tokens in enumerate(found[:, width:].tolist()):
                any(rows.take(row, token) for token in tokens)

    @torch.inference_mode()
    def logits(self, tokens: Sequence[int]) -> Tensor:
        """Return the logits after the tokens."""
        with self._in_precision():
            found: Tensor = self._model(torch.tensor([list(tokens)], device=self._model.device)).logits
        return check_logits(self._name, found[0, -1].float())

    def _in_precision(self) -> AbstractContextManager[Any]:
        """Products in bfloat16, where that is asked for and the weights are in float32."""
        mixed = self._precision == "bf16" and self._model.dtype == torch.float32
        return torch.autocast(self._model.device.type, torch.bfloat16, enabled=mixed)


class _Each(StoppingCriteria):
    """Gives each row its token, and reports to `generate` which are done."""

    def __init__(self, rows: BatchOutputs) -> None:
        self._rows = rows

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Return which rows are done, `[rows]`."""
        done = [self._rows.take(row, token) for row, token in enumerate(input_ids[:, -1].tolist())]
        return torch.tensor(done, device=input_ids.device)


class CachedLoop:
    """A model that `can_loop`, with its weights at construction."""

    stays_in_window = False

    def __init__(self, model: Any, precision: WritingPrecision) -> None:
        speed.keep_freed_memory()  # each step takes as much as the one before, megabytes for logits
        self._decoder = PackedDecoder(model, precision)
        self._name = str(model.name_or_path)

    @torch.inference_mode()
    def write(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, rows: BatchOutputs, generator: torch.Generator
    ) -> None:
        """Write token by token; finished rows are removed."""
        copies = decoding.num_return_sequences
        standing = list(range(len(prompts) * copies))
        memory, logits = self._decoder.start(prompts, max(rows.max_new_tokens) - 1)
        if copies > 1:
            each = [row // copies for row in standing]
            memory.keep(each)
            logits = logits[torch.tensor(each)]
        choose = _Choice(prompts, decoding, generator)
        while True:
            tokens = choose(check_logits(self._name, logits))
            done = [rows.take(row, token) for row, token in zip(standing, tokens.tolist(), strict=True)]
            left = [place for place, is_done in enumerate(done) if not is_done]
            if not left:
                return
            if len(left) <= _LEFT * len(standing):
                memory.keep(left)
                choose.keep(left)
                standing, tokens = [standing[place] for place in left], tokens[left]
            logits = self._decoder.step(tokens, memory)

    @torch.inference_mode()
    def logits(self, tokens: Sequence[int]) -> Tensor:
        """Return the logits after the tokens."""
        _, logits = self._decoder.start([tokens], 0)
        return check_logits(self._name, logits[0])


def can_loop(model: Any) -> bool:
    """Whether `CachedLoop` writes what `generate` would: a plain decoder, whose config sets nothing unusual."""
    return can_pack(model) and not unsupported_settings(model)


def unsupported_settings(model: Any) -> list[str]:
    """Return the settings of a model's generation config that only `generate` supports."""
    asked = {name for name, value in model.generation_config.to_dict().items() if value is not None}
    return sorted(asked - _HARMLESS)


class _Choice:
    """Chooses the next token of each row from its logits, by transformers' own processors, as `generate` does."""

    def __init__(self, prompts: Sequence[Sequence[int]], decoding: Decoding, generator: torch.Generator) -> None:
        self._samples, self._generator = decoding.samples, generator
        self._processors = LogitsProcessorList()
        self._ids: Tensor | None = None
        if decoding.repetition_penalty != 1:
            self._processors.append(RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty))
            width = max(map(len, prompts))
            # Padding repeats a token that the prompt has anyway.
            padded = [[prompt[0]] * (width - len(prompt)) + list(prompt) for prompt in prompts]
            self._ids = torch.tensor(padded).repeat_interleave(decoding.num_return_sequences, 0)
        if decoding.samples:
            if decoding.temperature not in (None, 1):
                self._processors.append(TemperatureLogitsWarper(decoding.temperature))
            if decoding.top_k is not None:
                self._processors.append(TopKLogitsWarper(decoding.top_k))
            if decoding.top_p not in (None, 1):
                self._processors.append(TopPLogitsWarper(decoding.top_p))

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the tokens `[rows]`."""
        processors: Any = self._processors
        scores = processors(self._ids, logits)
        if self._samples:
            tokens: Tensor = scores.softmax(-1).multinomial(1, generator=self._generator)[:, 0]
        else:  # NumPy finds it in a tenth of the time that torch takes on a CPU
            tokens = torch.from_numpy(scores.numpy().argmax(-1))
        if self._ids is not None:
            self._ids = torch.cat([self._ids, tokens[:, None]], dim=1)
        return tokens

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows."""
        self._ids = None if self._ids is None else self._ids[torch.tensor(rows)]
