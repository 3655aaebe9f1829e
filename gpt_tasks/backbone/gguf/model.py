"""A model from a GGUF file, whose tensors are read one after the other: none is in memory twice for long."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.backbone.gguf.header import Header, Tensor, read_header
from gpt_tasks.errors import ModelError, said

if TYPE_CHECKING:
    import numpy
    import torch
    from transformers import PreTrainedModel

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2", "phi3")
"""Those of which a test compares the weights and logits with those of the model that was written into the file."""
_VALUES_AT_ONCE = 1 << 21
_SCALED = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


def checked_header(file: Path) -> Header:
    """Read a file's header. Raises ModelError where it is damaged, of another architecture, or lacks a tokenizer."""
    header = read_header(file)
    if header.architecture not in ARCHITECTURES:
        raise ModelError(
            f"{header.file}: 'general.architecture' is {header.architecture!a}, which is not read from GGUF",
            f"Read are {', '.join(ARCHITECTURES)}. Give the model's folder in transformers' format instead.",
        )
    if "tokenizer.ggml.tokens" not in header.metadata:
        raise ModelError(f"{header.file}: there is no tokenizer in it", "Convert the model again, with its tokenizer.")
    scaling = header.metadata.get(f"{header.architecture}.rope.scaling.type", "none")
    scaled = next((name for name in _SCALED if name in header.tensors), "" if scaling == "none" else scaling)
    if scaled:
        raise ModelError(
            f"{file}: its positions are scaled ({scaled}), which transformers does not read from GGUF",
            "Give the model's folder in transformers' format instead.",
        )
    return header


def read_model(header: Header, config: Any) -> PreTrainedModel:
    """Build the model of a configuration in float32, with the values of a file.

    At its peak this needs the model's own memory and that of a few small tensors. Raises ModelError where the file
    lacks a weight, or has it in another shape.
    """
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

    if header.architecture == "gpt2":
        config.n_positions = config.n_ctx  # transformers reads the length into the field that its GPT-2 does not use
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    expected = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    found = _weights(header, empty)
    tied = set(getattr(empty, "all_tied_weights_keys", None) or {})
    for name, shape in expected.items():
        if name not in found and name not in tied:
            raise ModelError(f"{header.file}: the weights lack '{name}'", "Copy or download it again.")
        if name in found and found[name].shape != shape:
            raise ModelError(
                f"{header.file}: weight '{name}' is {list(found[name].shape)}, but its header asks for {list(shape)}",
                "Copy or download it again.",
            )
    loader: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    model: PreTrainedModel = loader.from_pretrained(None, config=config, state_dict=found, dtype=torch.float32)
    return model


def _weights(header: Header, model: Any) -> dict[str, _Weight]:
    """Return a file's weights by transformers' names. Raises ModelError for one that the model has no place for."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor

    processor: Any = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)
    processor = processor(config=model.config.to_dict())
    kind = next(kind for kind, name in MODEL_ARCH_NAMES.items() if name == header.architecture)
    known = get_tensor_name_map(kind, model.config.num_hidden_layers)
    names = {known.get_name(name, try_suffixes=(".weight", ".bias")): name for name in model.state_dict()}
    found = {}
    for name, tensor in header.tensors.items():
        if name in names:
            # GPT-2's processor writes this one, which is in order, to a place of its own.
            found[names[name]] = _Weight(header.file, tensor, None if name == "output.weight" else processor)
        else:
            raise ModelError(
                f"{header.file}: transformers' {type(model).__name__} has no place for tensor '{name}'",
                "Give the model's folder in transformers' format instead.",
            )
    return found


class _Weight:
    """A weight that is read when it is asked for, as transformers asks for the parts of a safetensors file."""

    def __init__(self, file: Path, tensor: Tensor, processor: Any) -> None:
        self.file = file
        self.tensor = tensor
        self.processor = processor

    @property
    def shape(self) -> tuple[int, ...]:
        import numpy

        # What is done with the values depends on their places alone, so that one value can stand for all.
        return self._arranged(numpy.broadcast_to(numpy.float32(0), self.tensor.shape)).shape

    def __getitem__(self, _: Any) -> torch.Tensor:
        import torch

        return torch.from_numpy(self._arranged(self._values()))

    def _arranged(self, values: numpy.ndarray) -> numpy.ndarray:
        """Return values in transformers' order, which for some weights differs from llama.cpp's."""
        if self.processor is None:
            return values
        arranged: numpy.ndarray = self.processor.process(values, self.tensor.name, parsed_parameters={}).weights
        return arranged

    def _values(self) -> numpy.ndarray:
        import numpy
        from gguf import dequantize

        tensor = self.tensor
        values = numpy.empty(tensor.shape, dtype=numpy.float32)
        rows = values.reshape(-1, tensor.shape[-1])
        step = max(1, _VALUES_AT_ONCE // rows.shape[1])
        with self.file.open("rb") as opened:
            opened.seek(tensor.offset)
            for first in range(0, len(rows), step):
                part = rows[first : first + step]
                stored = numpy.fromfile(opened, dtype=numpy.uint8, count=len(part) * tensor.row_bytes)
                try:
                    part[:] = dequantize(stored.reshape(len(part), tensor.row_bytes), tensor.kind)
                except (NotImplementedError, ValueError) as error:
                    raise ModelError(
                        f"{self.file}: tensor '{tensor.name}' in {tensor.kind.name}: {said(error)[:200]}",
                        "Take another quantization of the model, such as Q8_0.",
                    ) from error
        return values
