"""Muon orthogonalizes what it should and leaves the rest to AdamW."""

from __future__ import annotations

import torch

from gpt_tasks.backbone.shapes import Shape
from gpt_tasks.pretraining.optimizers import MuonAdamW, adamw_groups, muon_groups, orthogonalize
from gpt_tasks.pretraining.packed import build_gpt2

SHAPE = Shape(layers=2, heads=2, width=16, vocab_size=300, context=16)


def test_orthogonalizing_moves_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for rows, columns in ((16, 16), (16, 64), (64, 16)):
        found = orthogonalize(torch.randn(3, rows, columns), dtype=torch.float32)
        values = torch.linalg.svdvals(found)
        assert found.shape == (3, rows, columns)
        assert float(values.min()) > 0.3
        assert float(values.max()) < 1.3


def test_each_parameter_has_the_optimizer_it_needs() -> None:
    model = build_gpt2(SHAPE, end_of_text=0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = muon_groups(model, 0.02, 0.001, 0.1)
    owned = [[names[id(parameter)] for parameter in group["params"]] for group in groups]
    assert all(name.endswith("attn.c_attn.weight") for name in owned[0])
    assert groups[0]["blocks"] == 3
    assert all(name.startswith("transformer.h.") and "ln" not in name for name in owned[1])
    assert {"transformer.wte.weight", "transformer.wpe.weight", "transformer.ln_f.bias"} <= set(owned[2])
    assert sum(map(len, owned)) == len(names)


def test_the_three_projections_of_an_attention_are_orthogonalized_by_themselves() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(16, 48))
    optimizer = MuonAdamW([{"params": [weight], "muon": True, "blocks": 3, "lr": 1.0}])
    weight.grad = torch.cat([torch.randn(16, 16) * scale for scale in (1e-3, 1.0, 1e3)], dim=1)
    optimizer.step()
    for block in weight.detach().chunk(3, dim=1):
        assert 0.5 < float(torch.linalg.svdvals(block).mean()) < 1.2


def test_adamw_alone_steps_as_torch_does() -> None:
    torch.manual_seed(0)
    model, twin = build_gpt2(SHAPE, end_of_text=0), build_gpt2(SHAPE, end_of_text=0)
    twin.load_state_dict(model.state_dict())
    ours = MuonAdamW(adamw_groups(model, 0.01, 0.1))
    theirs = torch.optim.AdamW(
        [{key: value for key, value in group.items() if key in ("params", "lr", "weight_decay")} | {"eps": 1e-8}
         for group in adamw_groups(twin, 0.01, 0.1) for group in [{"weight_decay": 0.0} | group]],
        betas=(0.9, 0.95), fused=True,
    )  # fmt: skip
    ids = torch.randint(300, (2, 16))
    for _ in range(3):
        for each, optimizer in ((model, ours), (twin, theirs)):
            each(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, other)
