"""The figures of quality.py: its n-grams count what the report counts, and its rows and runs are those that it says."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt_tasks
from gpt_tasks.types import Score

SAID = ("The train was late.", "The soup was cold.", "We laughed.", "The view was splendid.")


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    """The benchmark, imported as a script imports its modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
        import quality as script  # type: ignore[import-not-found]

        yield script
        modules = ("quality", "_quality_reports", "_quality_run", "_paired", "_results", "_cores", "kneser_ney")
        for name in modules:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def quality(script) -> Any:
    """Its room for sets of which the report is shown."""
    return sys.modules["_quality_reports"]


def write(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def texts(folder: Path) -> dict[str, Any]:
    """Texts of which some continue in the next row, longer than a window."""
    for split, start in (("train", 0), ("validation", 40), ("test", 60)):
        rows = [
            {"passage": f"{number}. {' '.join(3 * SAID)} \u00e9", "continues": number % 2 == 0}
            for number in range(start, start + 6)
        ]
        write(folder, split, rows)
    return {"data": str(folder)}


def talks(folder: Path) -> dict[str, Any]:
    """Conversations of several answers, longer than a window."""
    for split, start in (("train", 0), ("validation", 40), ("test", 60)):
        rows = [
            {
                "turns": [
                    {"role": ("user", "assistant")[place % 2], "text": f"{said} {number}"}
                    for place, said in enumerate(SAID[: 4 - 2 * (number % 2)])
                ]
            }
            for number in range(start, start + 6)
        ]
        write(folder, split, rows)
    return {"data": str(folder), "column": {"messages": "turns"}, "options": {"max_tokens": 4}}


@pytest.mark.parametrize(("task", "made"), [("generation", texts), ("dialogue", talks)])
def test_n_grams_are_judged_by_the_tokens_of_the_report(quality, tiny_backbone_folder, tmp_path, task, made) -> None:
    from pyarrow import parquet
    from transformers import AutoTokenizer

    from gpt_tasks.data.sources import open_source
    from gpt_tasks.data.stream import stream_examples

    settings = made(tmp_path / "data")
    run = gpt_tasks.finetune(
        task,
        **settings,
        limit=4,
        limit_test=6,
        backbone=str(tiny_backbone_folder),
        epochs=1,
        max_length=64,
        precision="float32",
        device="cpu",
        output=tmp_path / "run",
    )
    columns = settings.get("column", {})
    source = open_source(settings["data"], {})
    test = list(stream_examples(run.task, source, "test", columns=columns, need_labels=True).examples())
    tokenizer = AutoTokenizer.from_pretrained(run.path / "model")
    tokens, owners, counted = quality.laid_out(run.task, test, tokenizer)
    reported = [
        part["weight"]
        for row in parquet.read_table(run.path / "parts.parquet").to_pylist()
        for part in row["parts"]
        if part["metric"] == "perplexity"
    ]
    assert len(tokens) == len(owners) == len(counted)
    assert max(np.bincount(owners)) > 64
    assert np.bincount(owners, counted).tolist() == reported

    found = quality.n_gram(run)
    for name, score in found.items():
        assert score.n == run.report.metrics[name].n == 6
        # Four rows say what the others say, and one pass over them teaches these weights next to nothing.
        assert score.value < run.report.metrics[name].value / 1.5


def test_rows_are_cut_evenly_and_hold_every_right_answer(quality, tmp_path) -> None:
    write(tmp_path / "set", "train", [{"document": str(number), "summary": "a"} for number in range(3)])
    write(
        tmp_path / "set",
        "test",
        [{"document": str(number), "summary": "a", "summaries": ["a", "b"]} for number in range(10)],
    )
    files = {"train": "train.jsonl", "test": "test.jsonl"}
    chosen = replace(
        quality.REPORTED["dialogsum"], folder="set", files=files, most={"test": 4}, several=("summary", "summaries")
    )
    folder = quality.prepared(chosen, tmp_path, tmp_path / "made")
    train, test = (
        [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()] for split in files
    )
    assert [row["document"] for row in train] == ["0", "1", "2"]
    assert [row["summary"] for row in train] == ["a", "a", "a"]
    assert [row["document"] for row in test] == ["0", "2", "5", "7"]
    assert [row["summary"] for row in test] == [["a", "b"]] * 4


@pytest.mark.parametrize(("metric", "ratio"), [("bits_per_byte", 0.5), ("bleu", 2.0)])
def test_a_ratio_above_one_is_better(quality, metric, ratio) -> None:
    ours, peer = Score(4.0, 3.0, 5.0, 10), Score(2.0, 1.0, 3.0, 10)
    assert quality.case("name", metric, ours, peer, {"total_seconds": 1.0})["ratio"] == ratio


def test_there_is_no_ratio_against_a_figure_of_zero(script, quality, capsys) -> None:
    ours, peer = Score(0.4, 0.3, 0.5, 10), Score(0.0, 0.0, 0.3, 10)
    case = quality.case("name", "entity_f1", ours, peer, {"total_seconds": 1.0})
    assert case["ratio"] is None
    script.print_table([case])
    assert capsys.readouterr().out.split()[-6:] == ["0.400", "0.000", "-", "1.0", "entity", "F1"]


def test_sentences_of_conll_files_become_rows(quality, tmp_path) -> None:
    (tmp_path / "set").mkdir()
    for split in ("train", "validation", "test"):
        (tmp_path / "set" / f"{split}.conll").write_text("Ada\tB-person\nslept\tO\n\t\nParis\tB-location\n\n")
    chosen = replace(quality.REPORTED["wnut17"], folder="set", most={"test": 1})
    folder = quality.prepared(chosen, tmp_path, tmp_path / "made")
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert rows == [
        {"tokens": ["Ada", "slept"], "tags": ["B-person", "O"]},
        {"tokens": ["Paris"], "tags": ["B-location"]},
    ]
    assert len((folder / "test.jsonl").read_text().splitlines()) == 1


def test_a_backbone_that_is_not_there_is_left_out(script, tmp_path, capsys) -> None:
    def jobs(**changed: Any) -> list[tuple[str, str, str]]:
        args = {"sets": ["sst2", "sst5", "wnut17"], "quick": False, "smollm2": tmp_path, **changed}
        return script.jobs(argparse.Namespace(**args))

    tiny = [("sst5", "tiny", "tiny"), ("wnut17", "tiny", "tiny")]
    assert jobs() == [*tiny, ("wnut17", "smollm2", str(tmp_path))]
    assert not capsys.readouterr().out
    missing = tmp_path / "missing"
    assert jobs(smollm2=missing) == tiny
    assert capsys.readouterr().out == f"wnut17 smollm2: left out, there is no folder {missing} (--smollm2)\n"
    assert jobs(quick=True) == tiny
    assert not capsys.readouterr().out
