"""Load a backbone, a causal language model and its tokenizer, from a preset, a folder or the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.backbone import hub
from gpt_tasks.backbone.folder import BELONG, TOKENIZER, check_files
from gpt_tasks.backbone.gguf.model import checked_header, read_model
from gpt_tasks.backbone.locate import Location, locate
from gpt_tasks.backbone.native import panics_caught
from gpt_tasks.backbone.quiet import quiet_transformers
from gpt_tasks.backbone.reference import MODEL_FILES, base_of, read_reference, refers, restore, verify_reference
from gpt_tasks.backbone.shared import SharedBackbones, own_embeddings
from gpt_tasks.backbone.verify import verify_run
from gpt_tasks.errors import ModelError, UsageError
from gpt_tasks.extensions import BackbonePreset
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.saved_json import read_json
from gpt_tasks.tasks.encoding import encode_text
from gpt_tasks.threads import LOADING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Backbone:
    """A causal language model with float32 weights, its tokenizer, and where both come from."""

    location: Location
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def spec(self) -> str:
        """What the user asked for."""
        return self.location.spec

    @property
    def parameters(self) -> int:
        """The number of parameters; shared ones count once."""
        model: Any = self.model
        # Of weights of 4 bits two are held as one.
        packed = getattr(model, "is_loaded_in_4bit", False)
        return int(model.num_parameters()) if packed else sum(each.numel() for each in model.parameters())

    @property
    def hidden_size(self) -> int:
        """The width of the last hidden state, which is what the language model head reads."""
        model: Any = self.model
        return int(model.get_output_embeddings().weight.shape[1])

    @property
    def context_length(self) -> int | None:
        """The most tokens the model can read at once; None where its positions have no limit."""
        return getattr(self.model.config, "max_position_embeddings", None)

    @cached_property
    def fingerprint(self) -> str:
        """The hub's commit, or the SHA-256 of configuration, weights and tokenizer; of a GGUF file that of the file.

        Of an adapter, the SHA-256 of its files and of its base model's fingerprint.
        """
        return _fingerprint(self.location)


def load_backbone(
    spec: str, presets: Mapping[str, BackbonePreset], *, trust_remote_code: bool = False, verify: bool = True
) -> Backbone:
    """Load the backbone that `spec` names, in float32 and in evaluation mode.

    `trust_remote_code` lets the model use its own Python code; without `verify` the files of a run are not checked.
    Raises UsageError for an unknown name, and for one of the two where it has no effect; ModelError for a model that
    cannot be loaded whole, or is not the one that was trained.
    """
    location = locate(spec, presets, with_code=trust_remote_code)
    if not verify and location.run is None:
        raise UsageError(f"--no-verify has no effect: {spec} is not the folder of a finished run", "Leave it out.")
    folder = base_of(location.folder).folder if hub.is_adapter(location.folder) else location.folder
    if trust_remote_code and (location.gguf or not hub.has_code(folder)):
        raise UsageError(f"--trust-remote-code has no effect: {spec} has no code of its own", "Leave it out.")
    return open_backbone(
        location if verify else replace(location, run=None),
        trust_remote_code=trust_remote_code,
    )


def open_backbone(
    location: Location,
    *,
    trust_remote_code: bool = False,
    quantization: Any = None,
    shared: SharedBackbones | None = None,
) -> Backbone:
    """Load the model and the tokenizer in a folder, while no other thread does.

    With a `quantization` of transformers, the weights are in that, and on the GPU. What a folder refers to is taken
    from the `shared` backbones, if there are any.
    Raises ModelError naming the file that is missing, broken, or not the one that was trained.
    """
    folder = location.folder
    if location.run is not None:
        verify_run(location.run)
    if location.run is not None or location.adapter:
        verify_reference(folder)
    if refers(folder):
        return _open_referred(location, trust_remote_code, shared)
    header = checked_header(location.gguf) if location.gguf else None
    if header is None:
        check_files(folder)
    # How transformers opens what is in the folder: a configuration, or a file in GGUF.
    how = {"gguf_file": location.gguf.name} if location.gguf else {"trust_remote_code": trust_remote_code}
    with LOADING, quiet_transformers():
        config = _config(location, how)
        model = read_model(header, config) if header else _model(folder, config, trust_remote_code, quantization)
        tokenizer = _tokenizer(location, how)
    return _belonging(Backbone(location, model, tokenizer))


def _open_referred(location: Location, trust_remote_code: bool, shared: SharedBackbones | None) -> Backbone:
    """Load the backbone that a run's model, or an adapter, refers to, and what that adds to it."""
    folder = location.folder
    found = base_of(folder)
    # What is further down has been verified, unless it is not to be.
    found = replace(found, adapter=False)
    reference = read_reference(folder)
    opening = partial(open_backbone, trust_remote_code=trust_remote_code)
    # What a method fills in, it fills in in place.
    if shared is None or reference.method:
        base = opening(found)
    else:
        base = opening(found, shared=shared) if refers(found.folder) else shared.open(found, opening)
        if reference.tokens:
            own_embeddings(base.model)
    with LOADING, quiet_transformers():
        own = hub.has_tokenizer(folder)
        tokenizer = _tokenizer(location, {"trust_remote_code": trust_remote_code}) if own else base.tokenizer
        restore(base.model, base.tokenizer, folder, reference, installed_plugins().registry.methods)
    return _belonging(Backbone(location, base.model, tokenizer))


def _belonging(backbone: Backbone) -> Backbone:
    """Return a backbone. Raises ModelError where its tokenizer has more tokens than its embedding has rows."""
    embedding: Any = backbone.model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    largest = max(backbone.tokenizer.get_vocab().values())
    if largest >= rows:
        where = backbone.location.gguf or backbone.location.folder
        raise ModelError(
            f"{where}: the tokenizer has {largest + 1} tokens, the embedding table {rows} rows",
            "Model and tokenizer must belong together.",
        )
    return backbone


def _fingerprint(location: Location) -> str:
    if location.gguf:
        with location.gguf.open("rb") as content:
            return f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
    is_adapter = hub.is_adapter(location.folder)
    if location.commit and not is_adapter:
        return f"commit:{location.commit}"
    digest = hashlib.sha256()
    for file in sorted({file for pattern in MODEL_FILES for file in location.folder.glob(pattern)}):
        with file.open("rb") as content:
            digest.update(f"{file.name}\0".encode() + hashlib.file_digest(content, "sha256").digest())
    if is_adapter:
        digest.update(_fingerprint(base_of(location.folder)).encode())
    return f"sha256:{digest.hexdigest()}"


def _config(location: Location, how: Mapping[str, Any]) -> Any:
    from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoConfig

    file = location.gguf or location.folder / hub.CONFIG
    try:
        config = AutoConfig.from_pretrained(location.folder, local_files_only=True, **how)
    except Exception as error:
        raise ModelError(f"{file}: {hub.first_line(error)}", _ADVICE) from error
    reads_both_ways = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if config.is_encoder_decoder or reads_both_ways:
        raise ModelError(
            f"{file}: a model of type '{config.model_type}' is no causal language model",
            "Take a GPT: a decoder that reads from left to right.",
        )
    return config


def _model(folder: Path, config: Any, trust_remote_code: bool, quantization: Any) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    model: PreTrainedModel
    report: dict[str, Any]
    loader: Any = AutoModelForCausalLM
    try:
        model, report = loader.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            # Reported below, with the names and shapes, instead of by an error that has neither.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            quantization_config=quantization,
        )
    except MemoryError:
        raise
    except Exception as error:
        raise ModelError(f"{folder}: {hub.first_line(error)}", _ADVICE) from error
    for name, found, expected in sorted(report["mismatched_keys"]):
        raise ModelError(
            f"{folder}: weight '{name}' is {list(found)}, but {hub.CONFIG} asks for {list(expected)}", BELONG
        )
    if report["missing_keys"]:
        raise ModelError(f"{folder}: the weights lack {_some(report['missing_keys'])}", BELONG)
    parts = {name for name, _ in model.base_model.named_children()}
    prefix = f"{model.base_model_prefix}."
    # A head on top (a classifier, a value head) may be left behind, a layer of the backbone may not.
    odd = [name for name in report["unexpected_keys"] if name.removeprefix(prefix).split(".")[0] in parts]
    if odd:
        raise ModelError(f"{folder}: {hub.CONFIG} has no place for the weights {_some(odd)}", BELONG)
    return model


def _tokenizer(location: Location, how: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    folder = location.folder
    where = location.gguf or folder
    tokenizer: PreTrainedTokenizerBase
    try:
        with panics_caught():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **how)
            tokens = tokenizer.get_vocab()
            tokenizer.decode(encode_text(tokenizer, "Is it whole?"))
    except Exception as error:
        file = folder / TOKENIZER
        if location.gguf is None and file.is_file():
            read_json(file)
            where = file
        raise ModelError(f"{where}: the tokenizer cannot be loaded: {hub.first_line(error)}", _ADVICE) from error
    # Where files are missing, transformers builds a tokenizer that knows nothing but its special tokens.
    if len(tokens) <= len(tokenizer.all_special_ids):
        raise ModelError(
            f"{location.gguf or folder}: the tokenizer is empty", "Save the model's tokenizer into the same folder."
        )
    if not tokenizer.is_fast:
        raise ModelError(
            f"{folder}: the tokenizer '{type(tokenizer).__name__}' has no fast version (tokenizer.json)",
            "Convert it with transformers (AutoTokenizer, then save_pretrained).",
        )
    if tokenizer.pad_token_id is None:
        # The attention mask identifies padding, never the id; an ordinary token would become a control token here.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def _some(names: Mapping[str, Any] | list[str] | set[str]) -> str:
    first, *others = sorted(names)
    return f"'{first}'" + (f" and {len(others)} more" if others else "")


_ADVICE = "Check that transformers knows this kind of model, and that the folder is whole."
