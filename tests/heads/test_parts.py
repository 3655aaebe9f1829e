"""Parts of a long example take no more memory than one, and have the gradients of the whole."""

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gpt_tasks.backbone.speed import drop
from gpt_tasks.heads.parts import in_parts


def test_parts_are_computed_again_with_the_same_random_numbers() -> None:
    torch.manual_seed(0)
    linear, inputs = nn.Linear(4, 3), torch.randn(6, 4)

    def read(part: int) -> tuple[Tensor, ...]:
        hidden = drop(linear(inputs[2 * part : 2 * part + 2]), 0.5)
        return hidden, hidden.square().sum()

    found = []
    for parts in (lambda: in_parts(read, 3, linear), lambda: kept(read)):
        torch.manual_seed(1)
        linear.zero_grad()
        rows, total = parts()
        after = torch.rand(1)
        (rows.mean() + total).backward()
        assert linear.weight.grad is not None
        found.append((rows.detach(), total.detach(), after, linear.weight.grad.clone()))
        # The backward pass draws no number that others would have drawn.
        assert torch.rand(1) != after
    for again, whole in zip(*found, strict=True):
        torch.testing.assert_close(again, whole)


def kept(read) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
    rows, totals = zip(*map(read, range(3)), strict=True)
    return torch.cat(rows), torch.stack(totals).sum()


def test_parameters_that_a_part_does_not_use_have_no_gradient() -> None:
    both = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)])
    (rows,) = in_parts(lambda part: (both[0](torch.ones(1, 2)),), 2, both)
    rows.sum().backward()
    assert both[0].weight.grad.tolist() == [[2, 2]]
    assert both[1].weight.grad is None


PEAK = """
import resource, torch
from transformers import GPT2Config, GPT2Model
from gpt_tasks.backbone.speed import keep_freed_memory
from gpt_tasks.heads.model import HeadModel
from gpt_tasks.heads.sequence import SequenceHead
keep_freed_memory()
shape = dict(n_embd=16, n_layer=2, n_head=4, n_positions=256, vocab_size=50, bos_token_id=0, eos_token_id=0)
loss = lambda logits, labels: torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
model = HeadModel(GPT2Model(GPT2Config(**shape)), SequenceHead(16, 2), loss, part_tokens=512).train()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for parts in (2, 60):
    ids = torch.ones(1, 2 * parts, 256, dtype=torch.long)
    model(ids, torch.ones_like(ids), labels=torch.tensor([1]))["loss"].backward()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_a_long_example_takes_no_more_memory_than_a_short_one(command_server: Any) -> None:
    two, many = map(int, command_server.run(code=PEAK).stdout.split())
    # The nodes of sixty graphs would keep it from using 200 MB again.
    assert many - two < 2**16, f"{many} KiB for 60 parts, {two} KiB for 2"
