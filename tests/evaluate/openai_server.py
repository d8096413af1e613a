"""A real HTTP server on this machine that serves the tiny model through OpenAI's interface, and fails on purpose."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import torch
from tests.evaluate.endpoint import Server

from preftrace import models
from preftrace.types import Sampling


class Served:
    """What is served and what was asked.

    Attributes:
        faults: what goes wrong with the next POSTs, the first of them first; None: nothing.
        asked: path and body of every POST that was answered whole.
        keys: Authorization headers.
        can: ways to log-likelihoods that it knows: echo, prompt_logprobs.
        nulls: tokens whose log-probability it does not tell.
        fingerprint: system_fingerprint of every answer.
        names: models that it serves.
    """

    def __init__(self, lm):
        self.lm, self.lock = lm, threading.Lock()
        self.faults, self.asked, self.keys = [], [], []
        self.can, self.nulls, self.fingerprint = {"echo", "prompt_logprobs"}, set(), "fp_1"
        self.names, self.need_key, self.fail_after, self.port = {"tiny"}, "", None, 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def answer(self, path, body):
        if body["model"] not in self.names:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        if (body.get("echo") or "prompt_logprobs" in body) and not self.can & {"echo", "prompt_logprobs"}:
            return 400, {"error": {"message": "logprobs of the prompt are not available"}}
        text = self._text(path, body)
        ids = text if isinstance(text, list) else self.lm.tokenizer(text)["input_ids"]
        prompt = self.lm.tokenizer.decode(ids)
        seed = body.get("seed", 0)
        sampling = Sampling(1, body["max_tokens"], body["temperature"])
        drawn = models.sample_ids(self.lm, [ids], sampling, [[seed]])[0][0]
        ended = drawn[-1] in models.end_ids(self.lm)
        said = self.lm.tokenizer.decode(drawn[:-1] if ended else drawn)
        choice = {"index": 0, "finish_reason": "stop" if ended else "length", "logprobs": None}
        if path.endswith("chat/completions"):
            choice["message"] = {"role": "assistant", "content": said}
        else:
            choice["text"] = prompt + said if body.get("echo") else said
        whole = {"choices": [choice], "usage": {"prompt_tokens": len(ids)}, "system_fingerprint": self.fingerprint}
        if body.get("echo") and "echo" in self.can:
            tokens = [self.lm.tokenizer.decode([i]) for i in ids]
            choice["logprobs"] = {"tokens": [*tokens, "!"], "token_logprobs": [*self._logprobs(ids), -0.5]}
        if "prompt_logprobs" in body and "prompt_logprobs" in self.can:
            told = [None] + [{str(i): {"logprob": v}} for i, v in zip(ids[1:], self._logprobs(ids)[1:], strict=True)]
            (whole if path.endswith("chat/completions") else choice)["prompt_logprobs"] = told
        return 200, whole

    def _text(self, path, body):
        if not path.endswith("chat/completions"):
            return body["prompt"]
        turns, template = body["messages"], self.lm.tokenizer.apply_chat_template
        if body.get("continue_final_message"):
            assert body["add_generation_prompt"] is False
            return template(turns[:-1], tokenize=False, add_generation_prompt=True) + turns[-1]["content"]
        return template(turns, tokenize=False, add_generation_prompt=True)

    def _logprobs(self, ids):
        with torch.inference_mode():
            logits = self.lm.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        values = [None] + [float(logits[place, token]) for place, token in enumerate(ids[1:])]
        return [None if i in self.nulls else value for i, value in zip(ids, values, strict=True)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        names = [{"id": name, "owned_by": "tests", "created": time.time()} for name in sorted(self.server.served.names)]
        self._send(200, json.dumps({"data": names}).encode())

    def do_POST(self):
        served = self.server.served
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with served.lock:
            served.keys.append(self.headers.get("Authorization"))
            fault = served.faults.pop(0) if served.faults else None
            if served.fail_after is not None and len(served.asked) >= served.fail_after:
                fault = "500"
            if served.need_key and self.headers.get("Authorization") != f"Bearer {served.need_key}":
                self._send(401, b'{"error": {"message": "Incorrect API key provided: wrong-key"}}')
                return
            if fault is None:
                status, answer = served.answer(self.path, body)
                served.asked.append((self.path, body))
                self._send(status, json.dumps(answer).encode())
                return
        self._fail(fault)

    def _fail(self, fault):
        half = b'{"choices": [{"index": 0, "text": "Ye'
        if fault == "429":
            self._send(429, b"slow down", {"Retry-After": "0"})
        elif fault == "500":
            self._send(500, b"oh no")
        elif fault == "slow":
            self.rfile.read(1)  # until the client has hung up: it sends no more
            self.close_connection = True
        elif fault == "cut":
            self._send(200, half, {"Content-Length": "500"})
            self.close_connection = True
        elif fault == "half":
            self._send(200, half)
        elif fault == "empty":
            self._send(200, b'{"choices": []}')
        elif fault == "unfinished":
            self._send(200, b'{"choices": [{"text": "Yes", "message": {}, "finish_reason": null, "logprobs": null}]}')

    def _send(self, status, data, headers=()):
        self.send_response(status)
        headers = {"Content-Length": str(len(data)), **dict(headers)}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(lm):
    """A server of `lm`, on a free port, until the end of the block."""
    server = Server(_Handler)
    server.served = Served(lm)
    server.served.port = server.server_address[1]
    with server.running():
        yield server.served
