"""A small client for the HTTP interface of ComfyUI."""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from typing import Any

from devenv import HostError

Json = dict[str, Any]

LEAST_PAUSE, MOST_PAUSE = 0.05, 0.5  # seconds between two looks at the history: of a long run they are longer
QUEUE_SECONDS = 10  # between two looks at the queue
ANSWER_SECONDS = 60.0  # that one answer may take
GIVE_UP_SECONDS = 5.0  # the same of a server that may hang, and of which nothing is wanted any more


class ServerError(HostError):
    """The server did not start, died, or did not answer as expected."""


class PromptFailed(ServerError):
    """A graph was refused or failed; ``node_id`` and ``node_type`` are empty if no node is to blame."""

    def __init__(self, message: str, node_id: str = "", node_type: str = "") -> None:
        super().__init__(message)
        self.node_id = node_id
        self.node_type = node_type


class PromptRefused(PromptFailed):
    """A graph did not pass validation: nothing of it ran."""


class ComfyClient:
    """A ComfyUI that answers at ``url``. No answer of it is waited for longer than ``answer_seconds``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer_seconds = ANSWER_SECONDS
        # A proxy of the environment must not see calls to this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def check_alive(self) -> None:
        """Raise if it is useless to wait on. A subclass that runs the server itself can know that."""

    def object_info(self) -> Json:
        return self._get_json("/object_info")

    def system_stats(self) -> Json:
        return self._get_json("/system_stats")

    def get(self, path: str) -> bytes:
        """Whatever the server has at a path."""
        return self._send(path)

    def queue(self, prompt: Json, client_id: str = "", prompt_id: str = "") -> str:
        """Queue a graph in API format, and return its name; ``client_id`` is the session that gets its messages.

        ``prompt_id`` is a name for it, so that it has one even if the answer is lost; not every core takes it.
        """
        names = {"client_id": client_id, "prompt_id": prompt_id}
        try:
            answer = self._post("/prompt", {"prompt": prompt} | {key: name for key, name in names.items() if name})
        except ServerError as error:
            cause = error.__cause__
            if isinstance(cause, urllib.error.HTTPError) and cause.code == 400:
                raise refusal(self._read("/prompt", _body(cause), "error")) from None
            raise
        return str(self._read("/prompt", answer, "prompt_id")["prompt_id"])

    def wait(self, prompt_id: str, timeout: float = 600) -> Json:
        """The history entry of a finished prompt, which is asked for: a message that it has ended may be lost."""
        started = now = time.monotonic()
        looked = started  # into the queue, of which a server that was started again knows nothing
        while (entry := self._entry(prompt_id, max(1.0, started + timeout - now))) is None:
            now = time.monotonic()
            if now - started > timeout:
                raise ServerError(f"Prompt {prompt_id} did not finish within {timeout:.0f} s.")
            if now - looked > QUEUE_SECONDS:
                looked = now
                if not self._is_queued(prompt_id) and (entry := self._entry(prompt_id)) is None:
                    raise ServerError(f"ComfyUI at {self.url} has lost prompt {prompt_id}: it was started again.")
                continue
            time.sleep(min(MOST_PAUSE, LEAST_PAUSE + (now - started) / 50))
        if entry["status"]["status_str"] != "success":
            raise failure(entry)
        return entry

    def run(self, prompt: Json, timeout: float = 600) -> Json:
        return self.wait(self.queue(prompt), timeout)

    def view(self, image: Json) -> bytes:
        """The file behind an entry of an ``images`` output."""
        query = urllib.parse.urlencode({key: image[key] for key in ("filename", "subfolder", "type")})
        return self._send(f"/view?{query}")

    def upload(self, name: str, picture: bytes, folder: str) -> None:
        """Put a picture into a folder of the server's input folder, in place of one of that name."""
        edge = "i2am-" + uuid.uuid4().hex
        head = 'Content-Disposition: form-data; name="{}"'.format
        fields = {"subfolder": folder, "overwrite": "true", "type": "input"}
        parts = [f"--{edge}\r\n{head(key)}\r\n\r\n{value}\r\n".encode() for key, value in fields.items()]
        about = f'--{edge}\r\n{head("image")}; filename="{name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        body = b"".join([*parts, about.encode(), picture, f"\r\n--{edge}--\r\n".encode()])
        self._send("/upload/image", body, f"multipart/form-data; boundary={edge}")

    def interrupt(self) -> None:
        self._post("/interrupt", {})

    def give_up(self, prompt_id: str) -> None:
        """Take a prompt out of the queue, or interrupt it. Raises ServerError if it is there after GIVE_UP_SECONDS."""
        started = time.monotonic()
        while True:
            self._post("/queue", {"delete": [prompt_id]}, GIVE_UP_SECONDS)
            if not self._is_queued(prompt_id, GIVE_UP_SECONDS):
                return
            if time.monotonic() - started > GIVE_UP_SECONDS:
                raise ServerError(f"ComfyUI at {self.url} still runs prompt {prompt_id}, which was given up.")
            # Of this one alone, and again: a prompt that has only just begun takes no notice of it.
            self._post("/interrupt", {"prompt_id": prompt_id}, GIVE_UP_SECONDS)
            time.sleep(LEAST_PAUSE)

    def forget(self, prompt_id: str = "") -> None:
        """Take a prompt, or all, out of the history, of which the server keeps 10,000 entries."""
        self._post("/history", {"delete": [prompt_id]} if prompt_id else {"clear": True})

    def free(self) -> None:
        """Ask for models and cached results to be dropped; the server does it when it is idle next."""
        self._post("/free", {"unload_models": True, "free_memory": True})

    def _entry(self, prompt_id: str, seconds: float = math.inf) -> Json | None:
        self.check_alive()
        entry: Json | None = self._get_json(f"/history/{prompt_id}", seconds).get(prompt_id)
        return entry

    def _is_queued(self, prompt_id: str, seconds: float = math.inf) -> bool:
        queue = self._read("/queue", self._send("/queue", seconds=seconds), "queue_running", "queue_pending")
        return any(entry[1] == prompt_id for entry in [*queue["queue_running"], *queue["queue_pending"]])

    def _get_json(self, path: str, seconds: float = math.inf) -> Json:
        return self._read(path, self._send(path, seconds=seconds))

    def _read(self, path: str, data: bytes, *keys: str) -> Json:
        """An answer, which has these ``keys``."""
        try:
            answer: Json = json.loads(data)
        except ValueError:
            raise ServerError(f"What answers at {self.url}{path} is no ComfyUI: it gives no JSON.") from None
        if missing := [key for key in keys if not isinstance(answer, dict) or key not in answer]:
            raise ServerError(f"What answers at {self.url}{path} is no ComfyUI: it gives no {missing[0]!r}.")
        return answer

    def _post(self, path: str, body: Json, seconds: float = math.inf) -> bytes:
        return self._send(path, json.dumps(body).encode(), "application/json", seconds)

    def _send(self, path: str, body: bytes | None = None, kind: str | None = None, seconds: float = math.inf) -> bytes:
        try:
            return self.open(path, body, kind, seconds)
        except urllib.error.HTTPError as error:
            raise ServerError(f"ComfyUI answered {error.code} ({error.reason}) to {path}.") from error
        except (OSError, http.client.HTTPException) as error:
            self.check_alive()
            raise ServerError(f"ComfyUI did not answer {path} ({error}).") from error

    def open(self, path: str, body: bytes | None = None, kind: str | None = None, seconds: float = math.inf) -> bytes:
        """What the server answers, as it is.

        Raises urllib.error.HTTPError, and OSError: also after ``seconds``, or ``answer_seconds`` if these are less.
        """
        request = urllib.request.Request(self.url + path, body, {"Content-Type": kind} if kind else {})
        with self._opener.open(request, timeout=min(seconds, self.answer_seconds)) as answer:
            data: bytes = answer.read()
        return data


def _body(error: urllib.error.HTTPError) -> bytes:
    """What a server says beside its error, which can be lost on its way as any answer."""
    try:
        return error.read()
    except (OSError, http.client.HTTPException) as lost:
        raise ServerError(f"ComfyUI's answer was lost ({lost}).") from lost


def refusal(answer: Json) -> PromptRefused:
    """The error for a graph that did not pass validation, from ComfyUI's answer to /prompt."""
    reasons = [sentence(answer["error"])]
    nodes: Json = answer.get("node_errors") or {}
    for node_id, node in nodes.items():
        reasons += [f"node {node_id} ({node['class_type']}): {sentence(error)}" for error in node["errors"]]
    first = next(iter(nodes), "")
    first_type = nodes[first]["class_type"] if first else ""
    return PromptRefused("ComfyUI refused the graph: " + "; ".join(reasons), first, first_type)


def sentence(error: Any) -> str:
    """ComfyUI's message and details of an error, without what is in both."""
    if not isinstance(error, dict):
        return str(error)
    parts = (str(error.get(key) or "").rstrip(".") for key in ("message", "details"))
    return ": ".join(dict.fromkeys(filter(None, parts)))


def failure(entry: Json) -> PromptFailed:
    """The error for a graph that failed or was interrupted, from its history entry."""
    events: Json = dict(entry["status"]["messages"])
    if (data := events.get("execution_error")) is not None:
        reason = f"{data['exception_type']}: {data['exception_message'].strip()}"
    elif (data := events.get("execution_interrupted")) is not None:
        reason = "interrupted"
    else:
        return PromptFailed(f"The graph ended as {entry['status']['status_str']!r} without a message.")
    node_id, node_type = str(data["node_id"]), str(data["node_type"])
    return PromptFailed(f"Node {node_id} ({node_type}): {reason}", node_id, node_type)
