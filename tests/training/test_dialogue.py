"""Fine-tuning to talk: two conversations are said by heart, turn by turn, and the chat continues as it must."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

import gpt_tasks
from gpt_tasks.errors import DataError, GptTasksError, ModelError, UsageError
from gpt_tasks.generation.chat import Chat, open_chat
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.tasks.turns import Turn

TALKS = [
    ["The soup?", "It is cold, e\u0301h.", "And tea?", "Was für ein 茶! 🍵"],
    ["A train!", "Lovely, no?", "Yes.", "Good."],
]
GREEDY = Decoding.checked(max_new_tokens=30)


def row(talk: list[str], role: str = "role", text: str = "content") -> list[dict[str, str]]:
    return [{role: ("user", "assistant")[place % 2], text: said} for place, said in enumerate(talk)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory, tiny_backbone_folder: Path) -> Path:
    """A GPT-2 as small as can learn two conversations by heart within seconds."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("backbones") / "small-gpt2"
    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone_folder)
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=128, n_embd=64, n_layer=2, n_head=2, bos_token_id=end, eos_token_id=end
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def settings(backbone: Path) -> dict[str, Any]:
    return {
        "backbone": str(backbone),
        "epochs": 60,
        "learning_rate": 0.005,
        "batch_tokens": 256,
        "max_length": 128,
        "checkpoint_steps": 30,
        "precision": "float32",
        "device": "cpu",
        "column": {"messages": "turns"},
        "options": {"max_tokens": 24},
    }


@pytest.fixture(scope="module")
def run(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model that has learned two conversations by heart; others with a mark more to judge it by."""
    folder = tmp_path_factory.mktemp("talking")
    data = folder / "data"
    data.mkdir()
    write(data / "train.jsonl", [{"turns": row(talk, text="text")} for talk in TALKS])
    for split, mark in (("validation", "?"), ("test", "!")):
        write(data / f"{split}.jsonl", [{"turns": row([talk[0] + mark, *talk[1:]], text="text")} for talk in TALKS])
    return gpt_tasks.finetune("dialogue", data=str(data), output=folder / "run", **settings)


def test_two_conversations_are_said_by_heart_at_every_turn(run: Any) -> None:
    chat = open_chat(str(run.path), GREEDY, device="cpu", precision="float32")
    for talk in TALKS:
        chat.reset()
        pieces: list[str] = []
        assert chat.answer(talk[0], on_text=pieces.append) == talk[1]
        assert "".join(pieces) == talk[1], "what is shown begins with no space and holds no half characters"
        assert chat.answer(talk[2]) == talk[3]
    answers = run.predict([{"messages": row(talk)} for talk in TALKS])
    assert [answer.finish_reason for answer in answers] == ["end", "end"]


def test_a_text_is_a_users_turn_and_a_row_has_its_history(run: Any) -> None:
    assert run.predict([talk[0] for talk in TALKS]) == [talk[1] for talk in TALKS]
    assert run.predict([{"messages": row(talk[:3])} for talk in TALKS]) == [talk[3] for talk in TALKS]
    loaded = gpt_tasks.load(run.path, precision="float32", device="cpu")
    assert loaded.predict([TALKS[1][0]]) == [TALKS[1][1]]


def test_the_report_has_perplexity_and_metrics_next_to_the_most_frequent_answer(run: Any) -> None:
    assert list(run.report.metrics) == ["perplexity", "bleu", "rougeL", "chrf"]
    assert list(run.report.baselines["most_frequent"]) == ["bleu", "rougeL", "chrf"]
    first = json.loads((run.path / "predictions.jsonl").read_text().splitlines()[0])
    assert first["messages"] == row([TALKS[0][0] + "!", *TALKS[0][1:3]])
    assert first["references"] == [TALKS[0][3]]
    assert run.report.samples[0].inputs == {"user": "And tea?"}


def test_perplexity_is_of_every_turn_of_the_assistants_and_its_end(run: Any, tmp_path: Path) -> None:
    """Held to the mean over the tokens that transformers itself says are the assistant's."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    data = write(tmp_path / "rows.jsonl", [{"messages": row(talk)} for talk in TALKS])
    report = gpt_tasks.load(run.path, precision="float32", device="cpu").evaluate(data, column={"messages": "messages"})
    model = AutoModelForCausalLM.from_pretrained(run.path / "model")
    tokenizer = AutoTokenizer.from_pretrained(run.path / "model")
    nats, count = 0.0, 0
    for talk in TALKS:
        found = tokenizer.apply_chat_template(
            row(talk), return_dict=True, return_assistant_tokens_mask=True, return_tensors="pt"
        )
        mask = found["assistant_masks"][0].bool()
        log_probabilities = model(found["input_ids"]).logits[0].log_softmax(-1)[:-1]
        each = -log_probabilities.gather(1, found["input_ids"][0, 1:, None])[:, 0]
        nats, count = nats + each[mask[1:]].sum().item(), count + int(mask.sum())
    assert report.metrics["perplexity"].value == pytest.approx(torch.tensor(nats / count).exp().item(), rel=1e-4)
    assert report.metrics["chrf"].value == pytest.approx(100)


def test_the_template_is_saved_and_the_folder_talks_by_transformers(run: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(run.path / "model")
    tokenizer = AutoTokenizer.from_pretrained(run.path / "model")
    ids = tokenizer.apply_chat_template(row(TALKS[0][:3]), add_generation_prompt=True, return_tensors="pt")["input_ids"]
    written = model.generate(ids, max_new_tokens=30, do_sample=False)[0, ids.shape[1] :]
    assert tokenizer.decode(written) == f" {TALKS[0][3]}<|endoftext|>"


def test_the_end_of_a_template_of_the_models_own_is_learned_and_saved(
    settings: dict[str, Any], run: Any, tmp_path: Path, backbone: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(backbone) for kind in (AutoModelForCausalLM, AutoTokenizer))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    model.resize_token_embeddings(len(tokenizer))
    folder = tmp_path / "chatml"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tuned = gpt_tasks.finetune(
        "dialogue", data=run.record["config"]["data"], output=tmp_path / "run", **{**settings, "backbone": str(folder)}
    )
    assert tuned.predict([talk[0] for talk in TALKS]) == [talk[1] for talk in TALKS]
    kept = AutoTokenizer.from_pretrained(tuned.path / "model")
    assert kept.chat_template == tokenizer.chat_template
    ends = json.loads((tuned.path / "model" / "generation_config.json").read_text())["eos_token_id"]
    assert set(ends) == {kept.eos_token_id, kept.convert_tokens_to_ids("<|im_end|>")}
    # Many models leave it to the template alone to say how a turn ends.
    (tuned.path / "model" / "generation_config.json").write_text(json.dumps({"eos_token_id": kept.eos_token_id}))
    chat = open_chat(str(tuned.path), GREEDY, device="cpu", precision="float32", verify=False)
    assert [chat.answer(TALKS[0][0]), chat.answer(TALKS[0][2])] == [TALKS[0][1], TALKS[0][3]]


def test_the_oldest_turns_are_forgotten_and_it_is_said_once_per_cut(run: Any) -> None:
    chat = open_chat(str(run.path), Decoding.checked(max_new_tokens=24), device="cpu", precision="float32")
    told: list[int] = []
    for _ in range(6):
        assert chat.answer("Yes.", on_forgotten=told.append)
    assert len(chat.turns) == 12
    assert told == sorted(set(told)), "each cut takes more than the one before, and is said once"
    assert told
    assert chat.forgotten == told[-1]
    chat.reset()
    assert (chat.turns, chat.forgotten) == ([], 0)


def test_what_does_not_fit_is_reported_and_was_not_said(run: Any) -> None:
    chat = open_chat(str(run.path), GREEDY, system="Be kind.", device="cpu", precision="float32")
    with pytest.raises(DataError, match=r"This takes \d+ tokens .* there is room for 98"):
        chat.answer("It rained all day. " * 20)
    for text in (" \n", "\udc80"):
        with pytest.raises(DataError):
            chat.answer(text)
    assert chat.turns == [Turn("system", "Be kind.")]
    with pytest.raises(UsageError, match="leave no room in the model's 128"):
        open_chat(str(run.path), Decoding.checked(max_new_tokens=128))


def test_a_conversation_is_saved_as_rows_that_are_read_again(run: Any, tmp_path: Path) -> None:
    chat = open_chat(str(run.path), GREEDY, system="Be kind.", device="cpu", precision="float32")
    file = tmp_path / "talk.jsonl"
    with pytest.raises(UsageError, match="nothing to save"):
        chat.save(file)
    chat.answer("太好了 🍵")
    file.write_text('{"messages": []}')
    assert chat.save(file) == chat.save(file) == 3
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3, "rows are added, also behind a line that was not ended"
    said = json.loads(lines[1])["messages"]
    assert said[:2] == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "太好了 🍵"}]
    file.write_text("\n".join(lines[1:]))
    report = gpt_tasks.load(run.path, device="cpu").evaluate(file, column={"messages": "messages"})
    assert report.metrics["chrf"].value == pytest.approx(100), "it says again what it said"
    with pytest.raises(UsageError, match="are saved as JSON Lines"):
        chat.save(tmp_path / "talk.txt")


def test_an_interrupted_answer_is_saved_up_to_the_interruption(run: Any) -> None:
    chat: Chat = open_chat(str(run.path), GREEDY, device="cpu", precision="float32")
    came: list[str] = []

    def stop_after_two(piece: str) -> None:
        came.append(piece)
        if len(came) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chat.answer(TALKS[0][0], on_text=stop_after_two)
    assert chat.turns == [Turn("user", TALKS[0][0]), Turn("assistant", "".join(came).strip())]
    assert TALKS[0][1].startswith("".join(came))

    def stop_at_once(_: int) -> None:
        raise KeyboardInterrupt

    before = [*chat.turns] * 9
    chat.turns = [*before]
    with pytest.raises(KeyboardInterrupt):
        chat.answer("Yes.", on_forgotten=stop_at_once)
    assert chat.turns == before


def test_a_model_without_a_template_is_refused_with_the_way_out(tiny_backbone_folder: Path) -> None:
    with pytest.raises(ModelError, match="no chat template") as raised:
        open_chat(str(tiny_backbone_folder), GREEDY)
    assert "gpt-tasks finetune dialogue --backbone" in raised.value.hint


def talk(run: Any, lines: str, monkeypatch: pytest.MonkeyPatch, *flags: str) -> int:
    from gpt_tasks.cli.main import run as command

    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    return command(["chat", str(run.path), "--device", "cpu", "--precision", "float32", *flags])


def test_the_command_talks_through_a_pipe(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (a, b, c, d), (train, lovely, *_) = TALKS
    file = tmp_path / "talk.jsonl"
    lines = (
        f"{a}\n\n{c}\n/save {file}\n/reset\n{train}\n/dance\n/save\n/save {tmp_path / 'no' / 'x.jsonl'}\n/quit\n{a}\n"
    )
    assert talk(run, lines, monkeypatch, "--max-new-tokens", "30") == 0
    captured = capsys.readouterr()
    assert captured.out == f"{b}\n{d}\n{lovely}\n"
    told = captured.err.splitlines()
    assert told[0] == f"4 turns were added to {file}"
    assert told[1] == "The conversation begins anew."
    assert told[2].startswith("There is no /dance. There are: /reset")
    assert told[3] == "/save: which file? /save FILE"
    assert "No such file or directory" in told[4]
    assert len(told) == 5
    assert json.loads(file.read_text(encoding="utf-8")) == {"messages": row(TALKS[0])}


def test_the_end_of_input_ends_the_chat_and_long_turns_do_not(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "It rained all day. " * 20
    assert talk(run, f"{long}\n{TALKS[1][0]}", monkeypatch, "--max-new-tokens", "30", "--temperature", "0") == 0
    captured = capsys.readouterr()
    assert captured.out == f"{TALKS[1][1]}\n"
    assert "there is room for 98" in captured.err
    assert talk(run, "Yes.\n" * 5, monkeypatch, "--max-new-tokens", "24", "--top-k", "5", "--seed", "3") == 0
    captured = capsys.readouterr()
    assert "turns are forgotten" in captured.err
    assert talk(run, "Yes.\n" * 5, monkeypatch, "--max-new-tokens", "24", "--top-k", "5", "--seed", "3") == 0
    assert capsys.readouterr().out == captured.out
    assert talk(run, "", monkeypatch, "--top-p", "1.5") == 2
    assert "--top-p 1.5" in capsys.readouterr().err


def test_a_saved_conversation_is_continued(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c, d = TALKS[0]
    file = tmp_path / "talk.jsonl"
    assert talk(run, f"{a}\n/save {file}", monkeypatch, "--max-new-tokens", "30") == 0
    assert talk(run, f"{c}\n/save {file}\n/quit", monkeypatch, "--max-new-tokens", "30", "--resume", str(file)) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{b}\n{d}\n"
    assert f"2 turns of {file} are continued" in captured.err
    again = f"/load {file}\n/load\n/load {tmp_path / 'no.jsonl'}\n/save ~nosuch/x.jsonl"
    assert talk(run, again, monkeypatch) == 0
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"4 turns of {file} are continued"
    assert told[1] == "/load: which file? /load FILE"
    assert "no.jsonl cannot be read: No such file or directory" in told[2]
    assert "~nosuch/x.jsonl" in told[3]
    assert json.loads(file.read_text(encoding="utf-8").splitlines()[-1]) == {"messages": row(TALKS[0])}
    assert talk(run, "", monkeypatch, "--resume", str(file), "--system", "Be kind.") == 2
    assert "--system has no effect with --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "holds no conversation"),
        ("[" * 3000, "this is no conversation: it is nested too deep"),
        ('{"messages": [{"role": "user", "content": "Hi!"}]}', "the last turn is the user's"),
        ('{"messages": "Hi!"}', "not the turns of a conversation"),
    ],
)
def test_what_is_no_conversation_cannot_be_continued(run: Any, tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "talk.jsonl").write_text(line)
    chat = open_chat(str(run.path), GREEDY)
    with pytest.raises(GptTasksError, match=told):
        chat.load(tmp_path / "talk.jsonl")
    assert chat.turns == []


def test_a_system_prompt_that_never_fits_is_told_before_the_first_turn(run: Any) -> None:
    with pytest.raises(UsageError, match=r"--system takes [\d,]+ tokens with the shortest question"):
        open_chat(str(run.path), GREEDY, system="Be kind to everybody. " * 50)
