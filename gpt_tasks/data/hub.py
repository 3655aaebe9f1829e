"""The source `hf:`: data sets of the Hugging Face hub, or a folder laid out like one."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_tasks.backbone.hub import first_line, why_unreachable
from gpt_tasks.data.in_memory import dataset_rows
from gpt_tasks.data.split_names import ALL, split_named
from gpt_tasks.errors import DataError
from gpt_tasks.extensions import Reader, SourceScheme
from gpt_tasks.files import temporary_folder
from gpt_tasks.hookspecs import hookimpl
from gpt_tasks.paths import user_path
from gpt_tasks.types import Row

if TYPE_CHECKING:
    import datasets

_LOCATION = re.compile(r"(?P<name>(?:[\w.-]+/)?[\w.-]+)(?::(?P<config>[\w.+-]+))?(?:@(?P<revision>[\w./+-]+))?")


@hookimpl
def register_sources() -> list[Reader]:
    """Register the scheme `hf:`."""
    return [SourceScheme("hf:", "A data set of the Hugging Face hub: hf:OWNER/NAME[:CONFIG][@REVISION]", hub_splits)]


def hub_splits(location: str) -> Mapping[str, Callable[[], Iterator[Row]]]:
    """Load a data set by `OWNER/NAME[:CONFIG][@REVISION]`, or from a folder in the hub's layout, and give its splits.

    Raises DataError where there is none of that name, no such configuration, or no way to reach the hub.
    """
    name, config, revision = _parse(location)
    if not user_path(name).is_dir() and not _is_offline():
        # Checked first, because the hub's own client retries for minutes.
        cause = why_unreachable()
        if cause:
            raise _unreachable(location, cause)
    loaded = _load(location, name, config, revision)
    splits: dict[str, Callable[[], Iterator[Row]]] = {}
    for key, data in loaded.items():
        split = split_named(str(key))
        if split and split not in splits:
            splits[split] = partial(_rows, data, f"hf:{name}/{key}")
    if not splits and len(loaded) == 1:
        key, data = next(iter(loaded.items()))
        splits[ALL] = partial(_rows, data, f"hf:{name}/{key}")
    if not splits:
        raise DataError(
            f"hf:{location}: its splits are {', '.join(map(str, loaded))}, none of them train, validation or test",
            "Download the one that is meant and give it as a file.",
        )
    return splits


def _parse(location: str) -> tuple[str, str | None, str | None]:
    folder = user_path(location, "hf:")
    if folder.is_dir():
        return str(folder), None, None
    parts = _LOCATION.fullmatch(location)
    if parts is None:
        raise DataError(f"hf:{location}: this names no data set", "Write hf:OWNER/NAME[:CONFIG][@REVISION].")
    return parts["name"], parts["config"], parts["revision"]


def _load(location: str, name: str, config: str | None, revision: str | None) -> datasets.DatasetDict:
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        with _without_pattern(name) as place:
            return datasets.load_dataset(place, config, revision=revision)
    except ConnectionError as error:
        raise _unreachable(location, first_line(error)) from error
    except (
        *(datasets.exceptions.DatasetsError, HfHubHTTPError, FileNotFoundError, ValueError, RuntimeError),
        # What is broken in the metadata of a file is raised as it comes.
        *(TypeError, AttributeError, KeyError),
    ) as error:
        raise DataError(
            f"hf:{location}: {first_line(error)}",
            "Check the name; for a gated or private one, log in with: hf auth login",
        ) from error
    finally:
        if bars:
            datasets.enable_progress_bars()


@contextmanager
def _without_pattern(name: str) -> Iterator[str]:
    """Give a name, or links to a folder's files where datasets would take the folder's path for a pattern."""
    folder = Path(name).resolve()
    if not folder.is_dir() or glob.escape(str(folder)) == str(folder):
        yield name
        return
    with temporary_folder() as links:
        for file in folder.rglob("*"):
            if file.is_file():
                link = links / file.relative_to(folder)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file)
        yield str(links)


def _rows(data: datasets.Dataset, where: str) -> Iterator[Row]:
    return dataset_rows(data, lambda number: f"{where}:{number + 1}")


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _unreachable(location: str, cause: str) -> DataError:
    if _is_offline():
        return DataError(
            f"hf:{location}: it was not downloaded before, and HF_HUB_OFFLINE is set",
            "Unset HF_HUB_OFFLINE to download it, or give a file.",
        )
    return DataError(
        f"hf:{location}: the Hugging Face hub cannot be reached: {cause}",
        "Check the network, or give a file; HF_HUB_OFFLINE=1 takes what was downloaded before.",
    )
