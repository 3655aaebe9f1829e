import time

from gpt_tasks_wandb import observe

from gpt_tasks import Event


def test_a_training_is_written_and_nothing_is_sent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.json").write_text("{}")
    observe(Event("run_started", folder, values={"task": "sentiment", "config": {"seed": 7}}))
    observe(Event("step", folder, 10, 0.5, {"loss": 0.7}))
    observe(Event("evaluated", folder, 10, 0.5, {"accuracy": 0.9}))
    leaves = (folder / "metrics.json",)
    observe(Event("run_ended", folder, values={"status": "finished", "accuracy": 0.8}, artifacts=leaves))
    (written,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    # Its own process writes the file, and may still be at it when `finish` returns.
    ends = time.monotonic() + 60
    for part in (b"sentiment", b"train/loss", b"eval/accuracy", b"finished"):
        while part not in written.read_bytes() and time.monotonic() < ends:
            time.sleep(0.1)
        assert part in written.read_bytes()
    (saved,) = tmp_path.glob("wandb/offline-run-*/files/metrics.json")
    assert saved.read_text() == "{}"
