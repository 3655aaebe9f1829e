"""An adapter that a run keeps is opened by peft, by the run, and as a backbone; one that does not fit is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2ForSequenceClassification

import gpt_tasks
from gpt_tasks.backbone.load import load_backbone
from gpt_tasks.errors import ModelError, UsageError
from gpt_tasks.plugins import installed_plugins

ROWS = [
    {"text": f"What a {word} {thing}.", "label": label}
    for word, label in (("splendid", "positive"), ("dreadful", "negative"))
    for thing in ("film", "dinner", "hotel", "walk", "concert", "novel", "museum", "train", "soup", "tram")
]
TEXT = "What a splendid tram."
COMMITS = {"base": "a" * 40, "tuned": "b" * 40}
IDS = torch.tensor([[3, 70, 11, 9, 4]])


def trained(backbone: object, output: Path, **settings: Any) -> Any:
    how: dict[str, Any] = {"method": "lora", "epochs": 2, "learning_rate": 0.02, "device": "cpu", **settings}
    return gpt_tasks.finetune("sentiment", data=ROWS, backbone=str(backbone), output=output, **how)


@pytest.fixture(scope="module")
def runs(tiny_backbone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run that keeps its adapter beside the merged model, and one that keeps it instead."""
    folder = tmp_path_factory.mktemp("runs")
    backbone = shutil.copytree(tiny_backbone_folder, folder / "backbone")
    options: dict[str, Any] = {"lora_r": 3, "lora_target_modules": ["c_attn", "c_fc"], "lora_use_dora": True}
    return {
        "beside": trained(backbone, folder / "beside", keep_adapter=True, **options),
        "instead": trained(backbone, folder / "instead", backbone_by_reference=True, **options),
    }


@pytest.fixture
def instead(runs: dict[str, Any], tmp_path: Path) -> Path:
    """A copy of the run that keeps its adapter alone, and of its backbone."""
    for name in ("instead", "backbone"):
        shutil.copytree(runs["instead"].path.parent / name, tmp_path / name)
    edit(tmp_path / "instead" / "adapter", base_model_name_or_path=str(tmp_path / "backbone"))
    return tmp_path / "instead"


def edit(adapter: Path, **fields: Any) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(IDS).logits
    return found


def opened(place: Path) -> Any:
    return load_backbone(str(place), installed_plugins().registry.backbones).model


def test_the_card_says_what_the_folder_holds(runs: dict[str, Any]) -> None:
    beside, instead = ((run.path / "README.md").read_text() for run in runs.values())
    for card in (beside, instead):
        assert "`adapter/` holds what the method trained of the backbone, without the head" in card
    assert "`model/` holds a causal language model that transformers loads directly" in beside
    assert "a causal language model that transformers loads" not in instead
    assert "but not the backbone's weights, and transformers alone cannot open it" in instead
    with pytest.raises(ModelError) as caught:
        gpt_tasks.load(runs["beside"].path / "adapter")
    assert "It is an adapter, without a head: give the run that it is in" in str(caught.value.hint)


def test_peft_opens_the_adapter_that_is_kept(runs: dict[str, Any]) -> None:
    merged, adapter = runs["beside"].path / "model", runs["beside"].path / "adapter"
    expected = logits(AutoModelForCausalLM.from_pretrained(merged))
    base = AutoModelForCausalLM.from_pretrained(adapter.parent.parent / "backbone")
    assert not torch.allclose(logits(base), expected, atol=1e-3)
    for model in (
        PeftModel.from_pretrained(base, str(adapter)),
        AutoPeftModelForCausalLM.from_pretrained(str(adapter)),
    ):
        torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert (config["r"], config["use_dora"], config["task_type"]) == (3, True, "CAUSAL_LM")
    assert sorted(config["target_modules"]) == ["c_attn", "c_fc"]
    assert config["base_model_name_or_path"] == str(adapter.parent.parent / "backbone")


def test_a_run_answers_from_its_adapter_and_the_base_alone(runs: dict[str, Any]) -> None:
    beside, instead = runs["beside"], runs["instead"]
    assert not (instead.path / "model" / "model.safetensors").exists()
    assert "adapter/adapter_model.safetensors" in instead.record["checksums"]
    one, other = (gpt_tasks.load(run.path).predict([TEXT, "A dreadful film."]) for run in (beside, instead))
    assert [each.label for each in one] == [each.label for each in other]
    assert one[0].probabilities == pytest.approx(other[0].probabilities, abs=1e-6)


@pytest.mark.parametrize("place", ["instead", "instead/adapter", "beside/adapter"])
def test_an_adapter_is_a_backbone(runs: dict[str, Any], place: str) -> None:
    folder = runs["beside"].path.parent
    expected = logits(opened(folder / "beside"))
    torch.testing.assert_close(logits(opened(folder / place)), expected, atol=1e-5, rtol=1e-5)


def test_training_goes_on_from_an_adapter(runs: dict[str, Any], tmp_path: Path) -> None:
    adapter = runs["beside"].path / "adapter"
    run = trained(adapter, tmp_path / "again", backbone_by_reference=True)
    assert json.loads((run.path / "adapter" / "backbone.json").read_text())["place"] == str(adapter)
    assert gpt_tasks.load(run.path).predict(TEXT).label in ("positive", "negative")
    base = load_backbone(str(run.path / "adapter"), installed_plugins().registry.backbones)
    assert base.fingerprint.startswith("sha256:")


def foreign(base: Path, folder: Path, config: Any, model: Any = None) -> Path:
    """An adapter as peft saves it: of a model with a head, or of the language model."""
    torch.manual_seed(1)
    adapted: Any = get_peft_model(model or AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    adapted.save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize("options", [{}, {"use_rslora": True, "bias": "all"}, {"modules_to_save": ["wte"]}])
def test_an_adapter_of_peft_is_a_backbone(tiny_backbone_folder: Path, tmp_path: Path, options: Any) -> None:
    adapter = foreign(tiny_backbone_folder, tmp_path / "adapter", LoraConfig(task_type="CAUSAL_LM", **options))
    base = AutoModelForCausalLM.from_pretrained(tiny_backbone_folder)
    expected = logits(PeftModel.from_pretrained(base, str(adapter)))
    torch.testing.assert_close(logits(opened(adapter)), expected, atol=1e-5, rtol=1e-5)
    run = trained(adapter, tmp_path / "run", method="head", epochs=None, learning_rate=None, backbone_by_reference=True)
    reference = json.loads((run.path / "model" / "backbone.json").read_text())
    assert "model.safetensors" in reference["base"]["checksums"]
    assert gpt_tasks.load(run.path).predict(TEXT).label in ("positive", "negative")


@pytest.mark.parametrize("options", [{"target_modules": ["wte"]}, {"modules_to_save": ["wte"]}])
def test_an_adapter_of_the_embedding_leaves_the_output_matrix_as_it_was(
    tiny_backbone_folder: Path, tmp_path: Path, options: Any
) -> None:
    adapter = foreign(tiny_backbone_folder, tmp_path / "adapter", LoraConfig(task_type="CAUSAL_LM", **options))
    if "modules_to_save" in options:
        file = adapter / "adapter_model.safetensors"
        save_file({name: tensor + 0.1 * ("wte" in name) for name, tensor in load_file(file).items()}, file)
    base = AutoModelForCausalLM.from_pretrained(tiny_backbone_folder)
    expected = logits(PeftModel.from_pretrained(base, str(adapter)))
    torch.testing.assert_close(logits(opened(adapter)), expected, atol=1e-5, rtol=1e-5)
    frozen: dict[str, Any] = {"method": "head", "epochs": None, "learning_rate": None}
    saved = trained(adapter, tmp_path / "run", **frozen).path / "model"
    for model in (AutoModelForCausalLM.from_pretrained(saved), opened(saved.parent)):
        torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)


def test_a_classifiers_head_is_left_behind(tiny_backbone_folder: Path, tmp_path: Path) -> None:
    model = GPT2ForSequenceClassification.from_pretrained(tiny_backbone_folder)
    adapter = foreign(tiny_backbone_folder, tmp_path / "adapter", LoraConfig(task_type="SEQ_CLS"), model)
    assert any("score" in name for name in load_file(adapter / "adapter_model.safetensors"))
    assert not torch.allclose(logits(opened(adapter)), logits(opened(tiny_backbone_folder)), atol=1e-3)


def test_an_adapter_of_the_hub_is_a_backbone(
    tiny_backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name, make in (
        ("base", lambda folder: shutil.copytree(tiny_backbone_folder, folder)),
        ("tuned", lambda folder: foreign(tiny_backbone_folder, folder, LoraConfig(task_type="CAUSAL_LM"))),
    ):
        repository = tmp_path / "cache" / f"models--owner--{name}"
        make(repository / "snapshots" / COMMITS[name])
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMITS[name])
    edit(repository / "snapshots" / COMMITS[name], base_model_name_or_path="owner/base", revision=COMMITS["base"])
    expected = logits(opened(Path("owner/tuned")))
    assert not torch.allclose(expected, logits(opened(tiny_backbone_folder)), atol=1e-3)
    assert torch.equal(logits(load_backbone("hf:owner/tuned", {}).model), expected)
    run = trained("owner/tuned", tmp_path / "run", keep_adapter=True)
    config = json.loads((run.path / "adapter" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("owner/tuned", COMMITS["tuned"])


def test_a_base_that_has_moved_is_found_by_its_new_name(instead: Path) -> None:
    adapter, expected = instead / "adapter", logits(opened(instead / "adapter"))
    moved = (instead.parent / "backbone").rename(instead.parent / "elsewhere")
    edit(adapter, base_model_name_or_path=str(moved))
    assert torch.equal(logits(opened(adapter)), expected)
    # Of a run, the file that was edited is no longer the one that training left.
    with pytest.raises(ModelError, match=r"adapter_config\.json is damaged"):
        gpt_tasks.load(instead).predict(TEXT)
    assert gpt_tasks.load(instead, verify=False).predict(TEXT).label in ("positive", "negative")


def shape(folder: Path) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    name = next(name for name in weights if "lora_A" in name)
    weights[name] = torch.zeros(3, 8)
    save_file(weights, folder / "adapter_model.safetensors")


def another(folder: Path) -> None:
    weights = folder.parent.parent / "backbone" / "model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights, metadata={"format": "pt"})


def without(field: str) -> Callable[[Path], None]:
    def leave_out(folder: Path) -> None:
        file = folder / "adapter_config.json"
        config = json.loads(file.read_text())
        del config[field]
        file.write_text(json.dumps(config))

    return leave_out


def truncate(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def circle(folder: Path) -> None:
    other = Path(shutil.copytree(folder, folder.parent / "other"))
    (other / "backbone.json").unlink()
    edit(folder, base_model_name_or_path=str(other))
    edit(other, base_model_name_or_path=str(folder))


BROKEN: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "another base": (another, ["backbone.json: 'checksums'", "another base model", "model.safetensors is damaged"]),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), ["adapter_model.safetensors: "]),
    "truncated": (truncate, ["adapter_model.safetensors: truncated"]),
    "pickled": (pickled, ["adapter_model.bin", "pickled"]),
    "another shape": (shape, ["adapter_model.safetensors: '", "is [3, 8], the base model asks for [3, 16]"]),
    "no JSON": (lambda folder: (folder / "adapter_config.json").write_text("{"), ["adapter_config.json: truncated"]),
    "no type": (without("peft_type"), ["adapter_config.json: 'peft_type'"]),
    "unknown type": (lambda folder: edit(folder, peft_type="LORRA"), ["adapter_config.json: ", "LORRA"]),
    "a huge rank": (lambda folder: edit(folder, r=10**9), ["adapter_config.json: 'r': 1000000000", "rank 3"]),
    "a huge rank of a layer": (
        lambda folder: edit(folder, rank_pattern={"c_fc": 10**9}),
        ["adapter_config.json: 'rank_pattern.c_fc': 1000000000", "rank 3"],
    ),
    "other layers": (lambda folder: edit(folder, layer_replication=[[0, 1]]), ["json: 'layer_replication'"]),
    "rank 0": (lambda folder: edit(folder, r=0), ["adapter_config.json: 'r'"]),
    "other targets": (lambda folder: edit(folder, target_modules=["q_proj"]), ["adapter_config.json: peft cannot"]),
    "fewer targets": (lambda folder: edit(folder, target_modules=["c_fc"]), ["asks for missing"]),
    "no such base": (lambda folder: edit(folder, base_model_name_or_path="./gone"), []),
    "a circle": (circle, ["lead back to itself"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_adapter_that_does_not_fit_is_refused(instead: Path, name: str) -> None:
    damage, told = BROKEN[name]
    adapter = instead / "adapter"
    damage(adapter)
    if name not in ("another base", "a circle", "no such base"):
        # So that what is wrong with the adapter itself is found.
        (adapter / "backbone.json").unlink()
    if name == "no such base":
        assert opened(adapter)  # at the place that the run recorded
        (adapter / "backbone.json").unlink()
        told = ["adapter_config.json: 'base_model_name_or_path': ", "no such folder"]
    with pytest.raises(ModelError) as caught:
        opened(adapter)
    assert all(part in caught.value.message for part in told), caught.value.message
    assert len(str(caught.value).splitlines()) == 2


def test_a_prefix_cannot_be_merged(tiny_backbone_folder: Path, tmp_path: Path) -> None:
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    adapter = foreign(tiny_backbone_folder, tmp_path / "adapter", config)
    with pytest.raises(ModelError, match="'peft_type': an adapter of type PREFIX_TUNING cannot be merged"):
        opened(adapter)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"method": "full", "keep_adapter": True}, "--keep-adapter is of no use with --method full"),
        ({"backbone_by_reference": True, "keep_adapter": True}, "--keep-adapter is of no use with --backbone-by-ref"),
        ({"private": True, "keep_adapter": True}, "--keep-adapter keeps the path of the backbone's folder"),
    ],
)
def test_where_no_adapter_is_kept_the_flag_is_refused(
    tiny_backbone_folder: Path, tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError) as caught:
        trained(tiny_backbone_folder, tmp_path / "run", **settings)
    assert caught.value.message.startswith(told)
    assert not (tmp_path / "run").exists()


def test_a_private_run_names_its_preset(tmp_path: Path) -> None:
    run = trained("tiny", tmp_path / "run", private=True, keep_adapter=True, epochs=1, limit=8)
    held = (run.path / "adapter" / "adapter_config.json").read_text()
    assert json.loads(held)["base_model_name_or_path"] == "tiny"
    assert not any("/" in str(value) for value in json.loads(held).values())
    torch.testing.assert_close(logits(opened(run.path / "adapter")), logits(opened(run.path)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("task", ["dialogue", "similarity"])
def test_what_a_task_gives_its_backbone_is_there_with_the_adapter(
    tiny_backbone_folder: Path, tmp_path: Path, task: str
) -> None:
    """A chat template, a token and its row."""
    turns = [[("user", f"How are you, {n}?"), ("assistant", "Well.")] for n in range(12)]
    rows = [{"messages": [{"role": role, "content": said} for role, said in each]} for each in turns]
    if task == "similarity":
        rows = [{"text_a": row["text"], "text_b": "So.", "score": n % 3} for n, row in enumerate(ROWS)]
    how: dict[str, Any] = {"data": rows, "backbone": tiny_backbone_folder, "method": "lora", "device": "cpu"}
    how |= {"epochs": 1, "max_length": 64, "options": {"max_tokens": 8} if task == "dialogue" else {}}
    run = gpt_tasks.finetune(task, output=tmp_path / "run", backbone_by_reference=True, **how)
    reference = json.loads((run.path / "adapter" / "backbone.json").read_text())
    assert bool(reference["tokens"]) == (task == "similarity")
    alone: Any = gpt_tasks.load(run.path).predictor.backbone
    (together,) = gpt_tasks.load_all([run.path])
    adapter = load_backbone(str(run.path / "adapter"), installed_plugins().registry.backbones)
    for other in (together.predictor.backbone, adapter):
        assert other.tokenizer.get_vocab() == alone.tokenizer.get_vocab()
        assert other.tokenizer.chat_template == alone.tokenizer.chat_template
        assert torch.equal(logits(other.model), logits(alone.model))


def test_runs_on_one_backbone_share_its_weights(runs: dict[str, Any], tmp_path: Path) -> None:
    backbone = runs["instead"].path.parent / "backbone"
    frozen: dict[str, Any] = {"method": "head", "epochs": None, "learning_rate": None}
    other = trained(backbone, tmp_path / "head", backbone_by_reference=True, **frozen)
    third = trained(backbone, tmp_path / "third", backbone_by_reference=True, lora_target_modules=["c_proj"])
    paths = [runs["instead"].path, other.path, third.path]
    texts = [TEXT, "A dreadful film.", "What a tram."]
    alone = [gpt_tasks.load(path, device="cpu").predict(texts) for path in paths]
    several = gpt_tasks.load_all(paths, device="cpu")
    for _ in range(2):
        assert [run.predict(texts) for run in several] == alone
    models = [dict(run.predictor.backbone.model.named_parameters()) for run in several]
    places = [{name: each.data_ptr() for name, each in model.items()} for model in models]
    own = [{name.rpartition(".")[0] for name in places[0] if place[name] != places[1][name]} for place in places]
    layers = ("transformer.h.0", "transformer.h.1")
    assert own[0] == {f"{layer}.{name}" for layer in layers for name in ("attn.c_attn", "mlp.c_fc")}
    assert own[1] == set()
    assert own[2] == {f"{layer}.{name}.c_proj" for layer in layers for name in ("attn", "mlp")}
