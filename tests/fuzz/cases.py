"""Strategies for cases, by kind: what is mutated, and the commands that meet it."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from .child import OUTPUT, Case
from .values import json_values, mutated_bytes, mutated_json, numbers, scalars, texts
from .world import CONFIG, ROWS, SUITE

FORMATS = ("csv", "tsv", "jsonl", "json", "txt", "parquet", "xlsx", "sqlite", "conll", "html")
OF_RUN = ("run.json", "task.json", "metrics.json", "predictions.jsonl")
OF_MODEL = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "model.safetensors",
)


@st.composite
def data(draw: st.DrawFn, world: Path) -> Case:
    """A table of odd cells in some format, at times damaged; predicted, evaluated or trained on."""
    kind = draw(st.sampled_from(FORMATS))
    rows = [dict(row) for row in ROWS[: draw(st.integers(0, 12))]]
    for _ in range(draw(st.integers(0, 3))):
        if rows:
            row = rows[draw(st.integers(0, len(rows) - 1))]
            name = draw(st.sampled_from(["text", "label", "more"]))
            row[name] = draw(scalars if kind not in ("jsonl", "json") else json_values)
    header = ["text", "label"] if draw(st.integers(0, 3)) else draw(st.lists(texts, min_size=1, max_size=4))
    content = written(kind, header, rows)
    if draw(st.integers(0, 2)) == 0:
        content = draw(mutated_bytes(content))
    name = f"mine.{kind}"
    source = f"sqlite:{name}#rows" if kind == "sqlite" else name
    command = draw(
        st.sampled_from(
            [
                ("predict", "run", "--input", source),
                ("predict", "run", "--input", source, "--skip-invalid", "--output", f"{OUTPUT}.csv"),
                ("evaluate", "run", "--data", source),
                ("evaluate", "run", "--data", source, "--skip-invalid", "--output", OUTPUT),
                ("finetune", "sentiment", "--config", "config.yaml", "--data", source, "--output", OUTPUT),
            ]
        )
    )
    takes = ("model", "config.yaml") if command[0] == "finetune" else ("run",)
    return Case(command, {name: content}, takes, (name,))


def written(kind: str, header: list[str], rows: list[dict[str, Any]]) -> bytes:
    """Return rows as a file; of values that a format cannot hold their text."""
    table = [[row.get(name, "") for name in header] for row in rows]
    shown = [["" if cell is None else str(cell) for cell in cells] for cells in table]
    if kind in ("csv", "tsv"):
        file = io.StringIO()
        writer = csv.writer(file, delimiter="," if kind == "csv" else "\t", escapechar="\\")
        writer.writerows([header, *shown])
        return _bytes(file.getvalue())
    if kind in ("jsonl", "json"):
        said = [json.dumps(row) for row in rows]
        return _bytes("\n".join(said) if kind == "jsonl" else f"[{','.join(said)}]")
    if kind == "xlsx":
        return _excel(tuple(map(tuple, [header, *shown])))
    binary = {"parquet": _parquet, "sqlite": _sqlite}
    if kind in binary:
        return binary[kind](header, shown)
    if kind == "conll":
        return _bytes("\n\n".join("\n".join(f"{word} O" for word in " ".join(cells).split(" ")) for cells in shown))
    return _bytes("\n".join(" ".join(cells) for cells in shown))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")


def _parquet(header: list[str], cells: list[list[str]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [[_plain(row[place]) for row in cells] for place in range(len(header))]
    table = pa.Table.from_arrays(
        [pa.array(column, pa.string()) for column in columns], names=[_plain(name) for name in header]
    )
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


@cache
def _excel(rows: tuple[tuple[str, ...], ...]) -> bytes:
    """Make a workbook once: the time stands in it, and hypothesis draws places in bytes that must stay the same."""
    from openpyxl import Workbook
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    book = Workbook()
    assert book.active is not None
    for row in rows:
        book.active.append([ILLEGAL_CHARACTERS_RE.sub("", _plain(cell))[:30_000] for cell in row])
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _sqlite(header: list[str], cells: list[list[str]]) -> bytes:
    names = [f"column{place}" if name not in ("text", "label") else name for place, name in enumerate(header)]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "file"
        with sqlite3.connect(path) as connection:
            connection.execute(f"CREATE TABLE rows ({', '.join(dict.fromkeys(names))})")
            marks = ", ".join("?" * len(dict.fromkeys(names)))
            connection.executemany(
                f"INSERT INTO rows VALUES ({marks})",
                [[_plain(cell) for cell in row[: len(dict.fromkeys(names))]] for row in cells],
            )
        connection.close()
        return path.read_bytes()


def _plain(text: str) -> str:
    return text.encode("utf-8", errors="replace").decode()


@st.composite
def run(draw: st.DrawFn, world: Path) -> Case:
    """A file of a finished run, changed; opened by what opens runs."""
    name = draw(
        st.sampled_from(
            [f"run/{each}" for each in OF_RUN if (world / "run" / each).is_file()] + _below(world / "run", "run")
        )
    )
    content = draw(_changed((world / name).read_bytes(), name))
    command = draw(
        st.sampled_from(
            [
                ("predict", "run", "a text"),
                ("predict", "run", "a text", "--no-verify"),
                ("evaluate", "run", "--data", "data.jsonl"),
                ("compare", "run", "run2"),
                ("score", "run", "--suite", "suite.yaml", "--output", OUTPUT),
            ]
        )
    )
    return Case(command, {name: content}, ("run", "run2", "data.jsonl", "suite.yaml"), ("run", Path(name).name))


@st.composite
def checkpoint(draw: st.DrawFn, world: Path) -> Case:
    """A file of a stopped training, changed or gone; resumed to its end."""
    name = draw(st.sampled_from(_below(world / "stopped", "stopped")))
    content = None if draw(st.integers(0, 4)) == 0 else draw(_changed((world / name).read_bytes(), name))
    command = ("finetune", "sentiment", "--output", "stopped", "--resume")
    return Case(
        command, {name: content}, ("stopped", "model", "data.jsonl"), ("stopped", Path(name).name), changes=("stopped",)
    )


@st.composite
def model(draw: st.DrawFn, world: Path) -> Case:
    """A file of a model's folder, changed or gone; the model writes, is scored, asked or trained."""
    name = f"model/{draw(st.sampled_from([each for each in OF_MODEL if (world / 'model' / each).is_file()]))}"
    content = None if draw(st.integers(0, 9)) == 0 else draw(_changed((world / name).read_bytes(), name))
    command = draw(
        st.sampled_from(
            [
                ("generate", "model", "The soup", "--max-new-tokens", "2"),
                ("score", "model", "--suite", "suite.yaml", "--output", OUTPUT),
                ("score", "model", "--suite", "suite.yaml", "--chat-template", "--output", OUTPUT),
                ("predict", "model", "--task", "sentiment", "a text"),
                ("finetune", "sentiment", "--config", "config.yaml", "--output", OUTPUT),
            ]
        )
    )
    return Case(command, {name: content}, ("model", "data.jsonl", "suite.yaml", "config.yaml"), ("model",))


# Suites that can be scored, and values that a person might give a field of one; a good half can be scored, too.
ENTRIES: tuple[dict[str, Any], ...] = (
    {"task": "sentiment", "source": "data.jsonl", "prompt": "{text}\nIt is", "metrics": ["accuracy"]},
    {"task": "sentiment", "source": "data.jsonl", "shots": 2},
    {"task": "multiple-choice", "source": "choices.jsonl"},
    {"task": "text-to-text", "source": "data.jsonl", "fields": {"source": "text", "target": "label"}},
    {"task": "language-modeling", "source": "data.jsonl"},
)
PLAUSIBLE: dict[str, tuple[Any, ...]] = {
    "task": ("sentiment", "multiple-choice", "text-to-text", "language-modeling", "sentiments"),
    "name": ("other", "small", "a-b_c", "Small", "two words", "0"),
    "source": ("data.jsonl", "choices.jsonl", "./data.jsonl", "corpus.txt", "nosuch.jsonl", "model"),
    "split": ("test", "train", "all", "validation"),
    "shots_split": ("train", "test", "all"),
    "shots": (0, 1, 2, 5, 22, 23, 24, 25, 1000, -1, 10**18),
    "prompt": (
        "{text}",
        "{text}\nIt is",
        "{text} {text}:",
        "{question}\nA:",
        "It is",
        "{",
        "{text!r}",
        "",
        "\n{text}\n\n",
    ),
    "metrics": (["accuracy"], ["accuracy", "macro_f1"], ["mcc"], ["ece"], ["bleu", "chrf"], ["rmse"], ["nosuch"], []),
    "by": ("label", "text", "thing", "answer", "nosuch"),
    "cluster": ("label", "text", "thing", "nosuch"),
    "groups": (["data"], ["data", "choices"], []),
    "fields": ({"text": "text", "label": "label"}, {"text": "label", "label": "label"}, {"label": "label"}, {}),
    "question": ("How is it? {text}", "Is it {text}?", "?"),
    "label_words": (
        {"positive": "good", "negative": "bad"},
        {"positive": "good"},
        {"positive": "good", "negative": "good"},
        {"positive": "", "negative": "bad"},
        {"good": "positive"},
        {"positive": "good thing", "negative": "\u65e5\u672c"},
    ),
    "local": ({"file": "data.jsonl"}, {"file": "nosuch.jsonl"}, {}),
}
SCORE_FLAGS: tuple[tuple[str, ...], ...] = (
    ("--limit", "1"),
    ("--limit", "3"),
    ("--shots", "1"),
    ("--shots", "3", "--shots-sampler", "fixed"),
    ("--shots", "2", "--seed", "0"),
    ("--cluster", "thing"),
    ("--batch-tokens", "64"),
    ("--engine", "plain"),
    ("--chat-template",),
    ("--data-dir", "."),
)


@st.composite
def suite(draw: st.DrawFn, world: Path) -> Case:
    """A suite that can be scored, of which a field or two have other plausible values; at times a damaged one."""
    flags: tuple[str, ...] = ()
    if draw(st.integers(0, 5)) == 0:
        content = draw(_as_yaml(SUITE))
    else:
        entries = [dict(draw(st.sampled_from(ENTRIES))) for _ in range(draw(st.integers(1, 2)))]
        for place, entry in enumerate(entries):
            entry["name"] = f"task{place}"
        for _ in range(draw(st.integers(0, 2))):
            name = draw(st.sampled_from(sorted(PLAUSIBLE)))
            draw(st.sampled_from(entries))[name] = draw(st.sampled_from(PLAUSIBLE[name]))
        content = yaml.safe_dump({"name": "small", "tasks": entries}, allow_unicode=True).encode()
        flags = draw(st.one_of(st.just(()), st.sampled_from(SCORE_FLAGS)))
    return Case(
        ("score", "model", "--suite", "suite.yaml", "--output", OUTPUT, *flags),
        {"suite.yaml": content},
        ("model", "data.jsonl", "choices.jsonl", "corpus.txt"),
        ("suite", "data.jsonl", "choices.jsonl", "corpus.txt", "model", *flags[:1]),
    )


TEMPLATES = (
    "{{ messages[0]['content'] * 10**9 }}",
    "{{ 10**(10**9) }}",
    "{% for i in range(10**9) %}x{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{{ messages",
    "{{ raise_exception('no') }}",
    "{% include 'x' %}",
    "{{ ''.__class__.__mro__ }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ 'a' | center(10**9) }}",
    "",
)


@st.composite
def template(draw: st.DrawFn, world: Path) -> Case:
    """A chat template, of a model that is scored and that chats."""
    made = draw(
        st.one_of(st.sampled_from(TEMPLATES), texts, st.lists(st.sampled_from(TEMPLATES), max_size=3).map("".join))
    )
    command, stdin = draw(
        st.sampled_from(
            [
                (("chat", "model", "--max-new-tokens", "2"), b"hello\n"),
                (("score", "model", "--suite", "suite.yaml", "--chat-template", "--output", OUTPUT), b""),
            ]
        )
    )
    files = {"model/chat_template.jinja": _bytes(made)}
    return Case(command, files, ("model", "data.jsonl", "suite.yaml"), ("template", "model"), stdin)


@st.composite
def config(draw: st.DrawFn, world: Path) -> Case:
    """A configuration, changed; trained by."""
    content = draw(_as_yaml(CONFIG))
    # What a configuration leaves out makes no long run.
    short = ("--data", "data.jsonl", "--backbone", "model", "--epochs", "1")
    command = ("finetune", "sentiment", "--config", "config.yaml", *short, "--output", OUTPUT)
    return Case(command, {"config.yaml": content}, ("model", "data.jsonl"), ("config.yaml",))


@st.composite
def text(draw: st.DrawFn, world: Path) -> Case:
    """Texts that are answered or continued."""
    given = draw(st.lists(texts, min_size=1, max_size=3))
    stdin = draw(st.one_of(st.binary(max_size=60), st.just(_bytes("\n".join(given)))))
    safe = tuple(each.replace("\x00", "") for each in given)
    command = draw(
        st.sampled_from(
            [
                ("predict", "run", "--json", "--", *safe),
                ("predict", "run", "--", *safe),
                ("predict", "run", "--input", "-"),
                ("generate", "model", "--max-new-tokens", "2", "--", safe[0]),
                ("chat", "model", "--max-new-tokens", "2"),
            ]
        )
    )
    return Case(command, {}, ("run", "model"), (), stdin)


BASES: dict[str, tuple[str, ...]] = {
    "predict": ("run", "a text"),
    "evaluate": ("run", "--data", "data.jsonl"),
    "finetune": ("sentiment", "--config", "config.yaml", "--output", OUTPUT),
    "pretrain": (
        *("--text", "corpus.txt", "--layers", "1", "--heads", "2", "--width", "16", "--vocab-size", "280"),
        *("--context", "32", "--batch-tokens", "256", "--output", OUTPUT),
    ),
    "generate": ("model", "The soup", "--max-new-tokens", "2"),
    "score": ("model", "--suite", "suite.yaml", "--output", OUTPUT),
    "compare": ("run", "run2"),
    "list": ("tasks",),
    "new": ("demo", "--output", OUTPUT),
}
# A large number of these is a long run, and no fault.
LONG = (
    "epochs",
    "tokens",
    "layers",
    "width",
    "vocab",
    "steps",
    "seconds",
    "minutes",
    "hours",
    "heads",
    "return",
    "beams",
    "patience",
    "workers",
)


# Values of the right type, near their limits; a name that takes none of them is a number.
NUMBERS = ("1", "2", "0", "0.5", "-1", "0.999999", "1e-8", "3", "16", "64", "1.5")
FEW = ("0.001", "0", "-1", "1e-39")
LIKELY: dict[str, tuple[str, ...]] = {
    "--data": ("data.jsonl", "choices.jsonl"),
    "--backbone": ("model", "run"),
    "--config": ("config.yaml",),
    "--input": ("data.jsonl", "-"),
    "--column": ("text=text", "label=label", "text=label", "text=nosuch"),
    "--split": ("test", "all", "train"),
    "--by": ("label", "text", "nosuch"),
    "--cluster": ("label", "text", "nosuch"),
    "--metric": ("accuracy", "mcc", "bleu", "nosuch"),
    "--metrics": ("accuracy", "mcc", "bleu", "nosuch"),
    "--task": ("sentiment", "text-to-text"),
    "--question": ("How is it? {text}",),
    "--label-word": ("positive=good",),
    "--encoding": ("utf-8", "cp1252", "utf-16", "nosuch"),
    "--decoding": ("num_beams=2", "temperature=0.5", "stop=a", "max_new_tokens=0"),
    "--stop": ("a", "\n"),
    "--validation": ("data.jsonl", "corpus.txt"),
    "--test": ("data.jsonl",),
    "--kind": ("task", "metric"),
    "--suite": ("suite.yaml", "starter"),
    "--option": ("prompt={text}",),
}


@st.composite
def flags(draw: st.DrawFn, world: Path) -> Case:
    """A command with one to three flags of it, whose values are odd."""
    name = draw(st.sampled_from(sorted(BASES)))
    options = _options()[name]
    given: list[str] = []
    plausible = draw(st.integers(0, 2)) > 0
    for option, is_switch, choices in draw(st.lists(st.sampled_from(options), min_size=1, max_size=3)):
        if option in ("--output", "--help", "--about-text"):
            continue
        given.append(option)
        if not is_switch:
            likely = FEW if any(part in option for part in LONG) else NUMBERS
            of_type = st.sampled_from(choices or LIKELY.get(option, likely))
            value = draw(of_type if plausible else st.one_of(of_type, _values(option)))
            given.append(value.replace("\x00", ""))
    takes = ("run", "run2", "model", "data.jsonl", "choices.jsonl", "corpus.txt", "suite.yaml", "config.yaml")
    # A name that is not there is named by its kind and value.
    culprits = ("--", *dict.fromkeys(each for each in given if each))
    return Case((name, *BASES[name], *given), {}, takes, culprits)


def _values(option: str) -> st.SearchStrategy[str]:
    short = any(part in option for part in LONG)
    allowed = numbers.filter(lambda number: not short or not 3 < abs(number) < 1e12)
    return st.one_of(
        allowed.map(str), texts, st.sampled_from(["data.jsonl", "model", "run", "nosuch", "text=label", "a=b"])
    )


def _options() -> dict[str, list[tuple[str, bool, list[str]]]]:
    """Return each command's flags: their names, whether they take no value, and which values they know."""
    from gpt_tasks.cli.main import _command
    from gpt_tasks.plugins import installed_plugins

    found: dict[str, list[tuple[str, bool, list[str]]]] = {}
    for name, command in _command(installed_plugins()).commands.items():
        # Each task is a command of finetune.
        one: Any = command.get_command(None, "sentiment") if name == "finetune" else command
        for each in one.params:
            if each.param_type_name == "option":
                choices = getattr(getattr(each, "type", None), "choices", None) or ()
                found.setdefault(name, []).append(
                    (each.opts[0], bool(each.is_flag), [str(choice) for choice in choices])
                )
    return found


@st.composite
def _as_yaml(draw: st.DrawFn, value: dict[str, Any]) -> bytes:
    changed = draw(mutated_json(value))
    if draw(st.booleans()):
        return changed
    try:
        return yaml.safe_dump(json.loads(changed), allow_unicode=True).encode("utf-8", errors="replace")
    except (ValueError, RecursionError, yaml.YAMLError):
        return changed


@st.composite
def _changed(draw: st.DrawFn, content: bytes, name: str) -> bytes:
    if name.endswith(".json") and draw(st.integers(0, 4)):
        try:
            value = json.loads(content)
        except ValueError:
            return draw(mutated_bytes(content))
        return draw(mutated_json(value))
    return draw(mutated_bytes(content))


def _below(folder: Path, name: str) -> list[str]:
    return sorted(f"{name}/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*") if path.is_file())


KINDS: dict[str, Callable[[Path], st.SearchStrategy[Case]]] = {
    "data": data,
    "run": run,
    "checkpoint": checkpoint,
    "model": model,
    "suite": suite,
    "template": template,
    "config": config,
    "flags": flags,
    "text": text,
}
