"""Fine-tuning from Python: what a run holds, that it answers as it was trained, and what a failed one leaves."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gpt_tasks
from gpt_tasks.errors import DataError, ModelError, PluginError, UsageError
from gpt_tasks.evaluation.answering import given_example
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.processes import alone_in
from gpt_tasks.training.config import FinetuneConfig
from gpt_tasks.training.finetune import _agreeing
from gpt_tasks.training.settings import settle

GOOD = ("lovely", "splendid", "warm", "worth it", "a joy", "kind")
BAD = ("awful", "cold", "a waste", "dull", "rude", "broken")
THINGS = ("soup", "film", "train", "hotel", "song", "garden", "phone", "teacher", "view", "coffee")


def rows(n: int = 120, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [
        {
            "text": f"The {draw.choice(THINGS)} number {i} was {draw.choice(GOOD if i % 2 else BAD)}",
            "label": ("negative", "positive")[i % 2],
            "place": "here" if i % 3 else "there",
        }
        for i in range(n)
    ]


def write(path: Path, values: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, values)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "rows.jsonl", rows())


@pytest.fixture(scope="module")
def settings(tiny_backbone_folder: Path) -> dict[str, Any]:
    return {
        "backbone": str(tiny_backbone_folder),
        "epochs": 6,
        "learning_rate": 0.02,
        "batch_tokens": 256,
        "precision": "float32",
        "device": "cpu",
    }


@pytest.fixture(scope="module")
def run(data: Path, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> gpt_tasks.Run:
    return gpt_tasks.finetune("sentiment", data=str(data), output=tmp_path_factory.mktemp("runs") / "run", **settings)


def test_a_run_learns_and_holds_everything(run: gpt_tasks.Run) -> None:
    assert run.report.metrics["accuracy"].value > 0.8, "six adjectives a label are not hard to distinguish"
    files = {path.name for path in run.path.iterdir()}
    assert files >= {
        "README.md", "confusion_matrix.png", "learning_curve.png", "logs", "metrics.json", "model",
        "predictions.jsonl", "run.json",
    }  # fmt: skip
    assert "scratch" not in files
    assert "checkpoints" not in files, "a finished run has nothing to resume"
    record = json.loads((run.path / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["config"]["epochs"] == 6
    assert record["settings"]["weight_decay"] is not None, "what the method settled is recorded"


def test_an_update_is_of_several_batches_where_texts_are_long(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = [{**row, "text": f"{row['text']}. " + "Nothing else happened on that day. " * 6} for row in rows(60)]
    data = write(tmp_path / "long.jsonl", long)
    few = {**settings, "epochs": 1, "batch_tokens": 64}
    run = gpt_tasks.finetune("sentiment", data=str(data), output=tmp_path / "run", **few)
    assert run.record["settings"]["accumulate"] == 8
    assert run.report.training["updates"] == 6
    assert "A batch holds 1.0 examples: an update is of 8 batches (--accumulate)." in capsys.readouterr().err
    given = gpt_tasks.finetune("sentiment", data=str(data), output=tmp_path / "given", accumulate=1, **few)
    assert given.record["settings"]["accumulate"] == 1
    assert given.report.training["updates"] == 48


def test_metrics_json_has_the_promised_shape(run: gpt_tasks.Run) -> None:
    content = json.loads((run.path / "metrics.json").read_text())
    assert content["schema_version"] == 1
    assert (content["task"], content["split"], content["n"]) == ("sentiment", "test", 12)
    for scores in (content["metrics"], *content["baselines"].values()):
        assert set(scores) == {"accuracy", "macro_f1", "micro_f1", "mcc", "ece"}
        assert all(set(score) >= {"value", "low", "high"} for score in scores.values())
    assert set(content["baselines"]) == {"majority", "tfidf_logistic_regression"}
    assert {"seconds", "examples_per_second", "peak_memory_mb"} <= set(content["training"])


def test_transformers_opens_the_model_without_gpt_tasks(run: gpt_tasks.Run, tiny_backbone_folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(run.path / "model")
    before = AutoModelForCausalLM.from_pretrained(tiny_backbone_folder)
    tokenizer = AutoTokenizer.from_pretrained(run.path / "model")
    assert model(**tokenizer("The soup", return_tensors="pt")).logits.shape[-1] == len(tokenizer)
    assert not torch.equal(model.get_input_embeddings().weight, before.get_input_embeddings().weight)


def test_a_loaded_run_gives_the_recorded_probabilities(run: gpt_tasks.Run) -> None:
    recorded = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text().splitlines()]
    loaded = gpt_tasks.load(run.path, device="cpu", precision="float32")
    answers = loaded.predict([row["text"] for row in recorded])
    for row, answer in zip(recorded, answers, strict=True):
        assert answer.label == row["predicted"]
        assert list(answer.probabilities) == ["negative", "positive"]
        assert answer.probabilities == pytest.approx(row["probabilities"], abs=2e-6)


def test_evaluating_the_test_rows_again_gives_the_report(run: gpt_tasks.Run, data: Path, tmp_path: Path) -> None:
    held_out = {json.loads(line)["text"] for line in (run.path / "predictions.jsonl").read_text().splitlines()}
    test = write(tmp_path / "test.jsonl", [row for row in rows() if row["text"] in held_out])
    report = run.evaluate(test, by="place", output=tmp_path / "report")
    assert report.metrics["accuracy"] == run.report.metrics["accuracy"]
    assert report.baselines == run.report.baselines
    assert report.slices is not None
    assert sum(scores["accuracy"].n for scores in report.slices.metrics.values()) == report.n
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["split"] == "all"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "test.jsonl").write_text(test.read_text())
    (tmp_path / "folder" / "train.jsonl").write_text(data.read_text())
    assert run.evaluate(tmp_path / "folder").split == "test"


def test_labels_in_another_order_give_the_same_predictions(
    run: gpt_tasks.Run, settings: dict[str, Any], tmp_path: Path
) -> None:
    """The declared order holds: with other labels first in the data, or given as indices, the model is the same."""
    index = {"negative": "0", "positive": "1"}
    turned = [row | {"label": index[row["label"]]} for row in rows()]
    other = gpt_tasks.finetune(
        "sentiment", data=str(write(tmp_path / "rows.jsonl", turned)), output=tmp_path / "run", **settings
    )
    texts = [f"The {thing} was {word}" for thing in THINGS for word in (*GOOD, *BAD)]
    assert other.predict(texts) == run.predict(texts)


def test_the_datas_own_labels_are_taken_sorted(settings: dict[str, Any], tmp_path: Path) -> None:
    renamed = [row | {"label": {"negative": "z", "positive": "a"}[row["label"]]} for row in rows(40)]
    path = write(tmp_path / "rows.jsonl", renamed)
    run = gpt_tasks.finetune("classification", data=str(path), output=tmp_path / "run", **settings | {"epochs": 1})
    assert run.report.labels == ("a", "z")
    assert gpt_tasks.load(run.path).task.labels == ("a", "z")


def test_settings_given_again_at_a_resume_agree_one_by_one() -> None:
    recorded = FinetuneConfig(column={"text": "review", "label": "stars"}, options={"labels": ("a", "b")})
    given = {"column": {"label": "stars"}, "options": {"labels": ["a", "b"]}}
    assert _agreeing(recorded, Path(), given, installed_plugins()) == recorded
    with pytest.raises(UsageError, match="--column: the run was started with"):
        _agreeing(recorded, Path(), {"column": {"label": "verdict"}}, installed_plugins())


def test_columns_are_found_again_as_in_the_training_data(settings: dict[str, Any], tmp_path: Path) -> None:
    renamed = [{"review": row["text"], "stars": row["label"]} for row in rows(40)]
    data = write(tmp_path / "rows.jsonl", renamed)
    (tmp_path / "settings.yaml").write_text("column: {text: review}\nprompt: 'Review: {text}'\n")
    run = gpt_tasks.finetune(
        "sentiment",
        data=data,
        config=tmp_path / "settings.yaml",
        column={"label": "stars"},
        output=tmp_path / "run",
        **settings | {"epochs": 1},
    )
    assert run.task.prompt == "Review: {text}"
    assert run.evaluate(data).n == 40
    unlabelled = write(tmp_path / "new.jsonl", [{"review": "Warm soup"}])
    assert len(list(run.predict_rows(unlabelled))) == 1
    plain = write(tmp_path / "plain.jsonl", [{"text": "Warm soup"}])
    assert len(list(run.predict_rows(plain))) == 1


def test_settings_of_the_training_loop_are_refused_where_the_backbone_is_frozen(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--learning-rate is of no use with --method head"):
        gpt_tasks.finetune("sentiment", data=data, method="head", learning_rate=0.1, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["lora", "head"])
def test_methods_that_move_less_learn_too(
    method: str, data: Path, settings: dict[str, Any], tmp_path: Path, tiny_backbone_folder: Path
) -> None:
    from transformers import AutoModelForCausalLM

    if method == "head":
        settings = {name: value for name, value in settings.items() if name not in ("epochs", "learning_rate")}
    # What follows a text is the same for all: a random model has little of the text there.
    run = gpt_tasks.finetune(
        "sentiment", data=str(data), output=tmp_path / "run", method=method, options={"prompt": "{text}"}, **settings
    )
    assert run.report.metrics["accuracy"].value > 0.6
    after = AutoModelForCausalLM.from_pretrained(run.path / "model").state_dict()
    before = AutoModelForCausalLM.from_pretrained(tiny_backbone_folder).state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert set(after) == set(before)
    assert moved == (set() if method == "head" else {name for name in before if name.endswith("c_attn.weight")})


def test_pairs_are_a_task_too(settings: dict[str, Any], tmp_path: Path) -> None:
    draw = random.Random(0)
    pairs = []
    for i in range(60):
        one, other = draw.sample(THINGS, 2)
        pairs.append({"text_a": f"A {one} {i}.", "text_b": f"The {one if i % 2 else other}.", "label": "ns"[i % 2]})
    run = gpt_tasks.finetune(
        "classification", data=str(write(tmp_path / "p.jsonl", pairs)), output=tmp_path / "run", **settings
    )
    answer = run.predict([{"text_a": "A soup.", "text_b": "The soup."}])
    assert set(answer[0].probabilities) == {"n", "s"}
    with pytest.raises(DataError, match="text_b"):
        run.predict([{"text_a": "A soup."}])
    for loaded in (run, gpt_tasks.load(run.path)):
        with pytest.raises(DataError, match="reads text_a, text_b, not one text"):
            loaded.predict(["A soup."])
        with pytest.raises(DataError, match="half a character"):
            loaded.predict([{"text_a": "A soup.", "text_b": "The \ud83d."}])


def test_a_prompt_of_ones_own_serves_pairs_too(settings: dict[str, Any], tmp_path: Path) -> None:
    pairs = [{"text_a": f"A {n}", "text_b": f"The {n}", "label": "ns"[n % 2]} for n in range(40)]
    run = gpt_tasks.finetune(
        "classification",
        data=str(write(tmp_path / "p.jsonl", pairs)),
        output=tmp_path / "run",
        options={"prompt": "Premise {text_a} hypothesis {text_b}"},
        **settings | {"epochs": 1},
    )
    tokenizer = run.predictor.backbone.tokenizer
    example = given_example(run.task, {"text_a": "one", "text_b": "two"}, "here")
    (encoded,) = run.task.encode([example], tokenizer, 64)
    assert tokenizer.decode(encoded.input_ids) == "Premise one hypothesis two"


UNDEFINED = """
    from gpt_tasks import ClassificationTask, hookimpl
    from gpt_tasks.extensions import Metric

    class Vague(ClassificationTask):
        "Has a metric that is undefined on all data."

        name = "vague"
        labels = ("negative", "positive")
        metrics = ("accuracy", "nothing")

    @hookimpl
    def register_tasks():
        return [Vague()]

    @hookimpl
    def register_metrics():
        return [Metric("nothing", "Undefined.", whole=lambda rows: float("nan"))]
"""


def test_a_metric_that_is_undefined_does_not_end_the_run(
    site: Any, data: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    from gpt_tasks.plugins import installed_plugins

    site.install("undefined", UNDEFINED)
    installed_plugins.cache_clear()
    try:
        run = gpt_tasks.finetune("vague", data=str(data), output=tmp_path / "run", **settings | {"epochs": 1})
    finally:
        installed_plugins.cache_clear()
    history = json.loads((run.path / "logs" / "history.json").read_text())
    assert {entry["eval_nothing"] for entry in history if "eval_nothing" in entry} == {None}
    assert json.loads((run.path / "metrics.json").read_text())["metrics"]["nothing"]["value"] is None


def test_a_mapping_names_fields_or_columns(run: gpt_tasks.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Renamed(type(run.task)):  # type: ignore[misc]
        columns = {"text": "review", "label": "label"}  # noqa: RUF012

    monkeypatch.setattr(run.predictor, "task", Renamed().restored(run.task.state()))
    answers = run.predict([{"text": "The soup was warm"}, {"review": "The soup was warm"}, "The soup was warm"])
    assert answers[0] == answers[1] == answers[2]


def test_a_failed_run_leaves_nothing(data: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "bad.jsonl", [*rows(20), {"text": ["a", "list"], "label": "negative"}])
    with pytest.raises(DataError, match=r"bad\.jsonl:21"):
        gpt_tasks.finetune("sentiment", data=str(tmp_path / "bad.jsonl"), output=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


PROMPT_BREAKER = """
    from gpt_tasks import ClassificationTask, hookimpl

    class Fragile(ClassificationTask):
        '''Breaks when it reads the predictions of its test split.'''

        name = "fragile"
        labels = ("negative", "positive")

        def encode(self, examples, tokenizer, max_length):
            if any("breaks" in example.inputs["text"] for example in examples):
                raise KeyError("this plugin is broken")
            return super().encode(examples, tokenizer, max_length)

    @hookimpl
    def register_tasks():
        return [Fragile()]
"""


def test_a_plugin_that_raises_during_a_run_is_named_and_checkpoints_are_not_removed(
    site: Any, settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from gpt_tasks.plugins import installed_plugins

    site.install("fragile", PROMPT_BREAKER)
    write(tmp_path / "test.jsonl", [row | {"text": f"{row['text']} breaks"} for row in rows(10)])
    installed_plugins.cache_clear()
    try:
        with pytest.raises(PluginError, match=r"Plugin 'fragile' \(acme 1\.2\) failed: KeyError"):
            gpt_tasks.finetune(
                "fragile",
                data=str(write(tmp_path / "rows.jsonl", rows(60))),
                test=str(tmp_path / "test.jsonl"),
                output=tmp_path / "run",
                **settings,
            )
    finally:
        installed_plugins.cache_clear()
    assert any((tmp_path / "run" / "checkpoints").iterdir())
    assert "--resume" in capsys.readouterr().err
    with pytest.raises(ModelError, match="unfinished"):
        gpt_tasks.load(tmp_path / "run")


def test_with_a_weight_for_the_texts_the_backbone_learns_to_predict_them(
    data: Path, settings: dict[str, Any], run: gpt_tasks.Run, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def nats(folder: Path) -> float:
        import torch

        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = torch.tensor(tokenizer(" ".join(row["text"] for row in rows(4)))["input_ids"][:60])[None]
        with torch.no_grad():
            return float(AutoModelForCausalLM.from_pretrained(folder)(ids, labels=ids).loss)

    tuned = gpt_tasks.finetune("sentiment", data=str(data), output=tmp_path / "run", lm_weight=0.5, **settings)
    assert nats(tuned.path / "model") < nats(run.path / "model") - 0.5
    assert tuned.record["settings"]["lm_weight"] == 0.5
    assert tuned.report.metrics["accuracy"].value > 0.7


def test_a_resumed_run_keeps_its_settings_and_its_data(settings: dict[str, Any], tmp_path: Path) -> None:
    """The folder of a run that was killed, as if before its first checkpoint."""
    data = write(tmp_path / "rows.jsonl", rows(40))
    config = {"data": str(data), **settings, "epochs": 1}
    run = gpt_tasks.finetune("sentiment", output=tmp_path / "run", **config)
    record = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(record | {"status": "unfinished"}))
    with pytest.raises(UsageError, match="--epochs: the run was started with 1"):
        gpt_tasks.finetune("sentiment", output=run.path, resume=True, **config | {"epochs": 2})
    (tmp_path / "other.yaml").write_text("epochs: 3")
    with pytest.raises(UsageError, match=r"other\.yaml:1: epochs: the run was started with 1"):
        gpt_tasks.finetune("sentiment", config=tmp_path / "other.yaml", output=run.path, resume=True)
    with pytest.raises(UsageError, match="of task 'sentiment'"):
        gpt_tasks.finetune("classification", output=run.path, resume=True)
    with alone_in(run.path), pytest.raises(UsageError, match="Another process works in"):
        gpt_tasks.finetune("sentiment", output=run.path, resume=True)
    assert run.path.exists(), "the other's run"
    checkpoint = run.path / "checkpoints" / "checkpoint-1"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}")
    (checkpoint / "COMPLETE").touch()
    write(data, rows(40, seed=1))
    with pytest.raises(DataError, match="The data changed"):
        gpt_tasks.finetune("sentiment", output=run.path, resume=True)
    assert run.path.exists()


def test_run_of_another_schema_and_of_a_missing_plugin_say_what_to_do(run: gpt_tasks.Run, tmp_path: Path) -> None:
    import shutil

    other = shutil.copytree(run.path, tmp_path / "other")
    record = json.loads((other / "run.json").read_text())
    for version, way_out in ((99, "Upgrade"), (0, "Train the run again")):
        (other / "run.json").write_text(json.dumps(record | {"schema_version": version}))
        with pytest.raises(ModelError, match=f"schema version {version}") as raised:
            gpt_tasks.load(other)
        assert way_out in raised.value.hint

    foreign = shutil.copytree(run.path, tmp_path / "foreign")
    task = json.loads((foreign / "model" / "task.json").read_text())
    (foreign / "model" / "task.json").write_text(
        json.dumps(task | {"task": "irony", "plugin": "gpt-tasks-irony", "plugin_version": "2.1"})
    )
    with pytest.raises(PluginError, match="needs task 'irony' of gpt-tasks-irony") as missing:
        gpt_tasks.load(foreign, verify=False).predict(["Lovely weather."])
    assert "pip install gpt-tasks-irony==2.1" in missing.value.hint

    (foreign / "model" / "task.json").write_text(json.dumps(task | {"task": "translation"}))
    with pytest.raises(ModelError, match="'translation' is of another family than when the run was trained"):
        gpt_tasks.load(foreign, verify=False).predict(["Lovely weather."])

    absent = {"task": "irony", "plugin": {"name": "irony", "distribution": "gpt-tasks-irony", "version": "2.1"}}
    (foreign / "run.json").write_text(json.dumps(record | absent))
    with pytest.raises(PluginError, match="needs task 'irony' of gpt-tasks-irony"):
        gpt_tasks.load(foreign)


def test_observers_hear_the_whole_run(site: Any, data: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    from gpt_tasks.plugins import installed_plugins

    site.install(
        "listener",
        """
        from gpt_tasks import hookimpl
        heard = []

        @hookimpl
        def observe(event):
            heard.append(event)
        """,
    )
    installed_plugins.cache_clear()
    try:
        gpt_tasks.finetune("sentiment", data=str(data), output=tmp_path / "run", **settings | {"epochs": 2})
        import acme_listener  # type: ignore[import-not-found]

        heard = acme_listener.heard
    finally:
        installed_plugins.cache_clear()
    kinds = [event.kind for event in heard]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_ended"
    assert heard[-1].values["status"] == "finished"
    assert kinds.count("evaluated") == 2
    assert kinds.count("saved") == 2
    assert all(np.isfinite(event.values["loss"]) for event in heard if event.kind == "step")


def test_an_interruption_after_the_end_leaves_the_finished_run(
    site: Any, data: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    from gpt_tasks.plugins import installed_plugins

    site.install(
        "impatient",
        """
        from gpt_tasks import hookimpl

        @hookimpl
        def observe(event):
            if event.kind == "run_ended":
                raise KeyboardInterrupt
        """,
    )
    installed_plugins.cache_clear()
    try:
        with pytest.raises(KeyboardInterrupt):
            gpt_tasks.finetune("sentiment", data=data, output=tmp_path / "run", **settings | {"epochs": 1})
    finally:
        installed_plugins.cache_clear()
    assert gpt_tasks.load(tmp_path / "run").predict(["The soup was lovely"])


def test_texts_are_left_what_a_method_does_not_take_of_the_window() -> None:
    registry = installed_plugins().registry
    task, full = registry.tasks["sentiment"], registry.methods["full"]

    def longest(positions: int, context: int | None, asked: int = 512) -> int:
        method, config = replace(full, num_virtual_tokens=positions), FinetuneConfig(max_length=asked)
        return settle(config, task, method, 1000, context).max_length

    assert longest(0, 64) == 64
    assert longest(16, 64) == 48
    assert longest(16, 64, asked=40) == 40
    assert longest(16, None) == 512
    with pytest.raises(UsageError, match="--method full takes 64 places of the model's window of 64"):
        longest(64, 64)


def test_data_that_a_program_holds_is_trained_on_as_a_file_is(
    run: gpt_tasks.Run, settings: dict[str, Any], tmp_path: Path
) -> None:
    pandas = pytest.importorskip("pandas")
    held = gpt_tasks.finetune("sentiment", data=pandas.DataFrame(rows()), output=tmp_path / "run", **settings)
    assert held.record["fingerprints"] == run.record["fingerprints"]
    assert held.record["config"]["data"] == "DataFrame of 120 rows, given from Python"
    assert "DataFrame of 120 rows" in (held.path / "README.md").read_text(encoding="utf-8")
    others = rows(20, seed=1)
    report = held.evaluate(others, output=tmp_path / "evaluated")
    assert report.n == 20
    assert [prediction.label for _, prediction in held.predict_rows(others)] == [
        prediction.label for prediction in held.predict([row["text"] for row in others])
    ]
    with pytest.raises(UsageError, match="a ndarray is no path, no data frame"):
        gpt_tasks.finetune("sentiment", data=np.zeros(3), output=tmp_path / "none", **settings)


def test_bad_rows_of_an_evaluation_are_left_out_if_that_is_wanted(run: gpt_tasks.Run) -> None:
    others = [*rows(20, seed=1), {"text": "", "label": "positive"}]
    with pytest.raises(DataError, match=r"list\[20\]: column 'text' is empty"):
        run.evaluate(others)
    report = run.evaluate(others, skip_invalid=True)
    assert report.n == 20
    assert any(note.startswith("Left out 1 of 21 rows of list") for note in report.notes)


def test_a_head_begins_with_the_rows_of_the_labels_words(
    data: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpt_tasks.learners.labels import ClassificationLearner
    from gpt_tasks.tasks.encoding import encode_texts

    begun = []
    begin = ClassificationLearner.begin

    def noted(learner: ClassificationLearner) -> None:
        before = learner.model.head.linear.weight.detach().clone()
        begin(learner)
        words = encode_texts(learner.backbone.tokenizer, [" negative", " positive"], begins=False)
        rows = learner.backbone.model.get_output_embeddings().weight
        wanted = torch.stack([rows[ids].mean(dim=0) for ids in words])
        begun.append((before, learner.model.head.linear.weight.detach().clone(), wanted))

    monkeypatch.setattr(ClassificationLearner, "begin", noted)
    few = {**settings, "epochs": 1, "limit": 24}
    for number, options in enumerate(({}, {"prompt": "{text}"}, {"prompt": "{text} It was"})):
        gpt_tasks.finetune("sentiment", data=str(data), output=tmp_path / str(number), options=options, **few)
    for (before, after, wanted), by_words in zip(begun, (True, False, True), strict=True):
        torch.testing.assert_close(after, wanted if by_words else before)
        assert not torch.equal(before, wanted)
