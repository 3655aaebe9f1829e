import pytest
from gpt_tasks_shelf import register_backbones

from gpt_tasks import GptTasksError


def test_the_shelf_is_where_the_environment_says(monkeypatch):
    presets = {preset.name: preset for preset in register_backbones()}
    monkeypatch.setenv("GPT_SHELF", "models/ours")
    assert presets["shelf"].location() == "models/ours"
    monkeypatch.delenv("GPT_SHELF")
    with pytest.raises(GptTasksError, match="GPT_SHELF is not set"):
        presets["shelf"].location()
