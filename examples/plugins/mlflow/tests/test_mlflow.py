import pytest
from gpt_tasks_mlflow import observe
from mlflow import MlflowClient

from gpt_tasks import Event


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowClient(str(tmp_path / "mlruns"))


def runs(client, command):
    return client.search_runs([client.get_experiment_by_name(command).experiment_id])


def test_a_training_with_its_configuration_its_steps_and_what_it_leaves(tmp_path, client):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.json").write_text("{}")
    observe(Event("run_started", folder, values={"task": "sentiment", "config": {"seed": 7, "column": {"a": "b"}}}))
    observe(Event("step", folder, 10, 0.5, {"loss": 0.7, "grad_norm": float("nan")}))
    observe(Event("step", folder, 20, 1.0, {"loss": 0.5}))
    observe(Event("evaluated", folder, 20, 1.0, {"accuracy": 0.9}))
    observe(Event("saved", folder, 20))
    leaves = (folder / "metrics.json",)
    observe(Event("run_ended", folder, values={"status": "finished", "accuracy": 0.8}, artifacts=leaves))
    (run,) = runs(client, "finetune")
    assert run.info.status == "FINISHED"
    assert run.data.params == {"task": "sentiment", "config.seed": "7", "config.column.a": "b"}
    assert run.data.metrics == {"train/loss": 0.5, "eval/accuracy": 0.9, "final/accuracy": 0.8}
    assert [each.step for each in client.get_metric_history(run.info.run_id, "train/loss")] == [10, 20]
    assert [each.path for each in client.list_artifacts(run.info.run_id)] == ["metrics.json"]


def test_an_evaluation_without_a_folder_that_fails(client):
    observe(Event("run_started", None, values={"model": "tiny"}, command="evaluate"))
    observe(Event("run_ended", None, values={"status": "failed"}, command="evaluate"))
    assert [run.info.status for run in runs(client, "evaluate")] == ["FAILED"]
