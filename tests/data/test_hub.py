"""The source `hf:`, on a folder in the hub's layout and without a network."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from huggingface_hub import constants

from gpt_tasks.data import hub
from gpt_tasks.data.sources import open_source
from gpt_tasks.errors import DataError
from gpt_tasks.extensions import SourceScheme


@pytest.fixture
def schemes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, SourceScheme]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return {"hf": hub.register_sources()[0]}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A data set as the hub stores it: a README with its configurations, parquet with class labels."""
    folder = tmp_path / "repository"
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"]))
    for split, labels in {"train": [1, 0], "dev": [0], "test": [-1]}.items():
        columns = {"text": [f"{split} {number}" for number in range(len(labels))], "label": labels}
        (folder / "plain").mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(columns, features).to_parquet(folder / "plain" / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: plain\n  data_files:\n"
        + "".join(f"  - split: {split}\n    path: plain/{split}-*.parquet\n" for split in ("train", "dev", "test"))
        + "---\n",
        encoding="utf-8",
    )
    return folder


@pytest.fixture
def silent_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield endpoint


def test_a_repository_gives_its_splits_with_labels_by_name(repository: Path, schemes: dict[str, SourceScheme]) -> None:
    source = open_source(f"hf:{repository}", schemes)
    rows = {split: [dict(row.values) for row in read()] for split, read in source.splits.items()}
    assert rows == {
        "train": [{"text": "train 0", "label": "good"}, {"text": "train 1", "label": "bad"}],
        "validation": [{"text": "dev 0", "label": "bad"}],
        "test": [{"text": "test 0", "label": None}],
    }
    assert [row.where for row in source.splits["train"]()][-1].endswith("/train:2")


def test_brackets_in_a_path_are_no_pattern(repository: Path, schemes: dict[str, SourceScheme]) -> None:
    place = repository.parent / "old [2024] {x}*"
    repository.rename(place)
    source = open_source(f"hf:{place}", schemes)
    assert [row.values["text"] for row in source.splits["train"]()] == ["train 0", "train 1"]


def test_a_name_is_parted_into_owner_configuration_and_revision() -> None:
    assert hub._parse("stanfordnlp/sst2:default@v1.0") == ("stanfordnlp/sst2", "default", "v1.0")
    assert hub._parse("glue") == ("glue", None, None)
    with pytest.raises(DataError, match="names no data set"):
        hub._parse("a/b/c d")


def test_a_hub_that_does_not_answer_fails_within_three_seconds(
    silent_endpoint: str, schemes: dict[str, SourceScheme]
) -> None:
    began = time.monotonic()
    with pytest.raises(DataError) as caught:
        open_source("hf:nobody/nothing", schemes)
    assert time.monotonic() - began < 6  # two attempts at a second each would be 1.5; a busy machine adds to it
    assert caught.value.message.startswith("hf:nobody/nothing: the Hugging Face hub cannot be reached")
    assert "\n" not in caught.value.message


def test_offline_without_a_download_is_reported(tmp_path: Path) -> None:
    code = (
        "from gpt_tasks.data.hub import hub_splits\n"
        "from gpt_tasks.errors import DataError\n"
        "try:\n    hub_splits('nobody/nothing')\n"
        "except DataError as error:\n    print(error)\n"
    )
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "hf:nobody/nothing: it was not downloaded before, and HF_HUB_OFFLINE is set" in done.stdout


def test_a_folder_without_data_is_reported(tmp_path: Path, schemes: dict[str, SourceScheme]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="hf:") as caught:
        open_source(f"hf:{tmp_path / 'empty'}", schemes)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("metadata", [b"3", b"{", b'{"info": {"features": []}}'])
def test_broken_metadata_of_a_file_are_the_datas_fault(
    tmp_path: Path, schemes: dict[str, SourceScheme], metadata: bytes
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"text": ["a"], "label": [1]}).replace_schema_metadata({b"huggingface": metadata})
    (tmp_path / "broken").mkdir()
    parquet.write_table(table, tmp_path / "broken" / "train.parquet")
    with pytest.raises(DataError, match=r"hf:.*broken: "):
        open_source(f"hf:{tmp_path / 'broken'}", schemes)
