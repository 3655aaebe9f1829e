"""The built-in suites ask what lm-evaluation-harness 0.4.13 asks, character for character.

Both sides read the same rows, in the columns that the data sets have on the hub, or in those of the local files.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from gpt_tasks.plugins import installed_plugins
from gpt_tasks.scoring.prompting import ask, read_examples, shots_pool
from gpt_tasks.scoring.suites import ScoredTask, load_suite
from gpt_tasks.types import Continuation, Generation, LogLikelihood, Request

pytest.importorskip("lm_eval")

import datasets
from lm_eval import tasks as harness_tasks
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

SEED = 1234
HARNESS = Path(harness_tasks.__file__).parent
LOCAL = Path(__file__).parents[3] / "shared" / "data" / "suites"
CONFIGS = {
    "piqa": "piqa/piqa.yaml",
    "copa": "super_glue/copa/default.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "winogrande": "winogrande/default.yaml",
    "lambada_openai": "lambada/lambada_openai.yaml",
    "blimp": "blimp/adjunct_island.yaml",
    "crows_pairs": "crows_pairs/crows_pairs_english.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
    "wikitext": "wikitext/wikitext.yaml",
}
PARADIGMS = ("adjunct_island", "npi_present_1", "wh_vs_that_with_gap")
MULTIPLE_CHOICE = [name for name in CONFIGS if name not in ("lambada_openai", "gsm8k", "wikitext")]


def columns(names: str, *rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows, each a tuple of the values of the columns."""
    return [dict(zip(names.split(), row, strict=True)) for row in rows]


def labelled(text: Sequence[str], labels: str = "ABCDE") -> dict[str, list[str]]:
    """Choices as in ARC and OpenBookQA."""
    return {"text": list(text), "label": list(labels[: len(text)])}


ARC = columns(
    "id question choices answerKey",
    ("a", "Which is {hot}?", labelled(["ice", "the sun's core", 'a "cold" day', "rain"]), "B"),
    ("b", "What falls?  ", labelled(["an apple", "a cloud\\n", "[a bird]"], "123"), "3"),
    ("c", "温度 is measured in\nwhat?", labelled(["metres", "kelvin ", " litres", "grams", "volts 😂"]), "E"),
    ("d", "How fast?", labelled(["faster", "slower", "faster", "no change"]), "B"),
    ("e", "2 + 2?", labelled(["3", "4", "5", "0"], "1234"), "2"),
    ("f", "", labelled(["it's", "its", '"its\'"', "it"]), "A"),
    ("g", "Which one\tis {{ wet }}?", labelled(["water", "sand", "wood", "wool"]), "A"),
    ("h", "Who?", labelled(["a", "b", "c", "d"]), "D"),
)
ROWS: dict[str, list[dict[str, Any]]] = {
    "piqa": columns(
        "goal sol1 sol2 label",
        ("How do I open a {jar}?", "Turn it's lid.", 'Say "open".', 0),
        ("dry\nhands ", " Use a towel. ", "Use  water.", 1),
        ("Which digit is nothing?", "1", "0", 1),
        ("", "盐 in the soup", "salt 😂", 0),
        ("C:\\path\\1", "\\1", "{{ sol }}", 1),
        ("Boil an egg", "Heat it.", "Heat it..", 0),
        ("Cut bread", "With a knife", "With soup", 0),
        ("Fold paper", "By hand", "By train", 1),
    ),
    "copa": columns(
        "premise choice1 choice2 question idx label",
        ("The man turned on the faucet.", "The toilet filled.", "Water flowed.", "effect", 0, 1),
        ("The girl's bug ran. ", "She poured it.", "It woke.", "cause", 1, 0),
        (" I {laughed}!", "I heard it.", "Éva sang 😂.", "cause", 2, 1),
        ("It rained, and it rained.", "A dog barked", "a dog slept", "effect", 3, 0),
        ("Done", "He won.", 'He said "no".', "effect", 4, 1),
        ("这部电影很好看。", "他笑了。", "他哭了。", "cause", 5, 0),
        ("The cup fell.", "It broke.", "It flew.", "effect", 6, 0),
        ("The cat hid.", "A dog came.", "It was fed.", "cause", 7, 0),
    ),
    "openbookqa": [
        {"id": row["id"], "question_stem": row["question"], **row, "answerKey": f" {row['answerKey']}"} for row in ARC
    ],
    "boolq": columns(
        "question passage idx label",
        ("is it {cold}", "Ice -- frozen water. ", 0, 1),
        ("does the train\tstop", "It does not:\n\nit runs.", 1, 0),
        ("is 'this' a question?", '"Perhaps" [sic] \\1', 2, 1),
        ("是吗", "对。", 3, 1),
        ("", "Passage: none", 4, 0),
        ("can you go", "{{ no }}", 5, 0),
        ("was it late", "It was on time.", 6, 0),
        ("was it early", "It was 😂", 7, 1),
    ),
    "arc_easy": ARC,
    "arc_challenge": ARC,
    "hellaswag": columns(
        "ind activity_label ctx_a ctx_b endings label",
        (
            1,
            "Baking",
            "A woman stirs.",
            "the DOUGH is",
            ["rises.", " is {eaten}. ", "sings [laughs].", "a  b   c"],
            "3",
        ),
        (
            2,
            "Home",
            "[header] How to mop [title] Take a mop.",
            "",
            ["[step] Wet it. [substeps] Dry", "x", "y", "z"],
            "0",
        ),
        (3, "Sport ", "Men run [title] far", "éva falls", ["[a] and [b]", "it's", '"so"', "no [title] yes"], "1"),
        (4, "[x]", " They [unclosed", "wait] FOR it", ["one [", "] two", "[three]four", "five  "], "2"),
        (5, "跑步", "他跑。", "她跳", ["好", "不好", "😂", "\\1"], "0"),
        (6, "Chess", "He moves.\nShe", "thinks.  then", ["a\n[b\nc]", "{{ d }}", "e [title]", "f. "], "3"),
        (7, "Tea", "Water boils.", "he", ["pours", "drinks", "sits", "0"], "0"),
        (8, "Golf", "A ball.", "it", ["rolls", "flies", "stops", "1"], "2"),
    ),
    "winogrande": columns(
        "sentence option1 option2 answer",
        ("Ann thanked Eve because _ helped.", "Ann", "Eve", "2"),
        ("_ was late, so the train left. ", "The man", "The {woman}", "1"),
        ("The cup fell on the plate and the _ broke", "cup", "plate", "1"),
        ("It is a snake_case _ here .", "variable ", " constant", "2"),
        ("他 saw 她 and _  笑了。", "他", "她", "1"),
        ('"No," said Bob to Al\'s _ [sic] \\1', "dog", "cat 😂", "2"),
        ("Tea is hotter than milk: the _ is hot.", "tea", "milk", "1"),
        ("The box is bigger than the bag: the _ is small.", "box", "bag", "2"),
    ),
    "lambada_openai": columns(
        "text",
        ('She said, "I am {here}," and I saw Harlin',),
        ("one\n\ntwo  three",),
        ("alone",),
        ("I can make it there on my own, Shane ",),
        ("这部 电影 很好看 😂",),
        ("[a] {{ b }} \\1 c's d",),
    ),
    "blimp": columns(
        "sentence_good sentence_bad field UID",
        ("Who should Derek hug after shocking Richard?", "Who should Derek hug Richard after shocking?", "syntax", "x"),
        ("It's {fine}.", "It fine's.", "syntax", "x"),
        (' A "cat" sleeps. ', "A cats sleeps", "morphology", "x"),
        ("equal", "equal", "syntax", "x"),
    ),
    "crows_pairs": columns(
        "sent_more sent_less stereo_antistereo bias_type",
        ("The poor were late.", "The rich were late.", 0, "socioeconomic"),
        (' "She" said {no}. ', '"He" said {no}.', 1, "gender"),
        ("Éva's late 😂", "Bob's late 😂", 0, "nationality"),
        ("\\1 [a]", "\\1 [b]", 0, "age"),
        ("他很慢。", "她很慢。", 1, "gender"),
        ("{{ x }} came", "{{ y }} came", 0, "religion"),
    ),
    "gsm8k": columns(
        "question answer",
        ("Ida's bees fill 16 combs, and 4 more. How many?", "16+4 = <<16+4=20>>20 combs\n#### 20"),
        ("A {robe} takes 2\nbolts?  ", "2+1=3\n#### 3"),
        ("How much is $5?", "It is $5.\n#### 1,005"),
        ("Below zero?", "3-5\n#### -2"),
        ("多少?", "半 \\1\n#### 0.5"),
        ("[Which] one's {{ it }}?", "one\n\n#### 1"),
        ("1 apple and 1 apple?", "1+1\n#### 2"),
        ("2 trains?", "Two.\n#### 2"),
    ),
    "wikitext": columns(
        "page",
        (" = Robert <unk> = \n \n Robert is an English film , television and theatre actor . \n",),
        (" He said : \" it 's 3 @.@ 5 @-@ fold ; 1 @,@ 000 ° C \" ( a ) [ b ] { c } ' d ' ! really ? yes \n",),
        ("= = = = A = = = = \n= = = B = = =\n = = C = = \n N m , the boys ' dogs s ' x\n",),
        ("/' 3/ a force of 5 N each unclosed ( one [ two { three \" four",),
        ("一 部 电影 。\t\n\n  两 😂 \\1 { { braces } }",),
    ),
}
# What the hub's data sets store as the index of a class, whose name our reader returns.
CLASSES = {
    "piqa": {"label": ["0", "1"]},
    "copa": {"label": ["choice1", "choice2"]},
    "boolq": {"label": ["False", "True"]},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@cache
def config_of(file: str) -> dict[str, Any]:
    """A task of lm-evaluation-harness as its package holds it."""
    return load_yaml(HARNESS / file, resolve_func=True)  # type: ignore[no-any-return]


def theirs(
    file: str,
    data: datasets.DatasetDict,
    shots: int,
    limit: int | None = None,
    template: Callable[..., str] | None = None,
    **changes: Any,
) -> Any:
    """A task of lm-evaluation-harness over other data, its requests built as `simple_evaluate` has them built."""
    config = {name: value for name, value in config_of(file).items() if name != "tag"}
    absent = {name: None for name, split in config.items() if name.endswith("_split") and split not in data}
    task = ConfigurableTask(config={**config, **absent, "custom_dataset": lambda **_: data, **changes})
    if task.config.num_fewshot != 0:
        task.set_config("num_fewshot", shots)
    task.set_fewshot_seed(SEED)
    chat = {} if template is None else {"apply_chat_template": True, "chat_template": template}
    task.build_all_requests(limit=limit, **chat)
    return task


def ours(scored: ScoredTask, limit: int | None = None, template: Callable[[str], str] | None = None) -> list[Any]:
    sources = installed_plugins().registry.sources
    pool = shots_pool(scored, sources)
    return list(ask(scored, list(read_examples(scored, sources, limit)), pool, "random", SEED, template))


def on_hub(
    name: str, folders: pytest.TempPathFactory, scored: ScoredTask, *, own: bool
) -> tuple[datasets.DatasetDict, ScoredTask]:
    """The rows of a suite as a data set of the hub, and our task over it.

    The last rows are those that shots are drawn from, two of them scored too but for a test split, of whose rows
    lm-evaluation-harness lets a shot be the row itself; with `own` all rows are in one split.
    """
    table = datasets.Dataset.from_list(ROWS[name])
    for column, names in CLASSES.get(name, {}).items():
        table = table.cast_column(column, datasets.ClassLabel(names=names))
    splits = {scored.split: table}
    if not own and scored.shots_split not in (None, scored.split):
        first = 6 if scored.split == "test" else 4
        splits = {scored.split: table.select(range(6)), scored.shots_split: table.select(range(first, len(table)))}
    data = datasets.DatasetDict(splits)
    folder = folders.mktemp("hub")
    for split, rows in data.items():
        rows.to_parquet(folder / f"{split}.parquet")
    return data, replace(scored, source=f"hf:{folder}", shots_source=f"hf:{folder}", groups=())


def built_in(name: str, **settings: Any) -> ScoredTask:
    (scored,) = load_suite(name, installed_plugins().registry, **settings).tasks
    return scored


def plain(request: Request) -> tuple[Any, ...]:
    """A request of ours as lm-evaluation-harness holds its own."""
    match request:
        case Continuation(context, text):
            return context, text
        case Generation(context, stop, _):
            return context, list(stop)
        case _:
            return (request.text,)


def compare(task: Any, asked: Sequence[Any]) -> None:
    expected = [
        (instance.args[0], instance.args[1]["until"]) if instance.request_type == "generate_until" else instance.args
        for instance in task.instances
    ]
    assert [plain(request) for each in asked for request in each.requests] == expected
    assert len(expected) >= len(asked) > 2


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_data_set_and_splits(name: str) -> None:
    config, scored = config_of(CONFIGS[name]), built_in(name)
    scored = replace(scored, source=scored.source.format(group="adjunct_island"))
    parts = [config["dataset_path"], config.get("dataset_name")]
    assert scored.source == "hf:" + ":".join(part for part in parts if part)
    assert scored.split == (config.get("test_split") or config["validation_split"])
    assert scored.shots == (config.get("num_fewshot") or 0)
    if config.get("training_split") and name != "wikitext":
        assert scored.shots_split == config.get("fewshot_split", config["training_split"])


def test_the_same_paradigms() -> None:
    group = yaml.safe_load((HARNESS / "blimp" / "_blimp.yaml").read_text(encoding="utf-8"))
    assert [f"blimp_{name}" for name in built_in("blimp").groups] == group["task"]
    for name in PARADIGMS:
        assert {**config_of(f"blimp/{name}.yaml"), "task": "", "dataset_name": ""} == {
            **config_of(CONFIGS["blimp"]),
            "task": "",
            "dataset_name": "",
        }


@pytest.mark.parametrize("name", CONFIGS)
def test_without_shots(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    scored = replace(built_in(name), shots=0)
    data, scored = on_hub(name, tmp_path_factory, scored, own=False)
    compare(theirs(CONFIGS[name], data, 0), ours(scored))


@pytest.mark.parametrize("shots", [1, 2])
@pytest.mark.parametrize(
    "name", [name for name in CONFIGS if name not in ("lambada_openai", "blimp", "crows_pairs", "wikitext")]
)
def test_with_shots_of_the_training_split(name: str, shots: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    data, scored = on_hub(name, tmp_path_factory, replace(built_in(name), shots=shots), own=False)
    task = theirs(CONFIGS[name], data, shots)
    compare(task, ours(scored))
    assert len({context.rpartition("\n\n")[0] for context, *_ in (each.args for each in task.instances)}) > 1


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in ("lambada_openai", "blimp", "wikitext")])
def test_with_shots_of_the_scored_split(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    scored = built_in(name)
    data, scored = on_hub(name, tmp_path_factory, replace(scored, shots=2, shots_split=scored.split), own=True)
    compare(theirs(CONFIGS[name], data, 2, test_split=scored.split, fewshot_split=scored.split), ours(scored))


def rendered(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
    """A chat template."""
    turns = "".join(f"<{message['role']}>{message['content']}</s>" for message in messages)
    return turns + "<assistant>" * add_generation_prompt


@pytest.mark.parametrize("shots", [0, 1])
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "wikitext"])
def test_through_a_chat_template(name: str, shots: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    scored = replace(built_in(name), shots=shots)
    if shots and name in ("lambada_openai", "blimp", "crows_pairs"):
        pytest.skip("it has no split to draw shots from")
    data, scored = on_hub(name, tmp_path_factory, scored, own=False)
    theirs_asked = theirs(CONFIGS[name], data, shots, template=rendered)
    compare(theirs_asked, ours(scored, template=lambda text: rendered([{"role": "user", "content": text}])))


def test_lambada_with_shots(tmp_path_factory: pytest.TempPathFactory) -> None:
    """lm-evaluation-harness writes two spaces before the last word of a shot, which no text has: we write one."""
    data, scored = on_hub("lambada_openai", tmp_path_factory, replace(built_in("lambada_openai"), shots=2), own=True)
    as_it_is = theirs(CONFIGS["lambada_openai"], data, 2, fewshot_split="test")
    one_space = theirs(CONFIGS["lambada_openai"], data, 2, fewshot_split="test", target_delimiter="")
    compare(one_space, ours(scored))
    with pytest.raises(AssertionError):
        compare(as_it_is, ours(scored))


@pytest.mark.parametrize("name", MULTIPLE_CHOICE)
def test_the_same_figures_of_the_same_likelihoods(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    data, scored = on_hub(name, tmp_path_factory, replace(built_in(name), shots=0), own=False)
    task, asked, random = theirs(CONFIGS[name], data, 0), ours(scored), Random(0)
    metrics = installed_plugins().registry.metrics_of(scored.task, scored.metrics)
    instances = iter(task.instances)
    for each in asked:
        own = list(islice(instances, len(each.requests)))
        # Where choices are equal, lm-evaluation-harness can count none but the first as right.
        if len(set(each.example.choices)) < len(each.example.choices):
            continue
        for _ in range(8):
            values = [random.uniform(-9, -1) for _ in own]
            prediction = scored.task.prediction(each.example, [LogLikelihood(value, False) for value in values])
            found = scored.task.contributions(metrics, each.example, prediction)
            figures = task.process_results(own[0].doc, [(value, False) for value in values])
            renamed = {"acc": "accuracy"}
            assert {renamed.get(key, key) for key in figures} == set(scored.metrics)
            for key, value in figures.items():
                assert found[renamed.get(key, key)].value == value, (each.example, key)


def test_the_same_answers_of_gsm8k_are_right(tmp_path_factory: pytest.TempPathFactory) -> None:
    data, scored = on_hub("gsm8k", tmp_path_factory, replace(built_in("gsm8k"), shots=0), own=False)
    task, asked = theirs(CONFIGS["gsm8k"], data, 0), ours(scored)
    found = []
    for text in (
        " 16",
        "\n#### 16",
        "#### 1,005.",
        "#### $3",
        "#### 3\n#### 16",
        "####  3",
        "#### -2 x",
        "#### 0.5",
        "#### .",
        "",
    ):
        for instance in task.instances:
            instance.resps, instance.filtered_resps = [text], {}
        task.apply_filters()
        for instance, each in zip(task.instances, asked, strict=True):
            (figure,) = task.process_results(instance.doc, [instance.filtered_resps["strict-match"]]).values()
            prediction = scored.task.prediction(each.example, [text])
            assert scored.task.score(each.example, prediction)["exact_match"].value == figure, (text, instance.doc)
            found.append(figure)
    assert {request.max_tokens for each in asked for request in each.requests} == {256}
    assert {instance.args[1].get("max_gen_toks", 256) for instance in task.instances} == {256}
    assert 3 < sum(found) < len(found)


def test_the_same_words_and_bytes_of_wikitext(tmp_path_factory: pytest.TempPathFactory) -> None:
    data, scored = on_hub("wikitext", tmp_path_factory, built_in("wikitext"), own=False)
    task = theirs(CONFIGS["wikitext"], data, 0)
    for instance, each in zip(task.instances, ours(scored), strict=True):
        figures = task.process_results(instance.doc, [-1.0])
        counted = each.example.inputs
        assert (int(counted["original_words"]), int(counted["original_bytes"])) == (
            figures["word_perplexity"][1],
            figures["byte_perplexity"][1],
        )


def piqa(row: Mapping[str, Any]) -> dict[str, Any]:
    goal = row["context"].removeprefix("Question: ").removesuffix("\n")
    return {"goal": goal, "sol1": row["choices"][0], "sol2": row["choices"][1], "label": row["answer"]}


def copa(row: Mapping[str, Any]) -> dict[str, Any]:
    premise, _, connector = row["context"].rpartition(", ")
    choices = {f"choice{place + 1}": choice[0].upper() + choice[1:] for place, choice in enumerate(row["choices"])}
    question = {"because": "cause", "therefore": "effect"}[connector]
    return {"premise": f"{premise}.", **choices, "question": question, "label": row["answer"]}


def openbookqa(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"question_stem": row["context"], "choices": labelled(row["choices"]), "answerKey": "ABCD"[row["answer"]]}


def boolq(row: Mapping[str, Any]) -> dict[str, Any]:
    passage, _, question = row["context"].removeprefix("Passage: ").rpartition("\nQuestion: ")
    return {"passage": passage, "question": question.removesuffix("?"), "label": row["answer"]}


def arc_challenge(row: Mapping[str, Any]) -> dict[str, Any]:
    question = row["context"].removeprefix("Question: ")
    return {"question": question, "choices": labelled(row["choices"]), "answerKey": "ABCD"[row["answer"]]}


def lambada_openai(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": row["text"]}


def crows_pairs(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"sent_more": row["sent_more"], "sent_less": row["sent_less"]}


def gsm8k(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"question": row["question"], "answer": f"{row['rationale']}\n#### {row['answer']}"}


@pytest.mark.skipif(not LOCAL.is_dir(), reason="the folder shared/data/suites is not there")
@pytest.mark.parametrize("shots", [0, 2])
@pytest.mark.parametrize(
    "rebuilt",
    [piqa, copa, openbookqa, boolq, arc_challenge, lambada_openai, crows_pairs, gsm8k],
    ids=lambda rebuilt: rebuilt.__name__,
)
def test_the_local_files_ask_the_same(rebuilt: Callable[[Mapping[str, Any]], dict[str, Any]], shots: int) -> None:
    name = rebuilt.__name__
    scored = built_in(name, data_dir=LOCAL, shots=shots)
    file = Path(scored.source)
    with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
        rows = [rebuilt(json.loads(line)) for line in lines]
    data = datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)})
    changes = {"target_delimiter": ""} if name == "lambada_openai" else {}
    asked = ours(scored, limit=50)
    assert len(asked) == 50
    compare(theirs(CONFIGS[name], data, shots, limit=50, test_split="test", fewshot_split="test", **changes), asked)


@pytest.mark.skipif(not LOCAL.is_dir(), reason="the folder shared/data/suites is not there")
def test_the_local_blimp_asks_the_same() -> None:
    scored = built_in("blimp", data_dir=LOCAL)
    asked = ours(scored, limit=2)
    assert {each.group for each in asked} == set(built_in("blimp").groups)
    rows = [dict(zip(("sentence_good", "sentence_bad"), each.example.choices, strict=True)) for each in asked]
    compare(theirs(CONFIGS["blimp"], datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}), 0), asked)
