"""A server with OpenAI's API that serves the model `tiny`."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import gpt_tasks_openai
import pytest
import torch

from gpt_tasks import Generation, open_responder

BOS = "<|endoftext|>"
MOST_TURNS = 10_000


class Server(ThreadingHTTPServer):
    """Serves the model `tiny`: `served` are the bodies that were answered, `fault` is what goes wrong instead."""

    daemon_threads = True
    timeout = 0.05

    def __init__(self, scorer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.scorer, self.lock = scorer, threading.Lock()
        self.served, self.times, self.closed = [], [], False
        self.fault = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def loop(self):
        for _ in range(MOST_TURNS):
            if self.closed:
                return
            self.handle_request()

    def completion(self, body):
        if not body.get("echo"):
            return self.written(body["prompt"], body, body["max_tokens"])
        tokenizer = self.scorer.tokenizer
        encoded = tokenizer(body["prompt"], return_offsets_mapping=True)
        ids, offsets = encoded["input_ids"], [start for start, _ in encoded["offset_mapping"]]
        with torch.inference_mode():
            logits = self.scorer._model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        best, places = logits.max(-1)
        ids.append(int(places[-1]))
        texts = [body["prompt"][start:end] for start, end in encoded["offset_mapping"]] + [tokenizer.decode(ids[-1:])]
        values = [None, *(float(logits[place, token]) for place, token in enumerate(ids[1:]))]
        top = [None, *({tokenizer.decode([int(p)]): float(b)} for b, p in zip(best, places, strict=True))]
        for text, value, likeliest in zip(texts[1:], values[1:], top[1:], strict=True):
            likeliest.setdefault(text, value)
        columns = {"tokens": texts, "text_offset": [*offsets, len(body["prompt"])], "token_logprobs": values}
        return {"text": body["prompt"] + texts[-1], "logprobs": {**columns, "top_logprobs": top}}

    def written(self, prompt, body, tokens):
        request = Generation(prompt, tuple(body.get("stop") or ()), tokens)
        return {"text": self.scorer.answer([request]).answers[0]}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.times.append(time.monotonic())
        if server.fault is not None and server.fault(self, body):
            return
        self.answer(body)

    def answer(self, body, change=lambda choice: choice):
        with self.server.lock:
            if self.path == "/v1/chat/completions":
                prompt = "\n".join(f"{each['role']}: {each['content']}" for each in body["messages"])
                text = self.server.written(prompt, body, body["max_completion_tokens"])["text"]
                choice = {"message": {"role": "assistant", "content": text}}
            else:
                choice = self.server.completion(body)
            self.server.served.append(json.dumps(body, sort_keys=True))
        choice = change({"index": 0, "finish_reason": "length", **choice})
        told = {"id": "1", "object": "text_completion", "created": 0, "model": "tiny"}
        self.say(200, json.dumps({**told, "choices": [] if choice is None else [choice]}))

    def say(self, status, text, kind="application/json", **headers):
        content = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def scorer():
    return open_responder("tiny", device="cpu")


@pytest.fixture
def server(scorer, monkeypatch, tmp_path):
    server = Server(scorer)
    thread = threading.Thread(target=server.loop)
    thread.start()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody-may-read-this")
    monkeypatch.setenv("GPT_TASKS_OPENAI_BOS", BOS)
    monkeypatch.setattr(gpt_tasks_openai, "RETRIES", 0)
    yield server
    server.closed = True
    thread.join()
    server.server_close()
