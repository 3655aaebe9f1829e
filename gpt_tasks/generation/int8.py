"""Writing with weights of 8 bits: in our own loop where that knows the model, by CTranslate2 for other models."""

from __future__ import annotations

import copy
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from gpt_tasks.backbone.quiet import quiet_transformers
from gpt_tasks.errors import ModelError, UsageError
from gpt_tasks.files import temporary_folder
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.generation.engine import CachedLoop, Engine, can_loop, unsupported_settings
from gpt_tasks.generation.linear_kernels import multiplies_int8
from gpt_tasks.generation.rows import BatchOutputs
from gpt_tasks.threads import Lock

_SAMPLE = 16
# On this many random tokens in a row, log-probabilities must correlate this much with the model's own.
_ALIKE = 0.95


def int8_engine(model: Any, tokenizer: PreTrainedTokenizerBase) -> Engine:
    """Return the engine that writes with the model in int8.

    Raises UsageError where that is CTranslate2 and it is not installed, ModelError where it cannot convert the model.
    """
    if can_loop(model) and multiplies_int8():
        return CachedLoop(model, "int8")
    return Translated(model, tokenizer)


class Translated:
    """A causal language model as CTranslate2 computes it, with its weights at construction."""

    stays_in_window = False

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        try:
            import ctranslate2
            from ctranslate2.converters import TransformersConverter
        except ImportError as error:
            raise UsageError(
                f"{_CULPRIT}: a model of type '{model.config.model_type}' needs CTranslate2 for that here",
                "pip install 'gpt-tasks[int8]'",
            ) from error
        wishes = unsupported_settings(model)
        if wishes:
            raise ModelError(f"{_CULPRIT}: the model's generation config asks for {', '.join(wishes)}", _WAY_OUT)
        self._tokenizer = tokenizer
        self._library: Any = ctranslate2
        self._folder = tempfile.TemporaryDirectory(prefix="gpt-tasks-int8-")
        with temporary_folder() as whole, quiet_transformers():
            model.save_pretrained(whole)
            known: Any = copy.deepcopy(tokenizer)
            # The converter wants a token for what is unknown, also where nothing is.
            known.unk_token = known.unk_token or known.eos_token or known.pad_token
            known.save_pretrained(whole)
            try:
                TransformersConverter(str(whole)).convert(self._folder.name, quantization="int8", force=True)
                self._generator = self._opened()
                likeness = self._likeness(model)
            except Exception as error:
                cause = str(error).partition(" (")[0].partition("\n")[0]
                raise ModelError(f"{_CULPRIT}: CTranslate2 cannot convert this model: {cause}", _WAY_OUT) from error
        # The converter does not know all settings of all models, and does not check them.
        if not likeness > _ALIKE:
            raise ModelError(f"{_CULPRIT}: CTranslate2 does not reproduce this model's outputs", _WAY_OUT)

    def write(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, rows: BatchOutputs, generator: torch.Generator
    ) -> None:
        """Write with all settings of `decoding`, except beams."""
        if not decoding.samples:
            self._write_alike(self._generator, prompts, decoding, rows)
            return
        # The seed is the whole library's, and applies to new threads: running ones would continue their random state.
        with _SEEDED:
            self._library.set_random_seed(int(torch.randint(2**31, (), generator=generator)))
            self._write_alike(self._opened(), prompts, decoding, rows)

    def _write_alike(
        self, writer: Any, prompts: Sequence[Sequence[int]], decoding: Decoding, rows: BatchOutputs
    ) -> None:
        copies = decoding.num_return_sequences
        alike: defaultdict[int, list[int]] = defaultdict(list)
        for row in range(len(prompts) * copies):
            alike[len(prompts[row // copies])].append(row)
        # Of prompts of several lengths, it would hand over parts as if they had been written.
        for numbers in alike.values():
            self._write(writer, [prompts[row // copies] for row in numbers], numbers, decoding, rows)

    def _write(
        self,
        writer: Any,
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[int],
        decoding: Decoding,
        rows: BatchOutputs,
    ) -> None:
        writer.generate_batch(
            list(map(self._tokens, prompts)),
            max_length=max(rows.max_new_tokens[row] for row in numbers),
            end_token=sorted(rows.ends) or None,
            return_end_token=True,
            include_prompt_in_result=False,
            repetition_penalty=decoding.repetition_penalty,
            sampling_temperature=decoding.temperature or 1.0,
            sampling_topk=(decoding.top_k or 0) if decoding.samples else 1,
            sampling_topp=(decoding.top_p or 1.0) if decoding.samples else 1.0,
            callback=lambda step: rows.take(numbers[step.batch_id], step.token_id),
        )

    def logits(self, tokens: Sequence[int]) -> Tensor:
        """Return the logits after the tokens."""
        return self.all_logits(tokens)[-1]

    def _opened(self) -> Any:
        return self._library.Generator(self._folder.name, compute_type="int8", intra_threads=torch.get_num_threads())

    def all_logits(self, tokens: Sequence[int]) -> Tensor:
        """Return the logits `[tokens, vocabulary]` of what comes after each token of one text."""
        return torch.from_numpy(np.array(self._generator.forward_batch([self._tokens(tokens)])))[0]

    def _tokens(self, ids: Sequence[int]) -> list[str]:
        tokenizer: Any = self._tokenizer
        found: list[str] = tokenizer.convert_ids_to_tokens(list(ids))
        return found

    @torch.inference_mode()
    def _likeness(self, model: Any) -> float:
        """Return the correlation of log-probabilities with the model's own."""
        ids = torch.randint(len(self._tokenizer), (_SAMPLE,), generator=torch.Generator().manual_seed(0))
        both = torch.stack([self.all_logits(ids.tolist()), model(ids[None]).logits[0].float()])
        return float(torch.corrcoef(both.log_softmax(-1).flatten(1))[0, 1])


_SEEDED = Lock()
_CULPRIT, _WAY_OUT = "--precision int8", "Take --precision auto."
