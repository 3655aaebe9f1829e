"""A model behind a server with OpenAI's API has the log-likelihoods that it has on this machine."""

import json
import socket
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import gpt_tasks_openai
import pyarrow.parquet as pq
import pytest

from gpt_tasks import Continuation, DataError, Generation, MachineError, ModelError, Rolling, UsageError, score

KEY = "sk-nobody-may-read-this"


def opened(prefix="openai:"):
    kinds = {spec.prefix: spec for spec in gpt_tasks_openai.register_responders()}
    return kinds[prefix].open("tiny", {})


def run(arguments):
    """Run a command and return its exit code."""
    main = entry_points(group="console_scripts", name="gpt-tasks")["gpt-tasks"].load()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gpt-tasks", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code


def ask(*requests, prefix="openai:"):
    return list(opened(prefix).respond(requests))


QUESTION = Continuation("The soup was", " cold.")
WRITE = Generation("The soup was", ("\n",), 6)


def test_the_starter_suite_has_the_log_likelihoods_of_the_local_model(server):
    local, _ = score("tiny", "starter", limit=2, output=Path("local"), device="cpu")
    served, folder = score("openai:tiny", "starter", limit=2)
    assert str(folder).endswith("openai-tiny-starter")
    rows, others = (pq.read_table(f"{path}/examples.parquet").to_pylist() for path in ("local", folder))
    assert len(rows) == len(others) > 8
    for row, other in zip(rows, others, strict=True):
        assert row["log_likelihoods"] == pytest.approx(other["log_likelihoods"], abs=1e-4)
        assert row["parts"] == [{**part, "values": pytest.approx(part["values"], abs=1e-4)} for part in other["parts"]]
    for task, other in zip(local.tasks, served.tasks, strict=True):
        assert task.metrics.keys() == other.metrics.keys()


def test_all_kinds_of_requests_are_answered_in_their_order(server, scorer):
    requests = [
        QUESTION,
        Continuation("The soup was ", "cold."),
        Continuation("", "Sehr schön, 太好了."),
        Rolling("The train was late, the coffee weak."),
        WRITE,
        *(Continuation("One and", f" {word}") for word in ("two", "three", "the same", "more")),
        Generation("One and", (" a", " b", " c", " d", " e", "o"), 8),
    ]
    for answer, other in zip(ask(*requests), scorer.answer(requests).answers, strict=True):
        if isinstance(answer, str):
            assert answer == other
        else:
            assert answer.value == pytest.approx(other.value, abs=1e-4)
            assert (answer.is_greedy, answer.tokens) == (other.is_greedy, other.tokens)


def test_greedy_is_what_would_be_written(server):
    (text,) = ask(WRITE)
    likely, other = ask(Continuation(WRITE.context, text), QUESTION)
    assert likely.is_greedy
    assert not other.is_greedy


def test_chat_completions_write(server, scorer):
    (answer,) = ask(WRITE, prefix="openai-chat:")
    assert answer == scorer.answer([Generation(f"user: {WRITE.context}", WRITE.stop, WRITE.max_tokens)]).answers[0]
    turns = ({"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"})
    for prefix in ("openai:", "openai-chat:"):
        ask(Generation("", (), 4, turns), prefix=prefix)
        assert json.loads(server.served[-1])["messages"] == list(turns)


def test_chat_completions_refuse_log_likelihoods_before_any_request(server, capsys):
    with pytest.raises(UsageError, match=r"openai-chat:tiny at .* chat completions return no log-likelihood"):
        ask(WRITE, QUESTION, prefix="openai-chat:")
    assert run(["score", "openai-chat:tiny", "--suite", "starter", "--limit", "1"]) == 2
    assert "Task 'grammar': openai-chat:tiny at http://127.0.0.1:" in capsys.readouterr().err
    assert server.times == []


def test_commands_take_it(server, capsys, tmp_path, monkeypatch):
    (tmp_path / "reviews.csv").write_text("text,label\nLovely soup.,positive\nI regret it.,negative\n")
    assert run(["evaluate", "openai:tiny", "--task", "sentiment", "--data", "reviews.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 2
    assert run(["predict", "openai:tiny", "--task", "sentiment", "Lovely soup.", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["predictions"]
    assert sum(told["probabilities"].values()) == pytest.approx(1)
    monkeypatch.setattr("gpt_tasks.cli.chat._lines", lambda: ["Hello", "And you?", "/save talk.jsonl"])
    assert run(["chat", "openai:tiny", "--system", "Be kind.", "--max-new-tokens", "5"]) == 0
    (row,) = map(json.loads, (tmp_path / "talk.jsonl").read_text().splitlines())
    assert [turn["role"] for turn in row["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert run(["chat", "openai:tiny", "--temperature", "1"]) == 2


def test_a_scoring_that_was_stopped_asks_nothing_twice_and_keeps_no_secret(server, monkeypatch, tmp_path):
    monkeypatch.setenv("GPT_TASKS_OPENAI_PARALLEL", "1")
    server.fault = lambda handler, body: len(server.served) >= 15 and not handler.say(400, "{}")
    with pytest.raises(ModelError, match="answers: Error code: 400"):
        score("openai:tiny", "starter", limit=2, output=Path("out"))
    assert len(server.served) == 15
    server.fault = None
    scores, _ = score("openai:tiny", "starter", limit=2, output=Path("out"))
    assert len(server.served) > 30
    assert len(set(server.served)) == len(server.served)
    assert json.loads((tmp_path / "out/scores.json").read_text())["model"]["fingerprint"] == "openai:tiny"
    for file in (tmp_path / "out").iterdir():
        content = file.read_bytes()
        assert KEY.encode() not in content
        assert str(server.server_port).encode() not in content
    count = len(server.served)
    again, _ = score("openai:tiny", "starter", limit=2, output=Path("out"))
    assert len(server.served) == count
    assert again.to_json()["tasks"] == scores.to_json()["tasks"]


def test_several_are_sent_at_a_time(server):
    together, most = [], [0]

    def count(handler, body):
        together.append(body)
        most[0] = max(most[0], len(together))
        time.sleep(0.1)
        together.remove(body)
        return False

    server.fault = count
    ask(*(Continuation("One and", f" {word}") for word in "abcdefghijkl"))
    assert 2 <= most[0] <= 4


def test_it_waits_as_long_as_the_endpoint_says(server, monkeypatch):
    monkeypatch.setattr(gpt_tasks_openai, "RETRIES", 1)
    server.fault = lambda handler, _: len(server.times) == 1 and not handler.say(429, "{}", Retry_After="1")
    ask(WRITE)
    assert server.times[1] - server.times[0] >= 1


def test_it_does_not_wait_without_end(server, monkeypatch):
    monkeypatch.setattr(gpt_tasks_openai, "RETRIES", 1)
    server.fault = lambda handler, _: not handler.say(429, "{}", Retry_After="600")
    with pytest.raises(
        MachineError, match=r"openai:tiny at http://127.* answers: Error code: 429(.|\n)*Try again in 600 seconds"
    ):
        ask(WRITE)
    assert len(server.times) == 1


def cut(handler, _):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"id": "1", "choi')
    return True


def changed(change):
    return lambda handler, body: not handler.answer(body, change)


def without(*names):
    def change(choice):
        logprobs = {name: value for name, value in choice["logprobs"].items() if name not in names}
        return {**choice, "logprobs": logprobs if len(names) < 4 else None}

    return change


def shortened(choice):
    return {**choice, "logprobs": {name: values[:-3] for name, values in choice["logprobs"].items()}}


def with_holes(choice):
    values = choice["logprobs"]["token_logprobs"]
    return {**choice, "logprobs": {**choice["logprobs"], "token_logprobs": [*values[:-2], None, values[-1]]}}


def shifted(choice):
    offsets = [offset + len("<s>") for offset in choice["logprobs"]["text_offset"]]
    return {**choice, "logprobs": {**choice["logprobs"], "text_offset": offsets}}


ALL = ("tokens", "text_offset", "token_logprobs", "top_logprobs")


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        (lambda handler, _: not handler.say(500, "{}"), MachineError, "answers: Error code: 500"),
        (lambda handler, _: not handler.say(404, '{"error": {"message": "no tiny"}}'), ModelError, "404.*no tiny"),
        (
            lambda handler, _: not handler.say(401, json.dumps({"error": {"message": f"{KEY} is wrong"}})),
            ModelError,
            r"401.*\.\.\. is wrong",
        ),
        (lambda handler, _: time.sleep(1), MachineError, r"did not answer within 0\.3 seconds"),
        (cut, MachineError, "gave no answer: .*complete"),
        (lambda handler, _: not handler.say(200, '{"choices": [{"te'), ModelError, "half an answer"),
        (lambda handler, _: not handler.say(200, "<html>", "text/html"), ModelError, "half an answer: no choices"),
        (lambda handler, _: not handler.say(200, "null"), ModelError, "half an answer"),
        (changed(lambda choice: None), ModelError, "half an answer: no choices"),
        (changed(without(*ALL)), ModelError, "gives no log-probabilities"),
        (changed(without("top_logprobs")), ModelError, "gives no log-probabilities"),
        (changed(lambda choice: {**choice, "text": "?"}), ModelError, "does not echo the prompt"),
        (changed(shortened), ModelError, "half an answer: log-probabilities of a part"),
        (changed(with_holes), ModelError, "half an answer: no log-probabilities of some tokens"),
        (changed(shifted), ModelError, "text offsets"),
    ],
)
def test_what_goes_wrong_is_reported_with_the_endpoints_name(server, monkeypatch, fault, kind, told):
    monkeypatch.setenv("GPT_TASKS_OPENAI_TIMEOUT", "0.3" if "within" in told else "60")
    server.fault = fault
    with pytest.raises(kind, match=rf"openai:tiny at http://127\.0\.0\.1:\d+/v1.*{told}") as raised:
        ask(QUESTION)
    assert KEY not in str(raised.value)


def test_nothing_that_is_written_is_reported(server):
    server.fault = changed(lambda choice: {**choice, "text": None})
    with pytest.raises(ModelError, match="half an answer: no text"):
        ask(WRITE)


def test_a_first_token_needs_one_before_it(server, monkeypatch, capsys):
    monkeypatch.delenv("GPT_TASKS_OPENAI_BOS")
    for request in (Rolling("The soup was cold."), Continuation("", "The soup")):
        with pytest.raises(ModelError, match="no log-probability of a text's first token"):
            ask(request)
    assert run(["score", "openai:tiny", "--suite", "starter", "--limit", "1"]) == 5
    assert "Task 'grammar': openai:tiny" in capsys.readouterr().err


def test_a_text_without_tokens_is_reported(server):
    with pytest.raises(DataError, match="adds no tokens to"):
        ask(Continuation("The soup", ""))


def test_an_endpoint_that_is_down_is_reported(server, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://user:secret@127.0.0.1:{port}/v1")
    with pytest.raises(MachineError, match=rf"openai:tiny at http://127\.0\.0\.1:{port}/v1 gave no answer: ") as raised:
        ask(QUESTION)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("OPENAI_BASE_URL", "localhost:8000", "OPENAI_BASE_URL is no address"),
        ("GPT_TASKS_OPENAI_PARALLEL", "many", "GPT_TASKS_OPENAI_PARALLEL=many"),
        ("GPT_TASKS_OPENAI_TIMEOUT", "0", "GPT_TASKS_OPENAI_TIMEOUT=0"),
    ],
)
def test_impossible_settings_are_reported(server, monkeypatch, variable, value, told):
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=told):
        opened()


def test_a_key_is_needed_and_flags_of_local_models_are_not(server, monkeypatch):
    with pytest.raises(UsageError, match="--precision is for a model on this machine"):
        score("openai:tiny", "starter", limit=1, precision="bf16")
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UsageError, match="OPENAI_API_KEY is not set"):
        opened()
