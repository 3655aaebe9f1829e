"""The sets of `quality.py` of which the report is shown: one run for each backbone, next to cheap peers.

They are those whose answers are written or whose texts are predicted, entities, and labels and numbers beyond the sets
that are trained on three seeds. The rows that a run reads are cut evenly from the set's own splits and are next to it
as `data/NAME`. Figures are the report's, with its intervals over the test rows, and so are the peers: `copy` and
`first_words`, TF-IDF with logistic or ridge regression, the names of the training rows (`gazetteer`), no entities at
all (`no_entities`), and `not fine-tuned`, `tiny` as it was before. `5-gram` is an interpolated modified Kneser-Ney
model of the run's training rows (all of their tokens, by the same tokenizer), evaluated on the tokens that the report
counts, with the context to their left.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from _quality_run import finetuned
from kneser_ney import kneser_ney_nats
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from gpt_tasks.data.sources import open_source
from gpt_tasks.data.split_names import ALL
from gpt_tasks.data.splits import load_splits
from gpt_tasks.metrics.aggregate import perplexity
from gpt_tasks.metrics.figures import figure
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.tasks.language_modeling import CONTINUES, LanguageModelingTask
from gpt_tasks.types import Example, LogLikelihood, Score, Statistic

ORDER = 5
N_GRAM = f"{ORDER}-gram"
# The report's name; in the sets with labels that name means random weights.
BEFORE = {"before": "not fine-tuned"}
# Longer than any example, which so stays in one piece.
WHOLE = 1 << 30
UNITS = {
    "bleu": "BLEU",
    "chrf": "chrF",
    **{f"rouge{kind}": f"ROUGE-{kind}, F1" for kind in ("1", "2", "L", "Lsum")},
    "perplexity": "perplexity by token",
    "word_perplexity": "perplexity by word",
    "bits_per_byte": "bits per byte",
    "accuracy": "test accuracy",
    "entity_f1": "entity F1",
    "exact_match": "exact match",
    "f1": "F1",
    "mcc": "MCC",
    "pearson": "Pearson",
    "spearman": "Spearman",
}
LOWER = ("perplexity", "word_perplexity", "bits_per_byte")
# The backbones: the embedded one, and SmolLM2-135M-Instruct, which is a folder of the user's.
TINY, SMOLLM2 = "tiny", "smollm2"


@dataclass(frozen=True)
class ReportedSet:
    """A set: how many rows are trained on (`limit`, None for all) and which metrics are compared with which peers.

    `files` are its splits, of which no more than `most` rows are used; `several` is a column, and the one that holds
    several right answers in its place, where that is there; `flags` are the command's. It is trained on each of the
    `backbones`.
    """

    task: str
    folder: str
    limit: int | None
    metrics: tuple[str, ...]
    peers: tuple[str, ...]
    files: Mapping[str, str] = field(
        default_factory=lambda: {"train": "train.jsonl.gz", "validation": "validation.jsonl", "test": "test.jsonl"}
    )
    most: Mapping[str, int] = field(default_factory=dict)
    several: tuple[str, str] | None = None
    flags: tuple[str, ...] = ()
    backbones: tuple[str, ...] = (TINY,)


LOGISTIC = ("tfidf_logistic_regression",)
PLAIN = {split: f"{split}.jsonl" for split in ("train", "validation", "test")}
# Chinese has several tokens for a character in the vocabulary of `tiny`, so that all rows would take hours.
# What they are judged by is called validation; another is drawn from train.
FOUND = ("exact_match", "f1"), ("longest_shared",), {"train": "train.jsonl.gz", "test": "validation.jsonl.gz"}
FORETOLD = ("bits_per_byte", "word_perplexity"), (N_GRAM, "before")
REPORTED = {
    "multi30k_en_de": ReportedSet(
        "translation", "translation/multi30k_en_de", 5000, ("bleu", "chrf"), ("copy",), most={"validation": 200}
    ),
    "dialogsum": ReportedSet(
        "summarization",
        "summarization/dialogsum",
        800,
        ("rouge1", "rouge2", "rougeL", "rougeLsum"),
        ("first_words",),
        most={"validation": 200},
        several=("summary", "summaries"),
    ),
    "sgd": ReportedSet(
        "dialogue",
        "dialogue/sgd",
        300,
        ("perplexity",),
        (N_GRAM,),
        {"train": "train.jsonl.gz", "validation": "validation.jsonl.gz", "test": "test.jsonl.gz"},
        most={"validation": 100, "test": 400},
        flags=("--column", "messages=turns", "--empty-turns", "end"),
    ),
    "tinyshakespeare": ReportedSet(
        "generation", "generation/tinyshakespeare", 80, *FORETOLD, {"train": "train.txt", "test": "validation.txt"}
    ),
    # Its train file is not among the data.
    "wikitext2": ReportedSet(
        "generation",
        "generation/wikitext2",
        60,
        *FORETOLD,
        {"train": "validation.txt", "test": "test.txt"},
        most={"test": 80},
    ),
    # Its test labels are hidden: validation is what is judged by, and another is drawn from train.
    "cola": ReportedSet(
        "classification",
        "classification/cola",
        None,
        ("mcc",),
        LOGISTIC,
        {"train": "train.jsonl", "test": "validation.jsonl"},
        flags=("--best-by", "mcc"),
    ),
    "sst5": ReportedSet("classification", "sentiment/sst5", None, ("accuracy",), LOGISTIC, PLAIN),
    "chnsenticorp_zh": ReportedSet("sentiment", "sentiment/chnsenticorp_zh", 1000, ("accuracy",), LOGISTIC),
    "stsb": ReportedSet(
        "similarity",
        "classification/stsb",
        None,
        ("pearson", "spearman"),
        ("tfidf_ridge_regression",),
        PLAIN,
        flags=("--column", "text_a=text", "--column", "text_b=text_pair"),
    ),
    "squad_v1.1_by_article": ReportedSet("qa", "qa/squad_v1.1_by_article", None, *FOUND),
    "cmrc2018_zh": ReportedSet("qa", "qa/cmrc2018_zh", 150, *FOUND, most={"test": 400}, flags=("--language", "zh")),
    "wnut17": ReportedSet(
        "ner",
        "ner/wnut17",
        None,
        ("entity_f1",),
        ("gazetteer", "no_entities"),
        {split: f"{split}.conll" for split in ("train", "validation", "test")},
        backbones=(TINY, SMOLLM2),
    ),
}
# Of --quick: so many rows to train on, and so many of the other splits. A row of plain text is a passage of 8 KB.
QUICK, QUICK_PASSAGES = (100, 20), (8, 4)


def reported(
    name: str, backbone: str, location: str, data: Path, folder: Path, *, quick: bool, core: int | None
) -> list[dict[str, Any]]:
    """Fine-tune a backbone, which is at `location`, to a set; return its cases: each metric against each peer."""
    chosen = REPORTED[name]
    words = [name] if backbone == TINY else [name, backbone]
    place, name = "-".join(words), " ".join(words)
    if quick:
        limit, rows = QUICK_PASSAGES if chosen.task == "generation" else QUICK
        chosen = replace(chosen, limit=limit, most={"validation": rows, "test": rows})
    source = prepared(chosen, data, folder / "data" / place)
    flags = ["--data", str(source), "--backbone", location, *chosen.flags]
    run = finetuned(chosen.task, flags, chosen.limit, folder / place, core)
    report = run.report
    figures = {**report.baselines, **({N_GRAM: n_gram(run)} if N_GRAM in chosen.peers else {})}
    told = ", ".join(f"{metric} {report.metrics[metric].value:.3f}" for metric in chosen.metrics)
    print(f"{name}: {told} ({report.training['total_seconds']:.0f} s and its test)", flush=True)
    return [
        case(
            f"{name} {metric} / {BEFORE.get(peer, peer)}",
            metric,
            report.metrics[metric],
            figures[peer][metric],
            report.training,
        )
        for peer in chosen.peers
        for metric in chosen.metrics
    ]


def prepared(chosen: ReportedSet, data: Path, folder: Path) -> Path:
    """Write a set's splits, cut evenly to their limits, as files of a folder; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, file in chosen.files.items():
        source = open_source(data / chosen.folder / file, installed_plugins().registry.sources)
        rows = [dict(row.values) for row in source.splits[ALL]()]
        # Of cmrc2018_zh one question is empty.
        rows = [row for row in rows if str(row.get("question", "?")).strip()]
        kept = min(len(rows), chosen.most.get(split, len(rows)))
        lines = [rows[place * len(rows) // kept] for place in range(kept)]
        for row in lines if chosen.several else ():
            one, several = chosen.several or ("", "")
            row[one] = row.get(several, row[one])
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def n_gram(run: Any) -> dict[str, Score]:
    """Return the figures of a Kneser-Ney model of the rows that a run was trained on, over those that it was judged by.

    They are of the same tokens, words and bytes as the report's.
    """
    config, task = run.record["config"], run.task
    tokenizer = AutoTokenizer.from_pretrained(run.path / "model")
    with tempfile.TemporaryDirectory() as scratch:
        splits = load_splits(
            task,
            data=config["data"],
            validation=config["validation"],
            test=config["test"],
            columns=config["column"],
            limit=config["limit"],
            limit_validation=config["limit_validation"],
            limit_test=config["limit_test"],
            seed=config["seed"],
            schemes={},
            scratch=Path(scratch),
        )
        train, _, _ = laid_out(task, splits.train, tokenizer)
        test = list(splits.test)
    text, owners, counted = laid_out(task, test, tokenizer)
    nats = kneser_ney_nats(train, text, len(tokenizer), ORDER)
    owners, counted = owners[1:], counted[1:]
    sums = np.bincount(owners, nats * counted, len(test))
    tokens = np.bincount(owners, counted, len(test))
    return figures(task, test, sums, tokens)


def laid_out(
    task: Any, examples: Iterable[Example], tokenizer: PreTrainedTokenizerBase
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the tokens of examples, one after another, whose each is, and whether it counts: `[tokens]` each."""
    if isinstance(task, LanguageModelingTask):
        # A report on texts counts no end of text.
        examples = [replace(each, inputs={**each.inputs, CONTINUES: "true"}) for each in examples]
    encoded = task.encode(list(examples), tokenizer, WHOLE)
    lengths = [len(each.input_ids) for each in encoded]
    counted = np.zeros(sum(lengths))
    for each, offset in zip(encoded, np.cumsum([0, *lengths]), strict=False):
        for start, end in each.label_spans:
            counted[offset + start : offset + end] = 1
    tokens = np.concatenate([np.array(each.input_ids) for each in encoded])
    return tokens, np.repeat(np.arange(len(encoded)), lengths), counted


def figures(task: Any, examples: list[Example], nats: np.ndarray, tokens: np.ndarray) -> dict[str, Score]:
    """Return the figures that follow from each example's nats over its counted tokens, `[n]` each."""
    if not isinstance(task, LanguageModelingTask):
        by_token = [
            Statistic(total / count, count) for total, count in zip(nats.tolist(), tokens.tolist(), strict=True)
        ]
        return {"perplexity": figure(perplexity("perplexity"), by_token)}
    statistics = [
        task.score(example, LogLikelihood(-total, False, round(count)))
        for example, total, count in zip(examples, nats.tolist(), tokens.tolist(), strict=True)
    ]
    return {
        metric.name: figure(metric, [each[metric.name] for each in statistics])
        for metric in task.own_metrics
        if metric.name in task.metrics
    }


def case(name: str, metric: str, ours: Score, peer: Score, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return a case; its ratio is above 1 where ours is better, and None where the worse of the two is 0."""
    better, worse = (peer, ours) if metric in LOWER else (ours, peer)
    return {
        "case": name,
        "ours": ours.value,
        "interval": [ours.low, ours.high],
        "peer": peer.value,
        "peer_interval": [peer.low, peer.high],
        "unit": UNITS[metric],
        "ratio": better.value / worse.value if worse.value else None,
        "goal": 1.0,
        "n": ours.n,
        "rounds": [ours.value],
        "seconds": [training["total_seconds"]],
    }
