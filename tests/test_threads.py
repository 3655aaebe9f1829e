"""Threads and processes: one run answers from many as from one, and what they share is left as it was."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import nn
from transformers import utils

import gpt_tasks
from gpt_tasks.backbone.isolation import OwnGenerator, evaluating
from gpt_tasks.backbone.quiet import quiet_transformers
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.generation.engine import Generating
from gpt_tasks.generation.generator import Generator
from gpt_tasks.threads import Lock, ignoring_warnings, once, shared, spin_briefly
from gpt_tasks.types import Continuation

T = TypeVar("T")
THREADS = 16
TEXTS = [f"The {thing} was {how}{' and the view was too' * (place % 5)}." for place, (thing, how) in enumerate(
    (thing, how) for thing in ("soup", "film", "train", "hotel", "song", "garden") for how in ("lovely", "cold", "dull")
)]  # fmt: skip


def at_once(function: Callable[[T], Any], values: Sequence[T], threads: int = THREADS) -> list[Any]:
    """Call a function in threads that all begin together."""
    barrier = threading.Barrier(threads)
    first = threading.local()

    def call(value: T) -> Any:
        if not hasattr(first, "begun"):
            first.begun = True
            barrier.wait()
        return function(value)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, values))


@pytest.fixture(scope="module")
def settings(tiny_backbone_folder: Path) -> dict[str, Any]:
    return {"backbone": str(tiny_backbone_folder), "epochs": 2, "learning_rate": 0.02, "device": "cpu"}


@pytest.fixture(scope="module")
def runs(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run that answers with labels, one that finds answers and one that writes."""
    folder = tmp_path_factory.mktemp("threads")
    twice = [(f"{text} {mark}", text) for mark in "ab" for text in TEXTS]
    data: dict[str, list[dict[str, Any]]] = {
        "sentiment": [{"text": text, "label": ("good", "bad")["dull" in text]} for text, _ in twice],
        "qa": [{"question": text, "context": context, "answers": [span_in(context)]} for text, context in twice],
        "translation": [{"source": text, "target": text.upper()[:12]} for text, _ in twice],
    }
    options = {"qa": {"stride": 16}, "translation": {"max_tokens": 8}}
    made = {}
    for task, rows in data.items():
        (folder / f"{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        how = {**settings, "data": str(folder / f"{task}.jsonl"), "max_length": 64, "options": options.get(task, {})}
        made[task] = gpt_tasks.finetune(task, output=folder / task, **how).path
    return made


def span_in(context: str) -> dict[str, Any]:
    return {"text": "was", "answer_start": context.index("was")}


def asked(task: str) -> list[Any]:
    return [{"question": "What was it?", "context": text} for text in TEXTS] if task == "qa" else TEXTS


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("task", ["sentiment", "qa", "translation"])
def test_answers_from_many_threads_are_those_of_one_also_at_the_first_use(
    task: str, precision: str, runs: dict[str, Path]
) -> None:
    right = [gpt_tasks.load(runs[task], precision=precision, device="cpu")] * len(TEXTS)
    one_by_one = [run.predict(text) for run, text in zip(right, asked(task), strict=True)]
    for _ in range(3):
        run = gpt_tasks.load(runs[task], precision=precision, device="cpu")
        assert at_once(run.predict, asked(task)) == one_by_one


def test_zero_shot_answers_from_many_threads_are_those_of_one(tiny_backbone_folder: Path) -> None:
    model = partial(gpt_tasks.zero_shot, str(tiny_backbone_folder), "sentiment", precision="bf16", device="cpu")
    one_by_one = [model().predict(text) for text in TEXTS]
    assert at_once(model().predict, TEXTS) == one_by_one


def test_each_call_draws_its_own_tokens_in_every_engine(runs: dict[str, Path]) -> None:
    run = gpt_tasks.load(runs["translation"], decoding={"temperature": 1.0, "seed": 3}, device="cpu")
    one_by_one = [run.predict(text) for text in TEXTS]
    other = gpt_tasks.load(runs["translation"], decoding={"temperature": 1.0, "seed": 4}, device="cpu")
    assert other.predict(TEXTS[0]) != one_by_one[0]
    assert at_once(run.predict, TEXTS) == one_by_one
    learner: Any = run.predictor
    backbone = learner.backbone
    writer = Generator(backbone.model, backbone.tokenizer, window=64)
    writer._made = Generating(backbone.model, backbone.tokenizer, "float32"), _weights(backbone.model)
    decoding = Decoding.checked(temperature=1.0, seed=3, max_new_tokens=8)
    written = [writer.write([text], decoding) for text in TEXTS]
    assert at_once(lambda text: writer.write([text], decoding), TEXTS) == written


def _weights(model: nn.Module) -> tuple[Any, ...]:
    return tuple((each.data_ptr(), each._version) for each in model.parameters())


def test_neither_loading_nor_answering_draws_from_the_global_generator(runs: dict[str, Path]) -> None:
    for task, decoding in (("sentiment", None), ("qa", None), ("translation", {"temperature": 1.0})):
        before = torch.get_rng_state()
        gpt_tasks.load(runs[task], decoding=decoding, device="cpu").predict(asked(task)[:2])
        assert torch.equal(torch.get_rng_state(), before), task


def test_trainings_and_loads_in_several_threads_are_as_one_after_the_other(
    settings: dict[str, Any], runs: dict[str, Path], tmp_path: Path
) -> None:
    def train(name: str) -> bytes:
        run = gpt_tasks.finetune(
            "sentiment", data=str(runs["sentiment"].parent / "sentiment.jsonl"), output=tmp_path / name, **settings
        )
        return (run.path / "model" / "model.safetensors").read_bytes()

    def load(task: str) -> Any:
        return gpt_tasks.load(runs[task], device="cpu").predict(asked(task)[0])

    alone, answers = train("alone"), [load(task) for task in runs]
    with ThreadPoolExecutor() as pool:
        trained = [pool.submit(train, str(number)) for number in range(3)]
        loaded = [pool.submit(load, task) for _ in range(4) for task in runs]
        assert [each.result() for each in trained] == [alone] * 3
        assert [each.result() for each in loaded] == answers * 4


def test_a_pickled_run_answers_the_same(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(runs["sentiment"].parent)
    run = gpt_tasks.load("sentiment", device="cpu", precision="bf16")
    right = run.predict(TEXTS)
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(pickle.dumps(run))
    assert again.predict(TEXTS) == right
    assert (again._precision, again._device) == ("bf16", "cpu")


def test_a_pickled_zero_shot_model_answers_the_same(tiny_backbone_folder: Path) -> None:
    model = gpt_tasks.zero_shot(str(tiny_backbone_folder), "sentiment", device="cpu")
    right = model.predict(TEXTS[:3])
    assert pickle.loads(pickle.dumps(model)).predict(TEXTS[:3]) == right


def test_a_process_that_is_spawned_answers_as_this_one(runs: dict[str, Path]) -> None:
    run = gpt_tasks.load(runs["sentiment"], device="cpu", precision="float32")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        # A method of the run, as the new process may not find this module.
        assert pool.apply_async(run.predict, (TEXTS,)).get(timeout=240) == run.predict(TEXTS)


@pytest.mark.parametrize("task", ["sentiment", "translation"])
def test_a_forked_process_answers_as_this_one(task: str, runs: dict[str, Path]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run = gpt_tasks.load(runs[task], device="cpu", precision="float32")
        right = run.predict(asked(task))
        # That OpenMP's threads are there, which the child will lack.
        torch.ones(1_000, 1_000).exp()
        assert _in_fork(partial(run.predict, asked(task))) == right
        assert (
            _in_fork(lambda: gpt_tasks.load(runs[task], device="cpu", precision="float32").predict(asked(task)))
            == right
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def _in_fork(function: Callable[[], Any]) -> Any:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(function(), pipe)
        os._exit(0)
    os.close(write)
    watch = threading.Timer(60, os.kill, (child, 9))
    watch.start()
    with os.fdopen(read, "rb") as pipe:
        content = pipe.read()
    watch.cancel()
    os.waitpid(child, 0)
    assert content, "the forked process hung"
    return pickle.loads(content)


@contextmanager
def busy(function: Callable[[], Any]) -> Iterator[None]:
    """Another thread is inside a function, again and again."""
    inside, ended = threading.Event(), threading.Event()

    def work() -> None:
        while not ended.is_set():
            inside.set()
            function()

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_process_forked_while_others_answer_answers_too(runs: dict[str, Path], tiny_backbone_folder: Path) -> None:
    run = gpt_tasks.load(runs["sentiment"], device="cpu", precision="float32")
    responder: Any = gpt_tasks.open_responder(str(tiny_backbone_folder), device="cpu", precision="bf16")
    requests = [Continuation(text, " and more") for text in TEXTS]

    def answered() -> list[Any]:
        return [answer.value for answer in responder.answer(requests).answers]

    right, scored = run.predict(TEXTS), answered()
    with busy(lambda: run.predict(TEXTS)), busy(answered):
        for _ in range(3):
            assert _in_fork(lambda: run.predict(TEXTS)) == right
            assert _in_fork(answered) == scored


def test_what_another_thread_held_is_free_in_a_forked_process_and_what_this_one_holds_is_not() -> None:
    others, own = Lock(), Lock()
    held, released = threading.Event(), threading.Event()
    switched: list[str] = []

    @shared
    @contextmanager
    def switch() -> Iterator[None]:
        switched.append("on")
        yield
        switched.append("off")

    def hold() -> None:
        with others, switch():
            held.set()
            released.wait()

    def in_child() -> list[str]:
        with others, own:
            return switched

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        with own:
            assert _in_fork(in_child) == ["on", "off"]
        with switch():
            assert _in_fork(in_child) == ["on"]
    finally:
        released.set()
        thread.join()
    assert switched == ["on", "off"]


def test_a_model_is_put_back_part_by_part() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout())).eval()
    model[1].train()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [False, False, True, True]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: nn.Linear(3, 4).weight,
        lambda: nn.Embedding(3, 4).weight,
        lambda: nn.LSTM(3, 4).weight_hh_l0,
        lambda: nn.Parameter(torch.randn(3)),
        lambda: nn.init.trunc_normal_(torch.empty(3)),
        lambda: nn.init.xavier_uniform_(torch.empty(3, 4)),
        lambda: torch.rand(3).softmax(0).multinomial(2),
        lambda: torch.randint(9, (3,)),
    ],
)
def test_what_is_drawn_by_an_own_generator_is_so_each_time(draw: Callable[[], torch.Tensor]) -> None:
    before = torch.get_rng_state()
    drawn = []
    for seed in (1, 1, 2):
        with OwnGenerator(torch.Generator().manual_seed(seed)):
            drawn.append(draw())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0].double(), drawn[2].double())
    assert torch.equal(torch.get_rng_state(), before)


def test_switches_that_threads_share_are_put_back_by_the_last() -> None:
    verbosity, filters = utils.logging.get_verbosity(), list(warnings.filters)
    for switch in (quiet_transformers, ignoring_warnings):
        first, second = switch(), switch()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert utils.logging.get_verbosity() == utils.logging.ERROR or warnings.filters[0][0] == "ignore"
        second.__exit__(None, None, None)
    assert utils.logging.get_verbosity() == verbosity
    assert list(warnings.filters) == filters


def test_what_is_computed_once_is_so_in_many_threads() -> None:
    calls: list[int] = []

    @once
    def number() -> int:
        calls.append(0)
        return len(calls)

    assert at_once(lambda _: number(), range(THREADS)) == [1] * THREADS
    number.cache_clear()
    assert number() == 2


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_threads_spin_briefly_where_the_user_has_not_said_how(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    spin_briefly()
    assert os.environ == {"GOMP_SPINCOUNT": "1000"}
    monkeypatch.setattr(os, "environ", {name: "as it was"})
    spin_briefly()
    assert os.environ == {name: "as it was"}


def test_a_command_sets_it_before_torch_is_loaded() -> None:
    look = (
        "import os, sys; from gpt_tasks.cli import main\n"
        "main.run = lambda arguments: print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules) or 0\n"
        "main.main()"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run([sys.executable, "-c", look], env=kept, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1000", "False"]
