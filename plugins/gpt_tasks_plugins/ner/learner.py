"""The learner of labels of words: logits of each word's last token, decoded to tags that follow each other."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.special import log_softmax
from torch import Tensor
from torch.nn import functional

from gpt_tasks import IGNORE_INDEX, Example, Examples, Features, Learner, Remarks, encode_with_offsets
from gpt_tasks_plugins.ner.decoding import best_path, longest_matches, words_and_tokens
from gpt_tasks_plugins.ner.entities import Entities, Entity, spans_of, tags_of
from gpt_tasks_plugins.ner.spans import counted, notes_of
from gpt_tasks_plugins.ner.task import TEXT

OVERLAP = 0.25
"""The share of a window's tokens that the next one reads again, so that its first words have something before them."""
_FILE = "gazetteer.json"


class TokenClassificationLearner(Learner[Entities]):
    """A BIO tag for each word. It is learned on the word's last token, where a causal model has read the whole word."""

    per_token = True
    gazetteer: Mapping[str, str] | None = None
    trained = evaluated = (0, 0)

    @property
    def tags(self) -> list[str]:
        """The tags in the order of the head's outputs."""
        return ["O", *(f"{prefix}-{kind}" for kind in self.task.labels for prefix in "BI")]

    @property
    def outputs(self) -> int:
        """One logit for each tag."""
        return len(self.tags)

    def encode(self, examples: Sequence[Example]) -> list[Features]:
        """Encode texts in overlapping windows; each word has its tag on its last token, in the first window with it."""
        index = {tag: place for place, tag in enumerate(self.tags)}
        found = []
        for example in examples:
            ids, offsets = self._tokenized(example)
            words, tokens = words_and_tokens(example.inputs[TEXT], offsets)
            labels = [IGNORE_INDEX] * len(ids)
            for tag, token in zip(tags_of(words, spans_of(example.target)), tokens, strict=True):
                labels[token] = index[tag]
            windows = self._windows(len(ids))
            new = [max(start, before) for (start, _), (_, before) in zip(windows, [(0, 0), *windows], strict=False)]
            learned: list[int] = []
            for (start, end), begin in zip(windows, new, strict=True):
                learned += [IGNORE_INDEX] * (begin - start) + labels[begin:end]
            sequences = [ids[start:end] for start, end in windows]
            found.append(Features(sequences, token_labels=learned, windows=len(windows)))
        return found

    def encode_training(self, examples: Sequence[Example]) -> list[Features]:
        """Count what was repaired and left out when the rows were read."""
        self.trained = counted(self.trained, examples)
        return self.encode(examples)

    def remarks(self, data: str) -> Remarks:
        """Say how many entities of the training data were repaired, and how many spans were left out."""
        return Remarks({}, notes_of(self.trained, "train"))

    def predict(self, examples: Sequence[Example], *, scored: bool = False) -> Sequence[Entities]:
        """Answer; of an evaluation, count what was repaired and left out."""
        if scored:
            self.evaluated = counted(self.evaluated, examples)
        return super().predict(examples)

    def notes(self) -> tuple[str, ...]:
        """Say the same of the data of an evaluation."""
        return notes_of(self.evaluated, "the evaluated data")

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the summed cross-entropy of tags."""
        flat = logits.reshape(-1, logits.shape[-1])
        return functional.cross_entropy(flat, labels.reshape(-1), ignore_index=IGNORE_INDEX, reduction="sum")

    def decode(self, examples: Iterable[Example], outputs: Sequence[np.ndarray]) -> list[Entities]:
        """Return the entities of the likeliest tags that follow each other: I- only behind its own B- or I-."""
        found = []
        for example, logits in zip(examples, outputs, strict=True):
            text = example.inputs[TEXT]
            _, offsets = self._tokenized(example)
            words, tokens = words_and_tokens(text, offsets)
            rows = logits[self._kept(len(offsets))][tokens]
            log_probabilities = log_softmax(rows.astype(np.float64), axis=-1)
            path = best_path(log_probabilities, self.tags)
            entities: list[Entity] = []
            for word, (start, end), tag in zip(log_probabilities, words, path, strict=True):
                probability, name = float(np.exp(word[tag])), self.tags[tag]
                if name.startswith("I-"):
                    first = entities.pop()
                    probability = min(probability, first.probability)
                    entities.append(Entity(first.start, end, first.type, text[first.start : end], probability))
                elif name != "O":
                    entities.append(Entity(start, end, name[2:], text[start:end], probability))
            sure = np.exp([word[tag] for word, tag in zip(log_probabilities, path, strict=True)])
            found.append(Entities(tuple(entities), probability=float(sure.min(initial=1.0))))
        return found

    def fit_baselines(self, train: Examples, validation: Examples) -> None:
        """Take every entity of the training data with its most frequent type."""
        counts: dict[str, Counter[str]] = {}
        for example in train:
            for span in spans_of(example.target):
                counts.setdefault(example.inputs[TEXT][span.start : span.end], Counter())[span.type] += 1
        self.gazetteer = {name: kinds.most_common(1)[0][0] for name, kinds in counts.items()}

    def save_baselines(self, folder: Path) -> None:
        """Write the names."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FILE).write_text(json.dumps(self.gazetteer, ensure_ascii=False), encoding="utf-8")

    def load_baselines(self, folder: Path) -> None:
        """Read the names."""
        self.gazetteer = json.loads((folder / _FILE).read_text(encoding="utf-8"))

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Entities]]:
        """Return no entities, and the longest matches with the names of the training data."""
        names = self.gazetteer or {}
        matches = [Entities(tuple(longest_matches(each.inputs[TEXT], names))) for each in examples]
        return {"no_entities": [Entities(())] * len(examples), **({"gazetteer": matches} if names else {})}

    def _tokenized(self, example: Example) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the tokens of a text, and the characters [start, end) of each."""
        return encode_with_offsets(self.backbone.tokenizer, [example.inputs[TEXT]])[0]

    def _windows(self, tokens: int) -> list[tuple[int, int]]:
        length, step = self.settings.max_length, max(1, int((1 - OVERLAP) * self.settings.max_length))
        starts = range(0, max(1, tokens - (length - step)), step)
        return [(start, min(start + length, tokens)) for start in starts]

    def _kept(self, tokens: int) -> list[int]:
        """Return, for each token of a text, its place among those of all windows: in the first window with it."""
        places: list[int] = []
        before = offset = 0
        for start, end in self._windows(tokens):
            places += range(offset + max(start, before) - start, offset + end - start)
            before, offset = end, offset + end - start
        return places
