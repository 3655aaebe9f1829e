"""Backbones load whole, from each kind of place, or say in one line why not."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt_tasks.backbone import hub, presets
from gpt_tasks.backbone.load import load_backbone
from gpt_tasks.backbone.locate import locate
from gpt_tasks.backbone.native import panics_caught
from gpt_tasks.errors import GptTasksError, ModelError, UsageError
from gpt_tasks.extensions import BackbonePreset
from gpt_tasks.registry import Registry
from gpt_tasks.tasks.encoding import pad_token

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def table() -> Registry[BackbonePreset]:
    found: Registry[BackbonePreset] = Registry("backbone")
    for preset in presets.register_backbones():
        found.add(preset.name, preset, "backbones")
    return found


@pytest.fixture
def folder(tiny_backbone_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(tiny_backbone_folder, tmp_path / "backbone"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fill_cache(cache: Path, repo: str, files: Path, ref: str = "main") -> Path:
    """Lay a snapshot out as the hub's client does."""
    repository = cache / f"models--{repo.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / ref).write_text(COMMIT)
    return Path(shutil.copytree(files, repository / "snapshots" / COMMIT))


def edit_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def assert_one_line(error: GptTasksError, *parts: str) -> None:
    assert "\n" not in error.message
    assert error.hint
    for part in parts:
        assert part in error.message


def test_a_folder_loads_in_float32_with_its_tokenizer(folder: Path, table: Registry[BackbonePreset]) -> None:
    backbone = load_backbone(str(folder), table)
    assert {parameter.dtype for parameter in backbone.model.parameters()} == {torch.float32}
    assert not backbone.model.training
    assert backbone.tokenizer("A warm film.")["input_ids"]
    assert (backbone.hidden_size, backbone.context_length, backbone.spec) == (16, 64, str(folder))
    assert backbone.parameters == sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())


def test_weights_kept_in_bf16_become_float32_masters(folder: Path, table: Registry[BackbonePreset]) -> None:
    file = folder / "model.safetensors"
    halved = {name: tensor.bfloat16() for name, tensor in load_file(file).items()}
    save_file(halved, file, metadata={"format": "pt"})
    edit_config(folder, dtype="bfloat16")
    model = load_backbone(str(folder), table).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.transformer.ln_f.weight, halved["transformer.ln_f.weight"].float())


def test_a_run_folder_can_replace_its_model(folder: Path, tmp_path: Path, table: Registry[BackbonePreset]) -> None:
    shutil.move(folder, tmp_path / "run" / "model")
    assert locate(str(tmp_path / "run"), table).folder == tmp_path / "run" / "model"


def test_a_preset_leads_to_its_folder(folder: Path) -> None:
    table: Registry[BackbonePreset] = Registry("backbone")
    table.add("mine", BackbonePreset("mine", "", lambda: folder), "me")
    assert load_backbone("mine", table).location.folder == folder


def test_sharded_weights_load(folder: Path, table: Registry[BackbonePreset]) -> None:
    backbone = load_backbone(str(folder), table)
    (folder / "model.safetensors").unlink()
    backbone.model.save_pretrained(folder, max_shard_size="10KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    again = load_backbone(str(folder), table)
    assert torch.equal(again.model.transformer.wte.weight, backbone.model.transformer.wte.weight)
    shards[1].unlink()
    with pytest.raises(ModelError) as caught:
        load_backbone(str(folder), table)
    assert_one_line(caught.value, shards[1].name, "missing")


def test_the_fingerprint_follows_what_is_in_the_files(folder: Path, table: Registry[BackbonePreset]) -> None:
    before = load_backbone(str(folder), table).fingerprint
    assert before == load_backbone(str(folder), table).fingerprint
    (folder / "README.md").write_text("A model card.")
    assert before == load_backbone(str(folder), table).fingerprint
    weights = load_file(folder / "model.safetensors")
    weights["transformer.ln_f.bias"][0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert before != load_backbone(str(folder), table).fingerprint


def test_a_tokenizer_without_padding_pads_with_the_end_of_text(folder: Path, table: Registry[BackbonePreset]) -> None:
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    del settings["pad_token"]
    file.write_text(json.dumps(settings))
    tokenizer = load_backbone(str(folder), table).tokenizer
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    del settings["eos_token"], settings["bos_token"]
    file.write_text(json.dumps(settings))
    # Whatever is padded with then, no ordinary token becomes one that is left out of what is read.
    tokenizer = load_backbone(str(folder), table).tokenizer
    assert tokenizer.pad_token_id is None
    assert pad_token(tokenizer) == 0


@pytest.mark.parametrize(
    "broken",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "/////w=="}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AQAAAA=="}},
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    ],
)
def test_a_tokenizer_that_panics_is_named_and_its_report_left_out(
    broken: dict[str, Any],
    folder: Path,
    table: Registry[BackbonePreset],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RUST_BACKTRACE", "1")
    file = folder / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **broken}))
    with pytest.raises(ModelError) as caught:
        load_backbone(str(folder), table)
    assert_one_line(caught.value, str(file))
    assert capfd.readouterr().err == ""


def test_what_native_code_prints_is_held_back_only_where_it_panics(capfd: pytest.CaptureFixture[str]) -> None:
    class PanicException(BaseException):
        pass

    with panics_caught():
        os.write(2, b"a warning\n")
    assert capfd.readouterr().err == "a warning\n"
    with pytest.raises(KeyError), panics_caught():  # noqa: PT012
        os.write(2, b"a warning\n")
        raise KeyError
    assert capfd.readouterr().err == "a warning\n"
    with pytest.raises(ValueError, match="panicked: at the sky"), panics_caught():  # noqa: PT012
        os.write(2, b"226 lines of frames\n")
        raise PanicException("at the sky")
    assert capfd.readouterr().err == ""


def test_an_index_of_other_weights_is_named(folder: Path, table: Registry[BackbonePreset]) -> None:
    load_backbone(str(folder), table).model.save_pretrained(folder, max_shard_size="10KB")
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    whole = json.loads(index.read_text())
    name, shard = next(iter(whole["weight_map"].items()))
    other = next(each for each in whole["weight_map"].values() if each != shard)
    for changed in ({name: other}, {name: 3}, {name: "../config.json"}, {name: []}):
        index.write_text(json.dumps({**whole, "weight_map": {**whole["weight_map"], **changed}}))
        with pytest.raises(ModelError) as caught:
            load_backbone(str(folder), table)
        assert_one_line(caught.value, str(index), "weight_map")
    for weight_map in ({}, [], "x", None):
        index.write_text(json.dumps({**whole, "weight_map": weight_map}))
        with pytest.raises(ModelError) as caught:
            load_backbone(str(folder), table)
        assert_one_line(caught.value, str(index), "weight_map")


def test_a_misspelt_preset_is_met_with_the_nearest(table: Registry[BackbonePreset]) -> None:
    with pytest.raises(UsageError) as caught:
        load_backbone("gpt2-lage", table)
    assert_one_line(caught.value, "gpt2-lage")
    assert caught.value.hint == "Did you mean 'gpt2-large'?"


@pytest.mark.parametrize("spec", ["/nowhere/at/all", "./missing", "~/no-such-model", "a/b/c"])
def test_a_missing_folder_is_named(spec: str, table: Registry[BackbonePreset]) -> None:
    with pytest.raises(ModelError) as caught:
        load_backbone(spec, table)
    assert_one_line(caught.value, spec, "no such folder")


def test_a_file_is_no_backbone(folder: Path, table: Registry[BackbonePreset]) -> None:
    with pytest.raises(ModelError) as caught:
        load_backbone(str(folder / "config.json"), table)
    assert_one_line(caught.value, "a file, not a folder")


def truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def rename_a_layer(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = {name.replace("h.1.ln_1", "h.1.norm"): tensor for name, tensor in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})


def pickle_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def empty_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    (folder / "vocab.txt").write_text("not\nof\nthis\nkind\n")


def adapter_only(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")
    (folder / "model.safetensors").unlink()


BREAKAGES = {
    "no config": (lambda folder: (folder / "config.json").unlink(), ["config.json", "missing"]),
    "no JSON": (lambda folder: (folder / "config.json").write_text('{"model_type": "gp'), ["config.json", "not JSON"]),
    "unknown kind": (lambda folder: edit_config(folder, model_type="gpt9"), ["config.json", "gpt9"]),
    "an encoder": (lambda folder: edit_config(folder, model_type="bert"), ["'bert'", "no causal language model"]),
    "encoder-decoder": (lambda folder: edit_config(folder, model_type="t5"), ["'t5'", "no causal language model"]),
    "truncated weights": (truncate, ["model.safetensors", "truncated"]),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), ["model.safetensors", "missing"]),
    "pickled weights": (pickle_weights, ["pytorch_model.bin", "pickled"]),
    "a layer too few": (lambda folder: edit_config(folder, n_layer=3), ["the weights lack 'transformer.h.2.", "more"]),
    "a layer too many": (lambda folder: edit_config(folder, n_layer=1), ["no place for", "transformer.h.1."]),
    "another width": (lambda folder: edit_config(folder, n_embd=32), ["is [", "asks for ["]),
    "renamed weights": (rename_a_layer, ["the weights lack 'transformer.h.1.ln_1.bias' and 1 more"]),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), ["no tokenizer"]),
    "an empty tokenizer": (empty_tokenizer, ["the tokenizer is empty"]),
    "a broken tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{"), ["tokenizer.json: truncated"]),
    "an adapter": (adapter_only, ["adapter_config.json", "'peft_type': field required"]),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_what_is_broken_is_named_in_one_line(
    name: str, folder: Path, table: Registry[BackbonePreset], capfd: pytest.CaptureFixture[str]
) -> None:
    damage, parts = BREAKAGES[name]
    damage(folder)
    with pytest.raises(ModelError) as caught:
        load_backbone(str(folder), table)
    assert_one_line(caught.value, str(folder), *parts)
    assert capfd.readouterr().err == ""


def test_a_tokenizer_must_fit_the_embedding_table(folder: Path, table: Registry[BackbonePreset]) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights["transformer.wte.weight"] = weights["transformer.wte.weight"][:300].contiguous()
    save_file(weights, file, metadata={"format": "pt"})
    edit_config(folder, vocab_size=300)
    with pytest.raises(ModelError) as caught:
        load_backbone(str(folder), table)
    assert_one_line(caught.value, "384 tokens", "300 rows")


def test_a_head_on_top_may_be_left_behind(folder: Path, table: Registry[BackbonePreset]) -> None:
    file = folder / "model.safetensors"
    save_file(load_file(file) | {"score.weight": torch.zeros(2, 16)}, file, metadata={"format": "pt"})
    assert load_backbone(str(folder), table).hidden_size == 16


def test_the_cache_serves_without_a_network(
    cache: Path, folder: Path, table: Registry[BackbonePreset], monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = fill_cache(cache, "acme/mini", folder)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    backbone = load_backbone("acme/mini", table)
    assert backbone.location.folder == snapshot
    assert backbone.fingerprint == f"commit:{COMMIT}"
    assert load_backbone(f"acme/mini@{COMMIT}", table).location.commit == COMMIT


def test_a_preset_on_the_hub_is_found_in_the_cache(
    cache: Path, folder: Path, table: Registry[BackbonePreset], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_cache(cache, "openai-community/gpt2", folder)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert locate("gpt2", table).commit == COMMIT


def test_offline_and_not_cached_says_so(
    cache: Path, table: Registry[BackbonePreset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError) as caught:
        locate("acme/mini", table)
    assert_one_line(caught.value, "acme/mini", str(cache), "HF_HUB_OFFLINE")


def test_a_cached_snapshot_that_lacks_weights_does_not_serve(
    cache: Path, folder: Path, table: Registry[BackbonePreset], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "model.safetensors").unlink()
    fill_cache(cache, "acme/mini", folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="not in the local cache"):
        locate("acme/mini", table)


@pytest.mark.parametrize("hub_answers", ["never", "refusing"])
def test_no_network_is_reported_within_three_seconds(hub_answers: str, tmp_path: Path) -> None:
    """From the start of the interpreter, in a separate process: nothing is warm."""
    code = (
        "import sys\n"
        "from gpt_tasks.backbone.locate import locate\n"
        "from gpt_tasks.errors import ModelError\n"
        "try:\n"
        "    locate('acme/mini', {})\n"
        "except ModelError as error:\n"
        "    assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "    print(error.message)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        if hub_answers == "refusing":
            silent.close()
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        started = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        seconds = time.monotonic() - started
    assert f"the hub at http://127.0.0.1:{port} cannot be reached" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
    assert seconds < 6  # the second that locate waits, the start of Python, and what a busy machine adds


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as a download of one public model needs, and its three refusals."""

    files: Path

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        path = self.path.split("?")[0]
        kind = next((kind for name, kind in REFUSALS.items() if name in self.path), None)
        if path in ("", "/"):
            self.reply(200, b"", with_body)
        elif kind:
            status, code = kind
            self.reply(status, b"{}", with_body, {"X-Error-Code": code, "X-Error-Message": code})
        elif path == "/api/models/acme/mini/revision/main":
            self.reply(200, json.dumps({"id": "acme/mini", "sha": COMMIT}).encode(), with_body)
        elif path == f"/api/models/acme/mini/tree/{COMMIT}":
            tree = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name}
                for file in self.files.iterdir()
            ]
            self.reply(200, json.dumps(tree).encode(), with_body)
        elif path.startswith(f"/acme/mini/resolve/{COMMIT}/"):
            name = path.rsplit("/", 1)[1]
            headers = {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}
            self.reply(200, (self.files / name).read_bytes(), with_body, headers)
        else:
            self.reply(404, b"{}", with_body)

    def reply(self, status: int, body: bytes, with_body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


REFUSALS = {
    "nobody/nothing": (404, "RepoNotFound"),
    "acme/gated": (403, "GatedRepo"),
    "revision/nowhere": (404, "RevisionNotFound"),
}


@pytest.fixture
def local_hub(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from huggingface_hub import close_session

    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    close_session()
    (folder / "pytorch_model.bin").write_bytes(b"not to be downloaded")
    Hub.files = folder
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    yield endpoint
    server.shutdown()
    server.server_close()
    close_session()


def test_a_model_is_downloaded_and_then_served_from_the_cache(local_hub: str, table: Registry[BackbonePreset]) -> None:
    backbone = load_backbone("acme/mini", table)
    assert backbone.fingerprint == f"commit:{COMMIT}"
    assert (backbone.location.folder / "model.safetensors").is_file()
    assert not (backbone.location.folder / "pytorch_model.bin").exists()
    (Hub.files / "config.json").write_text("{}")
    assert load_backbone("acme/mini", table).hidden_size == 16


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("nobody/nothing", "the hub has no model 'nobody/nothing'"),
        ("acme/gated", "the model is gated"),
        ("acme/mini@nowhere", "model 'acme/mini' has no such revision"),
    ],
)
def test_what_the_hub_refuses_is_reported_in_one_line(
    spec: str, part: str, local_hub: str, table: Registry[BackbonePreset]
) -> None:
    with pytest.raises(ModelError) as caught:
        locate(spec, table)
    assert_one_line(caught.value, spec, part)


def test_the_hub_is_reachable_for_any_answer(local_hub: str) -> None:
    assert hub.why_unreachable() == ""


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_with_code_of_its_own_names_it_in_its_files(
    name: str, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_backbone_folder, tmp_path / "model"))
    assert not hub.has_code(folder)
    with pytest.raises(UsageError, match="--trust-remote-code has no effect"):
        load_backbone(str(folder), {}, trust_remote_code=True)
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps({**content, "auto_map": {"AutoConfig": "own.Config"}}), encoding="utf-8")
    assert hub.has_code(folder)


def test_only_the_model_of_a_run_is_opened_unverified(tiny_backbone_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"--no-verify has no effect: .* is not the folder of a finished run"):
        load_backbone(str(tiny_backbone_folder), {}, verify=False)
