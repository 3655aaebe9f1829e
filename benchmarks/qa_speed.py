"""How fast are questions turned into windows, and logits into answers, compared with transformers' run_qa?

    python benchmarks/qa_speed.py [--quick] [--data FOLDER] [--only CASE ...]

The questions are those of SQuAD's articles, with the tokenizer of `tiny`, in windows of its context that overlap by 64
tokens. Both sides take turns in one process, on the same rows and the same logits. run_qa is no part of the package, so
that its two functions are written out here, as it works: `datasets.map` over the fast tokenizer in batches of 1,000,
which returns the overflowing tokens and their offsets, and loops that find each answer's tokens; and a nested loop over
the 20 greatest start and end logits of each window.

- `featurize`: rows to token ids and the positions of their answers. The windows must be the same, and so must every
  position, but where an answer begins or ends with a character that is split over several tokens: run_qa takes the last
  of its tokens for its start and the first for its end, ours all of them.
- `n-best`: logits to the 20 best answers of each question with their probabilities, `no answer` with SQuAD 2.0's. All
  lists must be the same, item for item: text, start logit and end logit. Ours are columns, run_qa's dictionaries. The
  loop reads its offsets from lists that are in memory already, which saves it what run_qa spends to read them from its
  data set.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _results import print_table, write_results

SHARED = Path(__file__).parents[2] / "shared"
MAX_LENGTH, STRIDE = 256, 64
N_BEST, LONGEST = 20, 30
GOALS = {"featurize": 1, "n-best": 5, "n-best, no answer": 5}
SEPARATOR = "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of 500 questions")
    parser.add_argument(
        "--data", type=Path, default=SHARED / "data" / "qa" / "squad_v1.1_by_article", help="holds train.jsonl.gz"
    )
    parser.add_argument("--only", nargs="*", choices=GOALS, default=list(GOALS), help="the others stay unchanged")
    args = parser.parse_args()
    rounds, most = (1, 500) if args.quick else (7, None)
    rows = read(args.data, most)
    tokenizer = tiny_tokenizer()
    cases = []
    if "featurize" in args.only:
        cases.append(featurize(rows, tokenizer, rounds))
    for name in args.only:
        if name.startswith("n-best"):
            cases.append(n_best(name, rows, tokenizer, rounds))
    print_table(cases)
    if not args.quick:
        write_results("qa_speed", cases, keep_others=len(args.only) < len(GOALS))


def read(folder: Path, most: int | None) -> list[Mapping[str, Any]]:
    from gpt_tasks.data.formats import open_file

    file = folder / "train.jsonl.gz"
    if not file.is_file():
        raise SystemExit(f"There is no file {file}: say where its folder is with --data")
    # run_qa leaves the spaces behind a question, ours does not.
    return [{**row.values, "question": row.values["question"].strip()} for row in open_file(file).rows()][:most]


def tiny_tokenizer() -> Any:
    from transformers import AutoTokenizer

    import gpt_tasks

    return AutoTokenizer.from_pretrained(Path(gpt_tasks.__file__).parent / "backbone" / "embedded" / "tiny")


def in_turn(
    name: str, ways: Mapping[str, Callable[[], Any]], rounds: int, questions: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Time both sides in turn, once more than `rounds` for the first; return the case and what each side made."""
    seconds: dict[str, list[float]] = {side: [] for side in ways}
    made: dict[str, Any] = {}
    # What was made before is no garbage that either side should have to look through.
    gc.collect()
    gc.freeze()
    for number in range(rounds + 1):
        for side, way in ways.items():
            started = time.perf_counter()
            made[side] = way()
            taken = time.perf_counter() - started
            # The first round warms up what is loaded late.
            if number or not rounds:
                seconds[side].append(1e6 * taken / questions)
                print(f"{name}, round {number}, {side}: {seconds[side][-1]:.1f} us a question", flush=True)
    ours, peer = median(seconds["ours"]), median(seconds["peer"])
    case = {
        "case": name,
        "ours": ours,
        "peer": peer,
        "unit": "us a question",
        "ratio": round(peer / ours, 2),
        "goal": GOALS[name],
        "questions": questions,
        "rounds": [{"ours": mine, "peer": other} for mine, other in zip(seconds["ours"], seconds["peer"], strict=True)],
    }
    return case, made


def featurize(rows: Sequence[Mapping[str, Any]], tokenizer: Any, rounds: int) -> dict[str, Any]:
    import datasets

    datasets.disable_caching()
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_list([dict(row) for row in rows])
    # Ours has a separator and a closing token more.
    room = MAX_LENGTH - 1 - len(tokenizer(SEPARATOR)["input_ids"])
    ways = {
        "ours": lambda: windows_of(rows, tokenizer),
        "peer": lambda: data.map(
            lambda batch: prepared(batch, tokenizer, room), batched=True, remove_columns=data.column_names
        ),
    }
    case, made = in_turn("featurize", ways, rounds, len(rows))
    return {**case, **compared(rows, made["ours"], made["peer"], tokenizer)}


def windows_of(rows: Sequence[Mapping[str, Any]], tokenizer: Any) -> Any:
    """Our way, from rows on: answers read and put in their place, then windows."""
    from gpt_tasks.tasks.span_answers import Placement, read_answers
    from gpt_tasks.tasks.span_windows import encode_windows
    from gpt_tasks.types import Row

    placement, answers = Placement(), []
    for number, row in enumerate(rows):
        where = f"train.jsonl:{number + 1}"
        placed = placement.place(read_answers(Row(row, where), "answers")[0], row["context"], where)
        answers.append(None if placed is None else (placed.start, placed.end))
    return encode_windows(
        [row["question"] for row in rows],
        [row["context"] for row in rows],
        tokenizer,
        max_length=MAX_LENGTH,
        stride=STRIDE,
        answers=answers,
        separator=SEPARATOR,
    )


def prepared(batch: Mapping[str, list[Any]], tokenizer: Any, room: int) -> dict[str, list[Any]]:
    """The features of a batch as run_qa prepares them for training: "no answer" is the position 0."""
    features = tokenizer(
        [question.lstrip() for question in batch["question"]],
        batch["context"],
        truncation="only_second",
        max_length=room,
        stride=STRIDE,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    sources, offsets = features.pop("overflow_to_sample_mapping"), features.pop("offset_mapping")
    features["start_positions"], features["end_positions"] = [], []
    for number, places in enumerate(offsets):
        parts = features.sequence_ids(number)
        answers = batch["answers"][sources[number]]
        start = end = 0
        if answers["answer_start"]:
            begin = answers["answer_start"][0]
            finish = begin + len(answers["text"][0])
            first, last = parts.index(1), len(parts) - 1 - parts[::-1].index(1)
            if places[first][0] <= begin and places[last][1] >= finish:
                # The last token that begins no later than the answer, the first that ends no sooner.
                start = next((at for at in range(first, last + 1) if places[at][0] > begin), last + 1) - 1
                end = next((at for at in range(last, first - 1, -1) if places[at][1] < finish), first - 1) + 1
        features["start_positions"].append(start)
        features["end_positions"].append(end)
    return features


def compared(rows: Sequence[Mapping[str, Any]], windows: Any, features: Any, tokenizer: Any) -> dict[str, int]:
    """Check that both sides made the same, and count the positions of split characters, where they differ."""
    between = len(tokenizer(SEPARATOR)["input_ids"])
    assert len(windows) == len(features), (len(windows), len(features))
    differing = 0
    for index, feature in enumerate(features):
        ids, opening = windows.tokens(index), int(windows.openings[index])
        assert ids[: opening - between] + ids[opening:-1] == feature["input_ids"], index
        theirs = [feature["start_positions"], feature["end_positions"]]
        ours = (windows.answers[index] - between).tolist() if windows.hold_answers[index] else [0, 0]
        if ours != theirs:
            # Only by an edge of the answer that is a split character, of which ours has the first or the last token.
            answer = rows[windows.examples[index]]["answers"]
            begin = answer["answer_start"][0]
            first, last = windows.answers[index] - opening + windows.firsts[index]
            starts, ends = windows.places[first : first + 2, 0], windows.places[last - 1 : last + 1, 1]
            assert ours[0] == theirs[0] or starts.tolist() == [begin, begin], index
            assert ours[1] == theirs[1] or ends.tolist() == [begin + len(answer["text"][0])] * 2, index
            differing += 1
    return {"windows": len(windows), "windows that differ by a split character": differing}


def n_best(name: str, rows: Sequence[Mapping[str, Any]], tokenizer: Any, rounds: int) -> dict[str, Any]:
    from gpt_tasks.learners.span_decoding import best_spans

    unanswerable = name.endswith("no answer")
    windows, contexts = windows_of(rows, tokenizer), [row["context"] for row in rows]
    starts, ends = logits_for(windows)
    features = offsets_of(windows)
    ways = {
        "ours": lambda: best_spans(
            starts, ends, windows, contexts, n=N_BEST, longest=LONGEST, unanswerable=unanswerable
        ),
        "peer": lambda: looped(starts, ends, features, contexts, unanswerable),
    }
    case, made = in_turn(name, ways, rounds, len(rows))
    found = made["ours"]
    for question, theirs in enumerate(made["peer"]):
        mine = found.candidates(question)
        assert [(one.text, one.start_logit, one.end_logit) for one in mine] == [
            (one["text"], one["start_logit"], one["end_logit"]) for one in theirs
        ]
        np.testing.assert_allclose(
            [one.probability for one in mine], [one["probability"] for one in theirs], rtol=1e-4, atol=1e-7
        )
    assert len(found) == len(made["peer"])
    return {**case, "windows": len(windows), "candidates": len(found.texts)}


def logits_for(windows: Any) -> np.ndarray:
    """Logits `[2, windows, length]` as a half-trained model has them: noise, and more at the answer's place."""
    random = np.random.default_rng(0)
    logits = random.normal(scale=2.0, size=(2, len(windows), int(windows.closings.max()) + 1)).astype(np.float32)
    logits[np.arange(2)[:, None], np.arange(len(windows)), windows.answers.T] += 5
    # As the Trainer fills up what lies behind a window.
    logits[:, np.arange(logits.shape[2]) > windows.closings[:, None]] = -100
    return logits


def offsets_of(windows: Any) -> list[list[tuple[int, list[Any]]]]:
    """By question its windows: the index, and the characters of every token, None where it is no part of an answer."""
    features: list[list[tuple[int, list[Any]]]] = [[] for _ in range(int(windows.examples[-1]) + 1)]
    for index, example in enumerate(windows.examples):
        opening, closing, first = (
            int(of_window[index]) for of_window in (windows.openings, windows.closings, windows.firsts)
        )
        places = [tuple(place) for place in windows.places[first : first + closing - opening].tolist()]
        usable = [place if place[0] < place[1] else None for place in places]
        features[example].append((index, [*[None] * opening, *usable, None]))
    return features


def looped(
    all_starts: np.ndarray,
    all_ends: np.ndarray,
    features: Sequence[Sequence[tuple[int, list[Any]]]],
    contexts: Sequence[str],
    unanswerable: bool,
) -> list[list[dict[str, Any]]]:
    """The nested loop of run_qa's post-processing; "no answer" is the last token of a window."""
    everything = []
    for windows, context in zip(features, contexts, strict=True):
        nulls, found = [], []
        for index, offsets in windows:
            starts, ends, closing = all_starts[index], all_ends[index], len(offsets) - 1
            nulls.append((starts[closing] + ends[closing], starts[closing], ends[closing]))
            best_starts = np.argsort(starts)[::-1][:N_BEST].tolist()
            best_ends = np.argsort(ends)[::-1][:N_BEST].tolist()
            for start in best_starts:
                for end in best_ends:
                    if start > closing or end > closing or offsets[start] is None or offsets[end] is None:
                        continue
                    if end < start or end - start + 1 > LONGEST:
                        continue
                    found.append(
                        {
                            "offsets": (offsets[start][0], offsets[end][1]),
                            "score": starts[start] + ends[end],
                            "start_logit": starts[start],
                            "end_logit": ends[end],
                        }
                    )
        score, start_logit, end_logit = min(nulls, key=lambda null: null[0])
        least = {"offsets": (0, 0), "score": score, "start_logit": start_logit, "end_logit": end_logit}
        best = sorted([*found, least] if unanswerable else found, key=lambda one: one["score"], reverse=True)[:N_BEST]
        if unanswerable and not any(candidate is least for candidate in best):
            best.append(least)
        scores = np.array([candidate["score"] for candidate in best])
        shares = np.exp(scores - scores.max())
        everything.append(
            [
                {
                    "text": context[candidate["offsets"][0] : candidate["offsets"][1]],
                    "start_logit": float(candidate["start_logit"]),
                    "end_logit": float(candidate["end_logit"]),
                    "probability": float(share),
                }
                for candidate, share in zip(best, shares / shares.sum(), strict=True)
            ]
        )
    return everything


if __name__ == "__main__":
    main()
