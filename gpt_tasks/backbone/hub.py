"""The model hub: a repository's snapshot on disk, from the local cache or downloaded, or why it is not available."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path

from gpt_tasks.errors import GptTasksError, ModelError
from gpt_tasks.files import machine_errors, parse_json

HUB_ID = re.compile(r"(hf:)?(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", re.ASCII)
HUB_FILE = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?:(?P<file>[\w./-]+\.gguf)", re.ASCII)
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
WEIGHT_FILES = ("model.safetensors", "model-*-of-*.safetensors", WEIGHTS_INDEX)
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "*.model", "*.tiktoken")
_EXTRAS = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "*.jinja")
_CODE = ("*.py",)
# Together with the start of the interpreter, the answer "no network" comes within three seconds.
_PATIENCE = 1.5


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of one commit of a hub repository."""

    repo: str
    commit: str
    folder: Path


def has_code(folder: Path) -> bool:
    """Return whether a model or its tokenizer is computed by Python code of its own, which its files then name."""
    for name in (CONFIG, "tokenizer_config.json"):
        try:
            if "auto_map" in parse_json((folder / name).read_text(encoding="utf-8")):
                return True
        except (OSError, ValueError, TypeError):
            continue  # opening the model says what is wrong with the file
    return False


def fetch(repo: str, revision: str | None = None, *, with_code: bool = False, file: str | None = None) -> Snapshot:
    """Return a model repository's files: from the local cache where they are complete, downloaded otherwise.

    Of a repository that holds several models in GGUF, `file` is the only one that is wanted.

    A cached snapshot is used without asking the hub for a newer one, so that the same spec stays the same model; a
    download by other means (`hf download OWNER/NAME`) renews it. `with_code` takes Python files too. Raises ModelError
    where the repository is not available, MachineError where it cannot be stored.
    """
    from huggingface_hub import constants, snapshot_download

    adapter = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
    of_model = (CONFIG, *WEIGHT_FILES, *TOKENIZER_FILES, *adapter, *_EXTRAS, *(_CODE if with_code else ()))
    wanted = [file] if file else list(of_model)
    try:
        cached = Path(snapshot_download(repo, revision=revision, allow_patterns=wanted, local_files_only=True))
    # The cache is incomplete: nothing to report yet.
    except (OSError, ValueError):
        cached = None
    if cached is not None and ((cached / file).is_file() if file else is_complete(cached)):
        return Snapshot(repo, cached.name, cached)
    spec = f"{repo}@{revision}" if revision else repo
    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"{spec}: not in the local cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE is set",
            "Unset HF_HUB_OFFLINE to download it, or give a folder that holds the model.",
        )
    cause = why_unreachable()
    if cause:
        raise ModelError(
            f"{spec}: not in the local cache, and the hub at {constants.ENDPOINT} cannot be reached: {cause}",
            "Without a network give a folder that holds the model, or the preset tiny, or fill the cache elsewhere "
            "(hf download) and point HF_HUB_CACHE at it.",
        )
    try:
        with machine_errors():
            folder = Path(snapshot_download(repo, revision=revision, allow_patterns=wanted))
    except GptTasksError:
        raise
    except Exception as error:
        raise _translated(error, spec, repo, constants.ENDPOINT) from error
    if file and not (folder / file).is_file():
        raise ModelError(f"{spec}: the hub's model has no file '{file}'", f"{constants.ENDPOINT}/{repo} lists them.")
    return Snapshot(repo, folder.name, folder)


def why_unreachable() -> str:
    """Return why the hub does not answer in time; an empty text where it does, with any status.

    Called before a download, because the hub's own client retries for minutes. Proxies and HF_ENDPOINT count.
    """
    from huggingface_hub import constants, get_session

    outcome = [f"no answer within {_PATIENCE:g} seconds"]

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=_PATIENCE, follow_redirects=False)
            outcome[0] = ""
        except Exception as error:
            outcome[0] = first_line(error)

    # In a thread, because no timeout of an HTTP client bounds the look-up of a name.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    return outcome[0]


def is_complete(folder: Path) -> bool:
    """Return whether a folder holds a configuration, a tokenizer and all weights; or a whole adapter."""
    if is_adapter(folder):
        return (folder / ADAPTER_WEIGHTS).is_file()
    if not (folder / CONFIG).is_file() or not has_tokenizer(folder):
        return False
    if (folder / WEIGHTS).is_file():
        return True
    try:
        index = parse_json((folder / WEIGHTS_INDEX).read_text(encoding="utf-8"))
        return all((folder / shard).is_file() for shard in index["weight_map"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter, which refers to its base model, and no model."""
    return (folder / ADAPTER_CONFIG).is_file() and not any(
        (folder / name).is_file() for name in (WEIGHTS, WEIGHTS_INDEX)
    )


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder holds any tokenizer file."""
    return any(any(folder.glob(pattern)) for pattern in TOKENIZER_FILES)


def first_line(error: BaseException) -> str:
    """Return an error of another library as one line: its type's name where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _translated(error: Exception, spec: str, repo: str, endpoint: str) -> ModelError:
    from huggingface_hub import errors

    log_in = "Log in with hf auth login, or set HF_TOKEN."
    match error:
        case errors.GatedRepoError():
            told = "the model is gated and you have no access to it", f"Ask for it at {endpoint}/{repo}. {log_in}"
        case errors.RepositoryNotFoundError():
            told = f"the hub has no model '{repo}', or it is private", f"Check the spelling. {log_in}"
        case errors.RevisionNotFoundError():
            told = f"model '{repo}' has no such revision", f"{endpoint}/{repo}/tree/main lists them."
        case errors.HfHubHTTPError():
            told = f"the hub refused: {first_line(error)}", "Try again later."
        case errors.HFValidationError():
            told = first_line(error), "A hub id reads OWNER/NAME or OWNER/NAME@REVISION."
        case _:
            told = f"the download failed: {first_line(error)}", "Try again; files already downloaded are reused."
    return ModelError(f"{spec}: {told[0]}", told[1])
