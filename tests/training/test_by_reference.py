"""What a run keeps of its backbone: a reference to it instead of its weights, or weights in their own precision."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import gpt_tasks
from gpt_tasks.backbone.load import load_backbone
from gpt_tasks.backbone.locate import Location
from gpt_tasks.backbone.reference import reference_to
from gpt_tasks.errors import ModelError, UsageError
from gpt_tasks.plugins import installed_plugins

ROWS = [
    {"text": f"What a {word} {thing}.", "label": label}
    for word, label in (("splendid", "positive"), ("dreadful", "negative"))
    for thing in ("film", "dinner", "hotel", "walk", "concert", "novel", "museum", "train", "soup", "tram")
]
PAIRS = [
    {"premise": row["text"], "hypothesis": "It was good.", "label": "entailment" if n < 10 else "contradiction"}
    for n, row in enumerate(ROWS)
]
TEXT = "What a splendid tram."


@pytest.fixture
def backbone(tiny_backbone_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny backbone, its weights in bf16."""
    folder = Path(shutil.copytree(tiny_backbone_folder, tmp_path / "backbone"))
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def trained(backbone: Path, output: Path, method: str = "head", task: str = "sentiment", **settings: Any) -> Any:
    updates = {} if method == "head" else {"epochs": 1}
    data = PAIRS if task == "entailment" else ROWS
    return gpt_tasks.finetune(
        task, data=data, backbone=backbone, method=method, output=output, device="cpu", **updates, **settings
    )


@pytest.mark.parametrize(("method", "task"), [("head", "sentiment"), ("lora", "sentiment"), ("lora", "entailment")])
def test_a_run_by_reference_answers_as_one_that_holds_its_backbone(
    backbone: Path, tmp_path: Path, method: str, task: str
) -> None:
    runs = [trained(backbone, tmp_path / str(by), method, task, backbone_by_reference=by) for by in (False, True)]
    held, referring = (run.path / "model" for run in runs)
    assert (held / "model.safetensors").is_file()
    assert not (referring / "model.safetensors").exists()
    assert (runs[1].path / "adapter" / "adapter_model.safetensors").exists() == (method == "lora")
    reference = json.loads((referring / "backbone.json").read_text())
    if method == "lora":
        assert reference["place"] == "../adapter"
        reference = json.loads((runs[1].path / "adapter" / "backbone.json").read_text())
    assert reference["place"] == str(backbone)
    assert len(reference["checksums"]["model.safetensors"]) == 64
    text = TEXT if task == "sentiment" else {"premise": TEXT, "hypothesis": "It was good."}
    one, other = (gpt_tasks.load(run.path).predict([text]) for run in runs)
    assert one == other
    # The run as a backbone, of a scoring or of another run.
    whole, built = (load_backbone(str(run.path), {}).model.state_dict() for run in runs)
    assert whole.keys() == built.keys()
    assert all(torch.equal(whole[name], built[name]) for name in whole)
    assert f"reads them from `{backbone}`" in (referring.parent / "README.md").read_text()


def test_a_run_by_reference_is_the_backbone_of_another(backbone: Path, tmp_path: Path) -> None:
    first = trained(backbone, tmp_path / "first", "lora", backbone_by_reference=True)
    second = trained(first.path, tmp_path / "second", backbone_by_reference=True)
    assert "backbone.json" in json.loads((second.path / "model" / "backbone.json").read_text())["checksums"]
    gpt_tasks.load(second.path).predict(TEXT)
    (backbone / "config.json").write_text((backbone / "config.json").read_text() + "\n")
    with pytest.raises(ModelError, match="trained on another base model than"):
        gpt_tasks.load(second.path).predict(TEXT)


def test_a_backbone_that_is_gone_or_changed_is_named(backbone: Path, tmp_path: Path) -> None:
    run = trained(backbone, tmp_path / "run", backbone_by_reference=True)
    before = gpt_tasks.load(run.path).predict(TEXT)
    moved = backbone.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="no such folder") as gone:
        gpt_tasks.load(run.path).predict(TEXT)
    assert str(backbone) in gone.value.message
    assert "Put the backbone there again, or a link to it" in gone.value.hint
    backbone.symlink_to(moved)
    assert gpt_tasks.load(run.path).predict(TEXT) == before
    weights = load_file(moved / "model.safetensors")
    weights = {name: tensor + 1 for name, tensor in weights.items()}
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"no longer the one of the training: .*its SHA-256") as changed:
        gpt_tasks.load(run.path).predict(TEXT)
    assert "--no-verify" in changed.value.hint
    with pytest.raises(ModelError, match="no longer the one of the training"):
        load_backbone(str(run.path), {})
    assert gpt_tasks.load(run.path, verify=False).predict(TEXT) != before
    (moved / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        gpt_tasks.load(run.path).predict(TEXT)


def test_a_preset_is_kept_by_its_name(tmp_path: Path) -> None:
    run = trained(Path("tiny"), tmp_path / "run", limit=20, backbone_by_reference=True, private=True)
    reference = json.loads((run.path / "model" / "backbone.json").read_text())
    assert reference["place"] == "tiny"
    assert gpt_tasks.load(run.path).predict(TEXT).label in ("negative", "positive")


def test_where_a_reference_is_of_no_use_it_is_refused(backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="of no use with --method full, which trains every weight"):
        trained(backbone, tmp_path / "run", "full", backbone_by_reference=True)
    with pytest.raises(UsageError, match="keeps the path of the backbone's folder, and --private") as private:
        trained(backbone, tmp_path / "run", backbone_by_reference=True, private=True)
    assert "name a preset" in private.value.hint
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("method", "dtype"), [("head", "bfloat16"), ("lora", "float32"), ("full", "float32")])
def test_weights_that_are_not_trained_keep_their_precision(
    backbone: Path, tmp_path: Path, method: str, dtype: str
) -> None:
    before = load_file(backbone / "model.safetensors")
    run = trained(backbone, tmp_path / "run", method)
    after = load_file(run.path / "model" / "model.safetensors")
    same = {name for name in after if after[name].dtype == torch.bfloat16}
    assert all(torch.equal(after[name], before[name]) for name in same)
    trained_names = {name for name in after if after[name].dtype == torch.float32}
    if method == "head":
        assert not trained_names
    elif method == "lora":
        assert {name.rpartition(".")[0].rpartition(".")[2] for name in trained_names} == {"c_attn"}
    else:
        assert trained_names
    # transformers opens all of them in a precision that loses nothing.
    opened = AutoModelForCausalLM.from_pretrained(run.path / "model")
    assert str(opened.dtype) == f"torch.{dtype}"
    state = opened.state_dict()
    assert all(torch.equal(state[name].float(), tensor.float()) for name, tensor in after.items())
    assert gpt_tasks.load(run.path).predict(TEXT).label in ("negative", "positive")


def test_a_model_that_writes_is_kept_by_reference(backbone: Path, tmp_path: Path) -> None:
    rows = [{"document": f"{row['text']} It was {n}.", "summary": f"It was {n}."} for n, row in enumerate(ROWS)]
    how: dict[str, Any] = {"data": rows, "backbone": backbone, "method": "lora", "epochs": 1, "device": "cpu"}
    how["options"] = {"max_tokens": 8}
    runs = [
        gpt_tasks.finetune("summarization", output=tmp_path / str(by), backbone_by_reference=by, **how)
        for by in (False, True)
    ]
    one, other = (gpt_tasks.load(run.path).predict(rows[0]["document"]) for run in runs)
    assert one == other


def test_a_model_of_the_hub_is_kept_by_its_commit(backbone: Path) -> None:
    presets = installed_plugins().registry.backbones
    for spec in ("owner/name", "owner/name@main"):
        reference = reference_to(Location(spec, backbone, "abc123"), presets)
        assert reference.place == "owner/name@abc123"
    assert reference_to(Location("gpt2", backbone, "abc123"), presets).place == "openai-community/gpt2@abc123"
    file = backbone / "small" / "q4.gguf"
    file.parent.mkdir()
    file.write_bytes(b"GGUF")
    of_file = reference_to(Location("hf:owner/name:small/q4.gguf", backbone, "abc123", gguf=file), presets)
    assert of_file.place == "hf:owner/name@abc123:small/q4.gguf"
    assert set(of_file.checksums) == {"small/q4.gguf"}
    here = reference_to(Location("small/q4.gguf", file.parent, gguf=file), presets)
    assert (here.place, set(here.checksums)) == (str(file), {"q4.gguf"})
