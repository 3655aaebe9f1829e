"""Is the folder of a model whole? What can be told of its files before transformers opens them."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from gpt_tasks.backbone import hub
from gpt_tasks.errors import ModelError
from gpt_tasks.saved_json import checked, read_json

TOKENIZER = "tokenizer.json"
GENERATION = "generation_config.json"
_SMALL = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
BELONG = f"Weights and {hub.CONFIG} must belong together."


def check_files(folder: Path) -> None:
    """Raise ModelError naming what of a backbone's folder is missing, truncated, or no such file."""
    for name in (hub.CONFIG, *filter(lambda name: (folder / name).is_file(), _SMALL)):
        read_json(folder / name)
    generation = folder / GENERATION
    if generation.is_file():
        checked(generation, read_json(generation), _Generation)
    if (folder / hub.WEIGHTS).is_file():
        check_tensors(folder / hub.WEIGHTS)
    elif (folder / hub.WEIGHTS_INDEX).is_file():
        _check_shards(folder)
    elif any(folder.glob("pytorch_model*.bin")):
        raise ModelError(
            f"{folder}: the weights are pickled (pytorch_model.bin), which can run code when opened",
            "Save them as safetensors once: load the model with transformers and call save_pretrained(FOLDER); on the "
            "hub a converted revision often exists (OWNER/NAME@refs/pr/NUMBER).",
        )
    else:
        raise ModelError(f"{folder / hub.WEIGHTS}: this file is missing", "A backbone's weights are in safetensors.")
    if not hub.has_tokenizer(folder):
        raise ModelError(
            f"{folder}: there is no tokenizer (tokenizer.json)", "Save the model's tokenizer into the same folder."
        )


def check_tensors(file: Path) -> None:
    """Read the header of a safetensors file. Raises ModelError where the file is missing, truncated or another."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise ModelError(f"{file}: this file is missing", "Copy or download the folder again, whole.")
    try:
        with safe_open(file, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{file}: truncated, or not a safetensors file: {hub.first_line(error)}",
            "Copy or download it again.",
        ) from error


class _Generation(BaseModel):
    """What is read of a generation config without transformers' checking it."""

    eos_token_id: int | list[int] | None = None
    bos_token_id: int | None = None
    pad_token_id: int | None = None
    max_length: int | None = None
    max_new_tokens: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    num_beams: int | None = None
    repetition_penalty: float | None = None


class _Index(BaseModel):
    """What is read of the index of sharded weights."""

    weight_map: dict[str, str] = Field(min_length=1)


def _check_shards(folder: Path) -> None:
    """Raise ModelError where the index names other weights than the files hold."""
    from safetensors import safe_open

    file = folder / hub.WEIGHTS_INDEX
    places = checked(file, read_json(file), _Index).weight_map
    for shard in sorted(set(places.values())):
        if Path(shard).name != shard:
            raise ModelError(f"{file}: 'weight_map': '{shard}' is no file of the folder", "Copy it again.")
        check_tensors(folder / shard)
        with safe_open(folder / shard, framework="pt") as opened:
            held = set(opened.keys())
        wrong = sorted(name for name, place in places.items() if place == shard and name not in held)
        if wrong:
            raise ModelError(f"{file}: 'weight_map.{wrong[0]}': {shard} holds no such weight", BELONG)
