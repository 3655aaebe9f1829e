"""A backbone with its head: padding, batch-mates, pooling, the loss, and the folder that holds it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import BaseModelOutput

from gpt_tasks.backbone.load import open_backbone
from gpt_tasks.backbone.locate import Location
from gpt_tasks.errors import DataError, GptTasksError, MachineError, ModelError, PluginError
from gpt_tasks.extensions import HeadSpec, Method
from gpt_tasks.heads import register_heads
from gpt_tasks.heads.model import HeadModel
from gpt_tasks.heads.saved import TaskRecord, load_model, save_model
from gpt_tasks.heads.sequence import Features, PooledHead, SequenceHead, pool_last
from gpt_tasks.learners import register_learners
from gpt_tasks.learners.span import SpanLearner
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.training.loading import load_learner
from gpt_tasks.training.run_folder import RunFolder

HEADS: dict[str, HeadSpec] = {kind.name: kind for kind in register_heads()}
OF_TEXTS = ("sequence", "pooled")
RECORD = TaskRecord(
    task="mood",
    plugin="gpt-tasks-mood",
    plugin_version="1.2",
    head="sequence",
    outputs=3,
    state={"labels": ["glad", "sad", "so-so"], "prompt": "{text}"},
)
PAD = 0
TEXTS = [[3, 7, 1, 9, 4], [5, PAD, 8], [6], [PAD, 2, 2, PAD], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]]
SHAPE: dict[str, Any] = {"vocab_size": 50, "bos_token_id": PAD, "eos_token_id": PAD}
GPT_SHAPE = {**SHAPE, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
NEW_SHAPE = {
    **SHAPE,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}
ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT_SHAPE)),
    "openai-gpt": lambda: OpenAIGPTLMHeadModel(OpenAIGPTConfig(**GPT_SHAPE)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**NEW_SHAPE)),
    "gpt-neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**NEW_SHAPE)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**NEW_SHAPE, ffn_dim=32, word_embed_proj_dim=8, pad_token_id=PAD)),
    "bloom": lambda: BloomForCausalLM(BloomConfig(**SHAPE, hidden_size=16, n_layer=2, n_head=2)),
}


def padded(texts: list[list[int]], length: int, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    ids, mask = torch.full((len(texts), length), PAD), torch.zeros(len(texts), length, dtype=torch.long)
    for row, text in enumerate(texts):
        where = slice(length - len(text), None) if left else slice(len(text))
        ids[row, where] = torch.tensor(text)
        mask[row, where] = 1
    return ids, mask


@pytest.fixture(params=OF_TEXTS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=ARCHITECTURES)
def model(request: pytest.FixtureRequest, kind: str) -> HeadModel:
    torch.manual_seed(0)
    causal_lm = ARCHITECTURES[request.param]()
    # Larger than a fresh model's, so that a wrong position or a leak of padding shows in the logits.
    for parameter in causal_lm.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    width = causal_lm.get_output_embeddings().weight.shape[1]
    head = HEADS[kind].build(width, 3)
    head.linear.weight.data.normal_()
    return HeadModel(causal_lm.base_model, head, summed).eval()


def test_padding_and_batch_mates_change_no_logit(model: HeadModel) -> None:
    """In float32, to 1e-5 of logits that are of the order of one."""
    with torch.no_grad():
        alone = torch.cat([model(*padded([text], len(text), left=False))["logits"] for text in TEXTS])
        assert alone.abs().max() > 0.5
        assert torch.cdist(alone, alone).fill_diagonal_(1).min() > 0.01
        for left in (False, True):
            for length in (11, 17):
                for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
                    batch = padded([TEXTS[index] for index in order], length, left)
                    torch.testing.assert_close(model(*batch)["logits"], alone[order], atol=1e-5, rtol=1e-5)


def test_the_gradients_do_not_depend_on_the_padding_side(model: HeadModel) -> None:
    gradients = []
    for left in (False, True):
        model.zero_grad()
        model(*padded(TEXTS, 13, left), labels=torch.tensor([0, 1, 2, 0, 1]))["loss"].backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("left", [False, True])
def test_pooling_goes_by_the_mask_where_padding_and_end_of_text_are_one_token(left: bool) -> None:
    texts = [[5, PAD, 8], [5, 8, PAD], [PAD], [PAD, PAD, 4, PAD, PAD]]
    ids, mask = padded(texts, 7, left)
    hidden = torch.arange(4 * 7, dtype=torch.float).reshape(4, 7, 1)
    expected = [7 * row + (6 if left else len(text) - 1) for row, text in enumerate(texts)]
    assert pool_last(hidden, mask).flatten().tolist() == expected
    assert Features(SequenceHead(1, 3))(hidden, mask).flatten().tolist() == expected
    means = [7 * row + (6 - (len(text) - 1) / 2 if left else (len(text) - 1) / 2) for row, text in enumerate(texts)]
    pooled = Features(PooledHead(1, 3))(hidden, mask)
    assert pooled.tolist() == [list(pair) for pair in zip(expected, means, strict=True)]
    assert ids.shape == mask.shape


def test_a_row_without_tokens_is_an_error() -> None:
    with pytest.raises(DataError, match="Example 1 of the batch has no tokens"):
        pool_last(torch.zeros(2, 3, 4), torch.tensor([[1, 0, 0], [0, 0, 0]]))


def summed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")


def gpt2() -> HeadModel:
    torch.manual_seed(0)
    return HeadModel(ARCHITECTURES["gpt2"]().base_model, SequenceHead(16, 3), summed).eval()


def test_the_loss_of_an_accumulated_batch_is_that_of_the_whole() -> None:
    model, labels = gpt2(), torch.tensor([0, 1, 2, -100, 1])
    whole = model(*padded(TEXTS, 11, False), labels=labels)["loss"]
    parts = [
        model(*padded(TEXTS[part], 11, False), labels=labels[part], num_items_in_batch=torch.tensor(4))["loss"]
        for part in (slice(0, 1), slice(1, 5))
    ]
    torch.testing.assert_close(sum(parts), whole)
    logits = model(*padded(TEXTS, 11, False))["logits"]
    torch.testing.assert_close(whole, torch.nn.functional.cross_entropy(logits[[0, 1, 2, 4]], labels[[0, 1, 2, 4]]))


def test_unlabelled_examples_alone_have_a_loss_of_zero() -> None:
    loss = gpt2()(*padded(TEXTS[:2], 5, False), labels=torch.tensor([-100, -100]))["loss"]
    assert loss == 0


def test_a_model_without_a_loss_gives_logits_and_no_loss() -> None:
    model = HeadModel(ARCHITECTURES["gpt2"]().base_model, SequenceHead(16, 3))
    assert set(model(*padded(TEXTS[:2], 5, False))) == {"logits"}
    with pytest.raises(ValueError, match="without a loss"):
        model(*padded(TEXTS[:2], 5, False), labels=torch.tensor([0, 1]))


def test_the_loss_gets_the_examples_values_where_they_have_some() -> None:
    model, labels, values = gpt2(), torch.tensor([0, 2]), torch.tensor([[2.0], [0.5]])

    def weighed(logits: torch.Tensor, labels: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return (values[:, 0] * nn.functional.cross_entropy(logits, labels, reduction="none")).sum()

    model.loss = weighed
    batch = padded(TEXTS[:2], 5, False)
    each = nn.functional.cross_entropy(model(*batch)["logits"], labels, reduction="none")
    found = model(*batch, labels=labels, values=values)["loss"]
    torch.testing.assert_close(found, (2 * each[0] + each[1] / 2) / 2)


@pytest.fixture
def saved(tiny_backbone_folder: Path, tmp_path: Path) -> Path:
    backbone = open_backbone(Location("tiny", tiny_backbone_folder))
    torch.manual_seed(0)
    save_model(tmp_path / "model", backbone.model, backbone.tokenizer, SequenceHead(16, 3), RECORD)
    return tmp_path / "model"


def test_a_saved_model_answers_as_before(tiny_backbone_folder: Path, tmp_path: Path) -> None:
    backbone = open_backbone(Location("tiny", tiny_backbone_folder))
    model = HeadModel(backbone.model.base_model, SequenceHead(16, 3))
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.eval()
    save_model(tmp_path / "run" / "model", backbone.model, backbone.tokenizer, model.head, RECORD)
    loaded = load_model(tmp_path / "run" / "model", HEADS)
    assert loaded.record == RECORD
    again = HeadModel(loaded.backbone.model.base_model, loaded.head)
    assert not again.training or not any(module.training for module in again.children())
    batch = padded(TEXTS, 11, False)
    with torch.no_grad():
        assert torch.equal(again(*batch)["logits"], model(*batch)["logits"])
        ids = torch.tensor([[3, 7, 1]])
        opened = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
        assert torch.equal(opened(ids).logits, backbone.model(ids).logits)
    text = "Nothing about this hotel."
    assert AutoTokenizer.from_pretrained(tmp_path / "run" / "model")(text) == backbone.tokenizer(text)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["model"]


def test_nothing_in_the_folder_is_pickled(saved: Path) -> None:
    assert {path.suffix for path in saved.iterdir()} == {".json", ".safetensors"}


def resave(folder: Path, **head: torch.Tensor) -> None:
    save_file({name.replace("_", "."): tensor for name, tensor in head.items()}, folder / "head.safetensors")


def edit_record(folder: Path, **values: Any) -> None:
    file = folder / "task.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def remove(folder: Path, name: str) -> None:
    (folder / name).unlink()


FOUR_LABELS = {"labels": ["glad", "sad", "so-so", "mad"], "prompt": "{text}"}
BREAKAGES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "all": (shutil.rmtree, ["model", "no such folder"]),
    "no task.json": (lambda folder: remove(folder, "task.json"), ["task.json", "missing"]),
    "cut task.json": (lambda folder: cut(folder / "task.json"), ["task.json", "truncated"]),
    "no field": (lambda folder: (folder / "task.json").write_text('{"task": "mood"}'), ["task.json", "'plugin'"]),
    "no head": (lambda folder: remove(folder, "head.safetensors"), ["head.safetensors", "missing"]),
    "cut head": (lambda folder: cut(folder / "head.safetensors"), ["head.safetensors", "truncated"]),
    "cut weights": (lambda folder: cut(folder / "model.safetensors"), ["model.safetensors", "truncated"]),
    "no config": (lambda folder: remove(folder, "config.json"), ["config.json", "missing"]),
    "no tokenizer": (lambda folder: remove(folder, "tokenizer.json"), ["tokenizer"]),
    "an output more": (
        lambda folder: edit_record(folder, state=FOUR_LABELS, outputs=4),
        ["head.safetensors", "'linear.weight' is [3, 16]", "[4, 16]"],
    ),
    "another head": (
        lambda folder: resave(folder, linear_weight=torch.zeros(3, 16), linear_bias=torch.zeros(3), odd=torch.ones(1)),
        ["head.safetensors", "no place for 'odd'"],
    ),
    "half a head": (
        lambda folder: resave(folder, linear_weight=torch.zeros(3, 16)),
        ["head.safetensors", "'linear.bias' is missing"],
    ),
}


def assert_one_line(error: GptTasksError, *parts: str) -> None:
    assert "\n" not in error.message
    assert error.hint
    for part in parts:
        assert part in error.message


@pytest.mark.parametrize("name", BREAKAGES)
def test_what_is_missing_or_does_not_fit_is_named(name: str, saved: Path) -> None:
    damage, parts = BREAKAGES[name]
    damage(saved)
    with pytest.raises(ModelError) as caught:
        load_model(saved, HEADS)
    assert_one_line(caught.value, str(saved), *parts)


def test_a_label_more_than_the_head_has_outputs_is_reported_when_a_run_is_loaded(saved: Path) -> None:
    class Mood(ClassificationTask):
        """Tell moods apart."""

        name = "mood"

    learners = {learner.name: learner for learner in register_learners()}
    plugins: Any = SimpleNamespace(registry=SimpleNamespace(heads=HEADS, methods={}, learners=learners))
    settings: Any = {
        "config": {},
        "settings": {"max_length": 32, "batch_tokens": 256, "seed": 0, "device": "cpu", "precision": "float32"},
    }
    load = partial(
        load_learner,
        RunFolder(saved.parent),
        settings,
        plugins,
        lambda record: Mood(),
        device="cpu",
        precision="float32",
        decoding=None,
    )
    assert load().outputs == 3
    edit_record(saved, state=FOUR_LABELS)
    with pytest.raises(ModelError) as caught:
        load()
    assert_one_line(caught.value, str(saved / "task.json"), "'mood'", "4 outputs", "3")


def test_a_head_of_a_missing_plugin_says_what_to_install(saved: Path) -> None:
    edit_record(saved, head="crystal-ball")
    with pytest.raises(PluginError) as caught:
        load_model(saved, HEADS)
    assert_one_line(caught.value, "'crystal-ball'")
    assert caught.value.hint == "Install gpt-tasks-mood 1.2."


class Shifted(nn.Module):
    """A frozen transformer whose last hidden states are shifted by a vector, which moves."""

    def __init__(self, transformer: nn.Module, width: int) -> None:
        super().__init__()
        self.transformer = transformer.requires_grad_(False)
        self.shift = nn.Parameter(torch.randn(width))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool) -> BaseModelOutput:
        states = self.transformer(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)
        return BaseModelOutput(last_hidden_state=states.last_hidden_state + self.shift)


def shifting(width: int = 16) -> Mapping[str, Method]:
    """A method that saves what it adds next to the model."""
    prepare = partial(Shifted, width=width)
    return {"shift": Method("shift", "", prepare, lambda model: model, lambda parameters: {}, saved_separately=True)}


@pytest.fixture
def shifted(tiny_backbone_folder: Path, tmp_path: Path) -> tuple[HeadModel, Path]:
    """A model that was prepared by that method, and the folder in which it was saved."""
    backbone = open_backbone(Location("tiny", tiny_backbone_folder))
    model = HeadModel(shifting()["shift"].prepare(backbone.model.base_model), SequenceHead(16, 3)).eval()
    record = RECORD.model_copy(update={"method": "shift"})
    save_model(tmp_path / "model", backbone.model, backbone.tokenizer, model.head, record, added=model.backbone)
    return model, tmp_path / "model"


def test_what_a_method_saves_next_to_the_model_is_loaded_again(shifted: tuple[HeadModel, Path]) -> None:
    model, folder = shifted
    loaded = load_model(folder, HEADS, shifting())
    again = HeadModel(loaded.transformer, loaded.head)
    batch = padded(TEXTS, 11, False)
    with torch.no_grad():
        assert torch.equal(again(*batch)["logits"], model(*batch)["logits"])
    assert not any(module.training for module in loaded.transformer.modules())
    plain = load_file(folder / "model.safetensors")
    assert not [name for name in plain if "shift" in name]
    assert AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([[3, 7, 1]])).logits.shape[:2] == (1, 3)


def test_what_is_saved_next_to_the_model_must_be_whole_and_fit(shifted: tuple[HeadModel, Path]) -> None:
    _, folder = shifted
    with pytest.raises(PluginError) as lacking:
        load_model(folder, HEADS)
    assert_one_line(lacking.value, "task.json", "the method 'shift'")
    with pytest.raises(ModelError) as wide:
        load_model(folder, HEADS, shifting(width=1))
    assert_one_line(wide.value, "method.safetensors", "'shift' is [16], but the method and the backbone ask for [1]")
    cut(folder / "method.safetensors")
    with pytest.raises(ModelError) as short:
        load_model(folder, HEADS, shifting())
    assert_one_line(short.value, "method.safetensors", "truncated")


class Stopped(BaseException):
    """What SIGKILL would be, at a moment that a test chooses."""


def another_head() -> SequenceHead:
    head = SequenceHead(16, 3)
    head.linear.weight.data.fill_(1.0)
    return head


def test_saving_again_replaces_the_old_model(saved: Path) -> None:
    backbone = open_backbone(Location("tiny", saved))
    save_model(saved, backbone.model, backbone.tokenizer, another_head(), RECORD)
    assert load_file(saved / "head.safetensors")["linear.weight"].eq(1).all()
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("renames", [0, 1])
def test_a_death_while_saving_leaves_the_old_model(renames: int, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Die before the first and between the two renamings, without any clearing up."""
    backbone = open_backbone(Location("tiny", saved))
    before = load_file(saved / "head.safetensors")["linear.weight"]
    rename, left = Path.rename, [renames]

    def counted(self: Path, target: Path) -> Path:
        if not left[0]:
            raise Stopped
        left[0] -= 1
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", counted)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(Stopped):
        save_model(saved, backbone.model, backbone.tokenizer, another_head(), RECORD)
    monkeypatch.undo()
    assert torch.equal(load_model(saved, HEADS).head.linear.weight, before)
    save_model(saved, backbone.model, backbone.tokenizer, another_head(), RECORD)
    assert load_model(saved, HEADS).head.linear.weight.eq(1).all()


def test_a_full_disk_is_reported_and_leaves_nothing(
    tiny_backbone_folder: Path,
    tiny_tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    files_up_to: Callable[[int], AbstractContextManager[None]],
) -> None:
    backbone = open_backbone(Location("tiny", tiny_backbone_folder))
    with files_up_to(20_000), pytest.raises(MachineError) as caught:
        save_model(tmp_path / "model", backbone.model, tiny_tokenizer, SequenceHead(16, 3), RECORD)
    assert_one_line(caught.value, str(tmp_path / "model"), "cannot be written")
    assert list(tmp_path.iterdir()) == []


def several(texts: list[list[list[int]]], left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Examples of one or more sequences as the collation lays them out."""
    most, longest = max(map(len, texts)), max(len(ids) for example in texts for ids in example)
    rows = [padded(example, longest, left) for example in texts]
    ids, mask = (torch.zeros(len(texts), most, longest, dtype=torch.long) for _ in range(2))
    for row, (given, kept) in enumerate(rows):
        ids[row, : len(given)], mask[row, : len(given)] = given, kept
    return ids, mask


@pytest.mark.parametrize("left", [False, True])
def test_what_is_said_of_several_sequences_is_averaged(left: bool) -> None:
    model = gpt2()
    texts = [TEXTS[:1], TEXTS[1:4], TEXTS[3:5]]
    with torch.no_grad():
        each = [model(*padded(example, 11, False))["logits"].mean(dim=0) for example in texts]
        found = model(*several(texts, left))["logits"]
    torch.testing.assert_close(found, torch.stack(each), atol=1e-5, rtol=1e-5)


def test_sequences_of_one_example_share_its_loss() -> None:
    model, labels = gpt2(), torch.tensor([1, -100, 2])
    texts = [TEXTS[:1], TEXTS[1:4], TEXTS[3:5]]
    logits = model(*several(texts))["logits"]
    expected = torch.nn.functional.cross_entropy(logits[[0, 2]], labels[[0, 2]])
    torch.testing.assert_close(model(*several(texts), labels=labels)["loss"], expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_and_batch_mates_change_no_logit_of_a_token(architecture: str) -> None:
    torch.manual_seed(0)
    causal_lm = ARCHITECTURES[architecture]()
    for parameter in causal_lm.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    head = HEADS["span"].build(causal_lm.get_output_embeddings().weight.shape[1], 2)
    head.linear.weight.data.normal_()
    model = HeadModel(causal_lm.base_model, head).eval()
    with torch.no_grad():
        alone = [model(*padded([text], len(text), left=False))["logits"][0] for text in TEXTS]
        for left in (False, True):
            logits = model(*padded(TEXTS, 17, left))["logits"]
            for row, text in enumerate(TEXTS):
                own = slice(17 - len(text), None) if left else slice(len(text))
                torch.testing.assert_close(logits[row, own], alone[row], atol=1e-5, rtol=1e-5)
                assert logits[row].isinf().sum() == 2 * (17 - len(text)), "padding begins and ends no answer"


def test_the_loss_of_a_span_is_that_of_its_first_and_its_last_token() -> None:
    torch.manual_seed(0)
    learner = SpanLearner(None, None, None)
    model = HeadModel(ARCHITECTURES["gpt2"]().base_model, HEADS["span"].build(16, 2), learner.loss).eval()
    labels = torch.tensor([[0, 1], [-100, -100], [0, 0]])
    logits = model(*padded(TEXTS[:3], 11, False))["logits"]
    each = [torch.nn.functional.cross_entropy(logits[[0, 2], :, side], labels[[0, 2], side]) for side in range(2)]
    torch.testing.assert_close(model(*padded(TEXTS[:3], 11, False), labels=labels)["loss"], sum(each) / 2)


@pytest.mark.parametrize("left", [False, True])
def test_the_scores_of_choices_are_the_means_of_their_sequences(left: bool) -> None:
    torch.manual_seed(0)
    model = HeadModel(ARCHITECTURES["gpt2"]().base_model, SequenceHead(16, 1)).eval()
    texts = [TEXTS[:3], TEXTS[3:5]]
    # The first example has three choices, the second two, of which the first is read in two orders.
    choices = torch.tensor([[0, 1, 2], [0, 1, 0]])
    texts[1].append(TEXTS[0])
    with torch.no_grad():
        alone = [model(*padded(example, 11, False))["logits"][:, 0] for example in texts]
        found = model(*several(texts, left), choices=choices)["logits"]
    expected = torch.tensor([[*alone[0]], [(alone[1][0] + alone[1][2]) / 2, alone[1][1], -torch.inf]])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lm_weight", [0.0, 0.5])
def test_the_sequences_of_one_example_are_computed_in_parts_with_the_same_gradients(lm_weight: float) -> None:
    torch.manual_seed(0)
    ids = torch.randint(1, 50, (1, 7, 8))
    mask = torch.ones_like(ids)
    mask[0, 6, 3:] = 0
    found = []
    for part_tokens in (None, 16):
        torch.manual_seed(1)
        lm = GPT2LMHeadModel(GPT2Config(**GPT_SHAPE, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
        model = HeadModel(
            lm.base_model,
            SequenceHead(16, 3).eval(),
            summed,
            output_matrix=lm.transformer.wte.weight,
            lm_weight=lm_weight,
            part_tokens=part_tokens,
        )
        sizes: list[int] = []
        lm.base_model.wte.register_forward_hook(
            partial(lambda sizes, module, given, out: sizes.append(len(out)), sizes)
        )
        made = model(ids, mask, labels=torch.tensor([1]))
        made["loss"].backward()
        assert (max(sizes) <= 16) == (part_tokens is not None)
        found.append((made["loss"].detach(), made["logits"].detach(), lm.transformer.h[0].mlp.c_fc.weight.grad))
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole)
