"""`score`: a zero-shot model on suites, built in or custom."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from gpt_tasks.processes import alone_in

ITEMS = [
    {"question": "The sun is", "choices": ["hot", "a cold stone"], "answer": 0, "kind": "sky"},
    {"question": "Snow is", "choices": ["black as coal", "white"], "answer": 1, "kind": "sky"},
    {"question": "Cats", "choices": ["purr", "bark at the post"], "answer": 0, "kind": "beasts"},
    {"question": "Dogs", "choices": ["lay eggs", "bark"], "answer": "1", "kind": "beasts"},
]


@pytest.fixture
def suite(tmp_path: Path) -> Any:
    """Write a suite over a file of multiple choices; what is given replaces parts of its only task."""
    lines = "".join(json.dumps(item) + "\n" for item in ITEMS)
    (tmp_path / "items.jsonl").write_text(lines, encoding="utf-8")

    def write(items: list[dict[str, Any]] | None = None, **parts: Any) -> Path:
        if items is not None:
            (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
        entry = {"task": "multiple-choice", "source": "items.jsonl", "prompt": "{question}", "metrics": ["accuracy"]}
        path = tmp_path / "own.yaml"
        path.write_text(yaml.safe_dump({"name": "own", "tasks": [{**entry, **parts}]}), encoding="utf-8")
        return path

    return write


def test_a_suite_of_ones_own(cli: Any, suite: Any, tiny_backbone_folder: Path) -> None:
    outcome = cli("score", tiny_backbone_folder, "--suite", suite(), "--output", "out")
    assert outcome.code == 0, outcome.err
    assert "multiple-choice" in outcome.out
    assert "accuracy" in outcome.out
    told = json.loads(Path("out/scores.json").read_text())
    (task,) = told["tasks"]
    assert task["n"] == 4
    assert task["metrics"]["accuracy"]["value"] in (0, 0.25, 0.5, 0.75, 1)
    assert told["settings"]["engine"] == "trie"
    assert told["model"]["fingerprint"].startswith("sha256:")
    table = pq.read_table("out/examples.parquet").to_pylist()
    assert [row["choices"][int(row["target"])] for row in table] == ["hot", "white", "purr", "bark"]
    for row in table:
        best = max(range(2), key=row["log_likelihoods"].__getitem__)
        right = str(best) == row["target"]
        assert row["parts"] == [{"metric": "accuracy", "values": [float(right)], "weight": 1.0}]


@pytest.mark.parametrize("flags", [[], ["--shots", "2"], ["--shots", "1", "--shots-sampler", "fixed"]])
def test_both_engines_say_the_same(cli: Any, suite: Any, tiny_backbone_folder: Path, flags: list[str]) -> None:
    values = {}
    for engine in ("trie", "plain"):
        outcome = cli("score", tiny_backbone_folder, "--suite", suite(), "--engine", engine, "--output", engine, *flags)
        assert outcome.code == 0, outcome.err
        rows = pq.read_table(f"{engine}/examples.parquet").to_pylist()
        values[engine] = [value for row in rows for value in row["log_likelihoods"]]
    assert values["trie"] == pytest.approx(values["plain"], abs=1e-4)


def test_several_models_and_suites_are_scored_by_one_command(
    cli: Any, suite: Any, tiny_backbone_folder: Path, finished_run: Path
) -> None:
    other = Path("other, too.yaml")
    text = suite().read_text().replace("own", "other").replace("items.jsonl", str(suite().parent / "items.jsonl"))
    other.write_text(text)
    pair = ("--suite", suite(), "--suite", other)
    outcome = cli("score", tiny_backbone_folder, finished_run, *pair, "--output", "all")
    assert outcome.code == 0, outcome.err
    assert {path.name for path in Path("all").iterdir()} == {
        "tiny-gpt2-own", "tiny-gpt2-other", "run-own", "run-other"
    }  # fmt: skip
    header, *rows = outcome.out.splitlines()
    assert header.split() == ["model", "own", "multiple-choice", "accuracy", "other", "multiple-choice", "accuracy"]
    for model, row in zip((tiny_backbone_folder, finished_run), rows, strict=False):
        told = json.loads(Path(f"all/{model.name}-own/scores.json").read_text())["tasks"][0]["metrics"]["accuracy"]
        assert row.startswith(str(model))
        assert row.count(f"{told['value']:.4f} ({told['low']:.4f} to {told['high']:.4f})") == 2
    compared = cli("compare", "all/tiny-gpt2-own", "all/run-own")
    assert compared.code == 0, compared.err
    # One suite of each command is the same as several of one.
    assert cli("score", tiny_backbone_folder, "--suite", suite(), "--output", "alone").code == 0
    alone, among = (pq.read_table(f"{folder}/examples.parquet") for folder in ("alone", "all/tiny-gpt2-own"))
    assert alone == among


def test_suites_are_named_with_commas(cli: Any, tiny_backbone_folder: Path, tmp_path: Path) -> None:
    for name, columns in (("copa", {"context": "Ice fell, because"}), ("piqa", {"context": "Question: Cut ice"})):
        (tmp_path / name).mkdir()
        row = {**columns, "choices": ["it is cold.", "it is hot."], "answer": 0}
        (tmp_path / name / "validation.jsonl").write_text(json.dumps(row) + "\n")
    flags = ("--suite", "copa,piqa", "--suite", "starter", "--limit", 1, "--data-dir", tmp_path)
    outcome = cli("score", tiny_backbone_folder, *flags, "--json")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)["scores"]
    assert [scores["suite"]["name"] for scores in told] == ["copa", "piqa", "starter"]
    assert [scores["folder"] for scores in told] == [f"scores/tiny-gpt2-{name}" for name in ("copa", "piqa", "starter")]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("TINY", "--suite", "OWN,blimb"), 2, "Did you mean 'blimp'?"),
        (("TINY", "--suite", "OWN", "--suite", "gone.yaml"), 2, "gone.yaml: there is no such file"),
        (("TINY", "gone/model", "--suite", "OWN"), 5, "gone/model"),
        (("TINY", "--suite", "OWN,OWN"), 2, "--suite OWN is given twice"),
        (("TINY", "--suite", "OWN,"), 2, "a name is empty"),
        (("TINY", "TINY", "--suite", "OWN"), 2, "MODEL TINY is given twice"),
        (("TINY", "TINY/../tiny-gpt2", "--suite", "OWN"), 2, "would be scored into one folder, scores/tiny-gpt2-own"),
        (("TINY", "tiny", "--suite", "OWN", "--chat-template"), 5, "the tokenizer of TINY has none"),
        (("TINY", "tiny", "--suite", "lm-eval:piqa"), 2, "a task of lm-evaluation-harness is scored alone"),
        (("TINY", "tiny", "--suite", "OWN", "--output", "OUT"), 2, "holds files of something else: "),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_scored(
    cli: Any, suite: Any, tiny_backbone_folder: Path, finished_run: Path, monkeypatch: Any,
    arguments: tuple[str, ...], code: int, told: str,
) -> None:  # fmt: skip
    from gpt_tasks.scoring.model import ScoredModel

    def refuse(*_: Any) -> None:
        raise AssertionError("a model was asked")

    monkeypatch.setattr(ScoredModel, "hidden", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    named = {"OWN": str(suite()), "TINY": str(tiny_backbone_folder), "OUT": str(finished_run)}
    for word, meant in named.items():
        arguments, told = tuple(each.replace(word, meant) for each in arguments), told.replace(word, meant)
    outcome = cli("score", *arguments)
    assert outcome.code == code, outcome.err
    assert told in outcome.err
    assert not Path("scores").exists()


def test_items_that_belong_together_are_counted_together(cli: Any, suite: Any, tiny_backbone_folder: Path) -> None:
    for flags, parts in ((["--cluster", "kind"], {}), ([], {"cluster": "kind"})):
        outcome = cli("score", tiny_backbone_folder, "--suite", suite(**parts), "--output", f"out {len(flags)}", *flags)
        assert outcome.code == 0, outcome.err
        assert "multiple-choice: Standard errors and intervals go by 2 clusters of 'kind'." in outcome.out
        table = pq.read_table(f"out {len(flags)}/examples.parquet").to_pylist()
        assert [row["cluster"] for row in table] == [item["kind"] for item in ITEMS]
    # The answers are the same, however they are counted.
    again = cli("score", tiny_backbone_folder, "--suite", suite(), "--output", "out 2")
    assert again.code == 0, again.err
    missing = cli("score", tiny_backbone_folder, "--suite", suite(), "--cluster", "author", "--output", "other")
    assert missing.code == 4
    assert "no column 'author'; the columns are question, choices, answer, kind" in missing.err


def test_groups_count_the_same_whatever_their_size(cli: Any, suite: Any, tiny_backbone_folder: Path) -> None:
    items = [*ITEMS, *({**ITEMS[0], "question": f"The sun number {n} is"} for n in range(6))]
    outcome = cli("score", tiny_backbone_folder, "--suite", suite(items, by="kind"), "--json", "--output", "out")
    assert outcome.code == 0, outcome.err
    (task,) = json.loads(outcome.out)["tasks"]
    groups = [figures["accuracy"] for figures in task["groups"].values()]
    assert sorted(figure["n"] for figure in groups) == [2, 8]
    assert task["metrics"]["accuracy"]["value"] == pytest.approx(sum(figure["value"] for figure in groups) / 2)
    shown = cli("score", tiny_backbone_folder, "--suite", suite(items, by="kind"), "--output", "out").out.splitlines()
    counts = {line.split()[1]: line.split()[-2] for line in shown if line.startswith("- ")}
    assert counts == {name: str(figures["accuracy"]["n"]) for name, figures in task["groups"].items()}


def test_a_limit_is_of_each_group(cli: Any, suite: Any, tiny_backbone_folder: Path) -> None:
    outcome = cli("score", tiny_backbone_folder, "--suite", suite(by="kind"), "--limit", "1", "--json")
    (task,) = json.loads(outcome.out)["tasks"]
    assert task["n"] == 2


def test_a_second_scoring_computes_nothing(cli: Any, suite: Any, tiny_backbone_folder: Path, monkeypatch: Any) -> None:
    first = cli("score", tiny_backbone_folder, "--suite", suite(), "--output", "out", "--json")
    from gpt_tasks.scoring.model import ScoredModel

    def refuse(*_: Any) -> None:
        raise AssertionError("the model was prompted again")

    monkeypatch.setattr(ScoredModel, "hidden", refuse)
    second = cli("score", tiny_backbone_folder, "--suite", suite(), "--output", "out", "--json")
    assert second.code == 0, second.err
    assert second.out == first.out


def test_a_run_is_a_model_like_another(cli: Any, suite: Any, finished_run: Path) -> None:
    outcome = cli("score", finished_run, "--suite", suite(), "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["folder"].endswith("run-own")


def test_a_context_longer_than_the_window_is_counted(cli: Any, suite: Any, tiny_backbone_folder: Path) -> None:
    items = [{**ITEMS[0], "question": "The waiter never came back. " * 20}, ITEMS[1]]
    outcome = cli("score", tiny_backbone_folder, "--suite", suite(items), "--output", "out")
    assert outcome.code == 0, outcome.err
    assert "1 of 2 examples were longer than the model's window" in outcome.out


def test_another_setting_overwrites_nothing(cli: Any, suite: Any, tiny_backbone_folder: Path) -> None:
    arguments = ("score", tiny_backbone_folder, "--suite", suite(), "--output", "out")
    assert cli(*arguments).code == 0
    before = Path("out/scores.json").read_text()
    for flags in (["--shots", "1"], ["--limit", "2"], ["--precision", "bf16"], ["--seed", "7"], ["--engine", "plain"]):
        refused = cli(*arguments, *flags)
        assert refused.code == 2, flags
        assert "out holds scores of another" in refused.err
    assert cli(*arguments).code == 0
    assert Path("out/scores.json").read_text() == before


def test_scores_of_a_run_that_called_the_sampler_drawn_are_those_of_random(
    cli: Any, suite: Any, tiny_backbone_folder: Path
) -> None:
    arguments = ("score", tiny_backbone_folder, "--suite", suite(), "--shots", 1, "--output", "out")
    assert cli(*arguments).code == 0
    told = json.loads(Path("out/scores.json").read_text())
    assert told["settings"]["shots_sampler"] == "random"
    told["settings"]["shots_sampler"] = "drawn"
    Path("out/scores.json").write_text(json.dumps(told))
    refused = cli(*arguments, "--shots-sampler", "fixed")
    assert refused.code == 2
    assert "out holds scores of another shots sampler: random, not fixed" in refused.err
    assert cli(*arguments, "--shots-sampler", "random").code == 0
    assert cli(*arguments, "--shots-sampler", "drawn").code == 2


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_a_file_as_output_is_reported(cli: Any, suite: Any, output: str) -> None:
    Path("file").write_text("x")
    outcome = cli("score", "tiny", "--suite", suite(), "--output", output)
    assert outcome.code == 2
    assert "file is a file" in outcome.err


def test_nothing_is_written_into_a_folder_of_something_else(cli: Any, suite: Any, finished_run: Path) -> None:
    before = sorted(path.name for path in finished_run.iterdir())
    outcome = cli("score", finished_run, "--suite", suite(), "--output", finished_run)
    assert outcome.code == 2
    assert f"--output {finished_run} holds other files" in outcome.err
    assert sorted(path.name for path in finished_run.iterdir()) == before


def test_an_evaluation_is_not_written_into_a_scoring(
    cli: Any, suite: Any, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    assert cli("score", tiny_backbone_folder, "--suite", suite(), "--output", "out").code == 0
    rows = "".join(json.dumps({"text": f"Fine {n}.", "label": "positive"}) + "\n" for n in range(3))
    (tmp_path / "rows.jsonl").write_text(rows)
    flags = ["--task", "sentiment", "--data", tmp_path / "rows.jsonl", "--output", "out"]
    outcome = cli("evaluate", tiny_backbone_folder, *flags)
    assert outcome.code == 2
    assert "--output out is not empty" in outcome.err


def test_groups_have_a_source_each(cli: Any, tmp_path: Path, tiny_backbone_folder: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, rows in (("sky", ITEMS[:2]), ("beasts", ITEMS[2:])):
        lines = "".join(
            json.dumps({**row, "question": f"{row['question']} {n}"}) + "\n" for n in range(3) for row in rows
        )
        (tmp_path / "data" / f"{name}.jsonl").write_text(lines)
    task = {"task": "multiple-choice", "source": "data/{group}.jsonl", "groups": ["sky", "beasts"], "shots": 2}
    (tmp_path / "grouped.yaml").write_text(yaml.safe_dump({"name": "grouped", "tasks": [task]}))
    outcome = cli("score", tiny_backbone_folder, "--suite", tmp_path / "grouped.yaml", "--json")
    assert outcome.code == 0, outcome.err
    (told,) = json.loads(outcome.out)["tasks"]
    assert set(told["groups"]) == {"sky", "beasts"}
    assert told["n"] == 12


def test_long_contexts_of_generations_are_counted(cli: Any, tmp_path: Path, tiny_backbone_folder: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": "The soup. " * 60, "answer": "cold"}) + "\n")
    task = {"task": "text-to-text", "source": "rows.jsonl", "max_tokens": 4}
    (tmp_path / "long.yaml").write_text(yaml.safe_dump({"name": "long", "tasks": [task]}))
    outcome = cli("score", tiny_backbone_folder, "--suite", tmp_path / "long.yaml")
    assert "1 of 1 examples were longer than the model's window" in outcome.out


def test_nothing_precedes_a_text_whose_likelihood_is_measured(
    cli: Any, tmp_path: Path, tiny_backbone_folder: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"text": f"The soup was cold {n}."}) + "\n" for n in range(5))
    )
    entry = {"source": "rows.jsonl", "prompt": "{text}"}
    tasks = [
        {"task": "language-modeling", **entry},
        {"task": "text-to-text", "answer": " {text}", "max_tokens": 4, **entry},
    ]
    figures = []
    for shots in ("0", "2"):
        suite = tmp_path / f"texts-{shots}.yaml"
        suite.write_text(yaml.safe_dump({"name": f"texts-{shots}", "tasks": tasks}))
        outcome = cli("score", tiny_backbone_folder, "--suite", suite, "--shots", shots, "--json")
        figures.append(json.loads(outcome.out)["tasks"][0]["metrics"])
    assert figures[0] == figures[1]
    assert "--shots 2 has no effect on language-modeling." in json.loads(outcome.out)["notes"]
    suite.write_text(yaml.safe_dump({"name": "texts", "tasks": tasks[:1]}))
    alone = cli("score", tiny_backbone_folder, "--suite", suite, "--shots", 2)
    assert alone.code == 2
    assert "--shots 2 is for few-shot examples, and texts is scored without any" in alone.err


def test_other_families(cli: Any, tmp_path: Path, tiny_backbone_folder: Path) -> None:
    rows = [{"context": "The soup was", "target": "cold", "text": "The soup was cold.", "answer": "cold"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows[0]) + "\n")
    tasks = [
        {"task": "cloze", "source": "rows.jsonl"},
        {"task": "language-modeling", "source": "rows.jsonl"},
        {"task": "text-to-text", "source": "rows.jsonl", "prompt": "{context}", "max_tokens": 4},
    ]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump({"name": "all", "tasks": tasks}))
    outcome = cli("score", tiny_backbone_folder, "--suite", tmp_path / "all.yaml", "--json")
    assert outcome.code == 0, outcome.err
    cloze, modeling, writing = json.loads(outcome.out)["tasks"]
    assert set(cloze["metrics"]) == {"accuracy", "perplexity"}
    bits, per_byte = (modeling["metrics"][name]["value"] for name in ("bits_per_byte", "byte_perplexity"))
    assert 2**bits == pytest.approx(per_byte)
    assert modeling["metrics"]["word_perplexity"]["value"] == pytest.approx(per_byte ** (18 / 4))
    assert writing["metrics"]["exact_match"]["value"] in (0, 1)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"task": "multipel-choice"}, "Did you mean 'multiple-choice'?"),
        ({"task": "sentiment", "prompt": "{text}"}, "there is no column 'text'"),
        ({"task": "classification"}, "it declares no labels"),
        ({"task": "sentiment", "prompt": "{question}", "metrics": ["mcc"]}, "there is no metric 'mcc'"),
        ({"metrics": ["acuracy"]}, "there is no metric 'acuracy'"),
        ({"prompt": "{query}"}, "there is no column 'query'; the columns are question, choices, answer, kind"),
        ({"prompt": "{question"}, "prompt"),
        ({"promt": "{question}"}, "promt"),
        ({"prompt": "{question:d}"}, "can have nothing behind its name"),
        ({"prompt": "{question!r}"}, "can have nothing behind its name"),
        ({"prompt": "{question.__class__}"}, "must hold the name of a field"),
        (
            {"question": "{text}"},
            "question '{text}': task 'multiple-choice' compares no labels: a question and words for labels",
        ),
        ({"task": "text-to-text", "stop": [""]}, "a text to stop at is empty"),
        ({"by": "sort"}, "there is no column 'sort'"),
        ({"source": "item.jsonl"}, "item.jsonl: there is no such file"),
        ({"fields": {"answer": "gold"}}, "field 'answer' cannot be computed: 'gold' is undefined"),
        ({"fields": {"answer": "((("}}, "fields: answer"),
        ({"shots": 9}, "too few to draw 9 shots from"),
        ({"shots": -1}, "shots"),
    ],
)
def test_what_is_wrong_in_a_suite_is_reported(
    cli: Any, suite: Any, tiny_backbone_folder: Path, parts: dict[str, Any], told: str
) -> None:
    outcome = cli("score", tiny_backbone_folder, "--suite", suite(**parts))
    assert outcome.code == 4, outcome.err
    assert told in outcome.err
    assert len(outcome.err.strip().splitlines()) == 2
    assert not Path("scores").exists()


def test_a_classification_in_a_suite(cli: Any, suite: Any, tiny_backbone_folder: Path) -> None:
    items = [{"text": "What a splendid soup.", "label": "positive"}, {"text": "I regret it.", "label": 0}]
    outcome = cli("score", tiny_backbone_folder, "--suite", suite(items, task="sentiment", prompt="{text}"), "--json")
    asked = suite(items, task="sentiment", prompt="{text}", question="{text} So", label_words={"positive": "good"})
    assert cli("score", tiny_backbone_folder, "--suite", asked, "--json", "--output", "asked").code == 0
    assert outcome.code == 0, outcome.err
    (told,) = json.loads(outcome.out)["tasks"]
    assert told["n"] == 2
    assert told["metrics"]["accuracy"]["value"] in (0, 0.5, 1)
    odd = cli(
        "score",
        tiny_backbone_folder,
        "--suite",
        suite([*items, {**items[0], "label": "mixed"}], task="sentiment", prompt="{text}"),
    )
    assert odd.code == 4
    assert "label 'mixed' is not one of negative, positive" in odd.err


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ({"choices": []}, "items.jsonl:2: 0 choices are too few"),
        ({"choices": ["one"]}, "items.jsonl:2: 1 choices are too few"),
        ({"choices": ["one", " "]}, "items.jsonl:2: choice 1 is empty"),
        (
            {"choices": ["one", "two", "one"], "answer": 0, "refuse": True},
            "items.jsonl:2: choices 0 and 2 are equal: 'one'",
        ),
        ({"choices": "one, two"}, "items.jsonl:2: column 'choices' holds no list of texts"),
        ({"answer": 2}, "no numbers of choices from 0, as items.jsonl:2 has '2'"),
        ({"answer": 9}, "items.jsonl:2: the answer (column 'answer') is 9, none of the 2 choices"),
        ({"answer": None}, "none of the 2 choices"),
        ({"answer": "neither"}, "none of the 2 choices"),
        ({"question": None}, "items.jsonl:2: column 'question' is missing"),
    ],
)
def test_what_is_wrong_in_an_item_is_reported(
    cli: Any, suite: Any, tiny_backbone_folder: Path, item: dict[str, Any], told: str
) -> None:
    refusing = {"equal_choices": "refuse"} if item.pop("refuse", False) else {}
    outcome = cli("score", tiny_backbone_folder, "--suite", suite([ITEMS[0], {**ITEMS[1], **item}], **refusing))
    assert outcome.code == 4, outcome.err
    assert told in outcome.err


def test_all_rows_that_cannot_be_used_are_counted_and_five_named(
    cli: Any, suite: Any, tiny_backbone_folder: Path
) -> None:
    items = [{**ITEMS[n % 4], "question": f"{ITEMS[n % 4]['question']} {n}"} for n in range(12)]
    for n in (1, 3, 4, 6, 7, 9, 11):
        items[n] = {**items[n], "choices": ["one"]} if n % 2 else {**items[n], "question": None}
    outcome = cli("score", tiny_backbone_folder, "--suite", suite(items))
    assert outcome.code == 4
    assert "7 of 12 rows cannot be used: items.jsonl:2: 1 choices are too few; items.jsonl:4" in outcome.err
    assert "items.jsonl:8: 1 choices are too few; and others" in outcome.err
    assert "items.jsonl:10" not in outcome.err
    assert "--skip-invalid" not in outcome.err  # which score does not have
    # A trial reads as far as it needs to, and refuses what it met there.
    assert (
        "items.jsonl:2: 1 choices are too few"
        in cli("score", tiny_backbone_folder, "--suite", suite(items), "--limit", 2).err
    )
    assert cli("score", tiny_backbone_folder, "--suite", suite(items), "--limit", 1).code == 0
    items[0] = {**items[0], "question": None}
    computed = suite(items[:3], fields={"question": "question.upper()"})
    outcome = cli("score", tiny_backbone_folder, "--suite", computed, "--output", "computed")
    assert "2 of 3 rows cannot be used: items.jsonl:1: field 'question' cannot be computed" in outcome.err


@pytest.mark.parametrize(
    ("content", "told"),
    [("", "this is no suite"), ("- a", "this is no suite"), ("name: [", "own.yaml"), ("name: own", "tasks")],
)
def test_what_is_no_suite_is_reported(cli: Any, tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(content)
    outcome = cli("score", "tiny", "--suite", path)
    assert outcome.code == 4
    assert told in outcome.err


def test_unknown_suites_are_reported(cli: Any) -> None:
    assert "Did you mean 'blimp'?" in cli("score", "tiny", "--suite", "blimb").err
    assert "there is no such file" in cli("score", "tiny", "--suite", "blimb.yaml").err


def test_a_kill_loses_no_more_than_the_last_batch(
    command_server: Any, cli: Any, suite: Any, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    items = [{**ITEMS[0], "question": f"Number {n} of many is"} for n in range(1000)]
    command = ["score", tiny_backbone_folder, "--suite", suite(items), "--output", tmp_path / "out"]
    command += ["--engine", "plain", "--batch-tokens", "64"]
    answers = tmp_path / "out" / "answers.jsonl"
    started = command_server.start(*command)
    started.wait_until(lambda: answers.is_file() and answers.stat().st_size > 10_000)
    os.kill(started.pid, signal.SIGKILL)
    assert started.wait().returncode == -signal.SIGKILL
    before = answers.read_text().count("\n")
    assert 100 < before < 2000, "it was killed in the middle"
    done = cli(*command)
    assert (done.code, "1,000" in done.out) == (0, True), done.err
    lines = answers.read_text().splitlines()[1:]
    assert len({json.loads(line)[0] for line in lines}) == len(lines) == 2000


def test_a_folder_that_another_process_scores_into_is_left_to_it(cli: Any, suite: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with alone_in(tmp_path / "out"):
        refused = cli("score", "tiny", "--suite", suite(ITEMS), "--output", tmp_path / "out")
    assert refused.code == 2
    assert f"Another process works in {tmp_path / 'out'}" in refused.err
    assert not list((tmp_path / "out").iterdir())


def test_two_processes_give_the_same_numbers(
    command_server: Any, suite: Any, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    items = [{**ITEMS[n % 4], "question": f"{ITEMS[n % 4]['question']} {n}"} for n in range(40)]
    command = ["score", tiny_backbone_folder, "--suite", suite(items, shots=2), "--device", "cpu", "--output"]
    alone = command_server.run(*command, tmp_path / "of-1")
    together = command_server.run_on_two(*command, tmp_path / "of-2")
    tables = []
    for number, ended in enumerate(([alone], together), start=1):
        assert [each.returncode for each in ended] == [0] * number, ended[-1].stderr
        assert sum(each.stdout.count("The scores are in") for each in ended) == 1
        output = tmp_path / f"of-{number}"
        tables.append(pq.read_table(output / "examples.parquet").to_pylist())
        assert sorted(file.name for file in output.iterdir()) == ["answers.jsonl", "examples.parquet", "scores.json"]
    one, two = tables
    assert [row["inputs"] for row in one] == [row["inputs"] for row in two]
    for row, other in zip(one, two, strict=True):
        assert row["log_likelihoods"] == pytest.approx(other["log_likelihoods"], abs=1e-4)


def test_a_task_of_lm_evaluation_harness(cli: Any, tiny_backbone_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    rows = [{"question": "The sun is", "choices": ["hot", "a stone"], "answer": 0}] * 3
    (tmp_path / "rows.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "sun", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.json")}},
        "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "question", "doc_to_choice": "choices",
        "doc_to_target": "answer", "metric_list": [{"metric": "acc"}],
    }  # fmt: skip
    (tmp_path / "sun.yaml").write_text(yaml.safe_dump(task))
    suite = f"lm-eval:{tmp_path / 'sun.yaml'}"
    outcome = cli("score", tiny_backbone_folder, "--suite", suite, "--limit", "2", "--output", "out", "--json")
    assert outcome.code == 0, outcome.err
    (told,) = json.loads(outcome.out)["tasks"]
    assert told["n"] == 2
    assert told["metrics"]["acc"]["value"] in (0, 1)
    assert json.loads(Path("out/scores.json").read_text())["suite"]["name"] == suite
    other = cli("score", tiny_backbone_folder, "--suite", suite, "--limit", "1", "--output", "out")
    assert other.code == 2
    assert "out holds scores of another limit: 2, not 1" in other.err
    refused = cli("score", tiny_backbone_folder, "--suite", suite, "--chat-template")
    assert refused.code == 2
    assert "--chat-template is for our own suites" in refused.err


def test_progress_has_a_rate(
    tiny_backbone_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # for Rich the stream is then a terminal
    import torch

    from gpt_tasks.backbone.load import load_backbone
    from gpt_tasks.scoring.scorer import Scorer
    from gpt_tasks.types import Continuation

    backbone = load_backbone(str(tiny_backbone_folder), {})
    scorer = Scorer(backbone, device=torch.device("cpu"), precision="float32", batch_tokens=64, show_progress=True)
    scorer.answer([Continuation("The soup was", f" {word}") for word in ("cold", "hot", "late")])
    shown = capsys.readouterr().err
    assert "texts" in shown
    assert "3/3" in shown
    assert "/s" in shown
