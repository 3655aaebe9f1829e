"""Greedy continuations of contexts, up to a stop text, in batches padded on the left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
    StopStringCriteria,
)

from gpt_tasks.backbone.finite import FiniteLogits
from gpt_tasks.backbone.tokens import end_tokens
from gpt_tasks.scoring.model import ScoredModel
from gpt_tasks.tasks.encoding import pad_token
from gpt_tasks.types import Generation


@torch.inference_mode()
def generate(
    model: ScoredModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Generation],
    contexts: Sequence[tuple[int, ...]],
    batch_tokens: int,
) -> Iterator[tuple[int, str]]:
    """Yield each request's place and the text that the model writes, without the stop text, the longest contexts first.

    A batch holds requests that stop alike, at most `batch_tokens` of context and continuation.
    """
    order = sorted(
        range(len(requests)),
        key=lambda place: (requests[place].stop, requests[place].max_tokens, -len(contexts[place])),
    )
    batch: list[int] = []
    for place in order:
        if batch:
            first = requests[batch[0]]
            alike = (first.stop, first.max_tokens) == (requests[place].stop, requests[place].max_tokens)
            size = (len(contexts[batch[0]]) + first.max_tokens) * (len(batch) + 1)
            if not alike or size > batch_tokens:
                yield from _batch(model, tokenizer, requests, contexts, batch)
                batch = []
        batch.append(place)
    if batch:
        yield from _batch(model, tokenizer, requests, contexts, batch)


def _batch(
    model: ScoredModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Generation],
    contexts: Sequence[tuple[int, ...]],
    batch: list[int],
) -> Iterator[tuple[int, str]]:
    request, width = requests[batch[0]], len(contexts[batch[0]])
    ends = end_tokens(model.model, tokenizer)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    kept = torch.zeros_like(ids)
    for row, place in enumerate(batch):
        size = len(contexts[place])
        ids[row, width - size :] = torch.tensor(contexts[place])
        kept[row, width - size :] = 1
    criteria = [StopStringCriteria(tokenizer, list(request.stop))] if request.stop else []
    generated = model.model.generate(
        input_ids=ids.to(model.device),
        attention_mask=kept.to(model.device),
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=request.max_tokens,
            pad_token_id=pad_token(tokenizer),
            eos_token_id=sorted(ends) or None,
        ),
        logits_processor=LogitsProcessorList([FiniteLogits(str(model.model.name_or_path))]),
        stopping_criteria=StoppingCriteriaList(criteria),
    )
    for place, row in zip(batch, generated[:, width:].tolist(), strict=True):
        # Behind its end a row is padded, and not every end is a special token.
        written = list(takewhile(lambda token: token not in ends, row))
        text = str(tokenizer.decode(written, skip_special_tokens=True))
        for stop in requests[place].stop:
            text = text.split(stop, maxsplit=1)[0]
        yield place, text
