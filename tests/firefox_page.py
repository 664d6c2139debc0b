"""A file in a real Firefox, through WebDriver BiDi: what it draws, and what goes wrong in it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

LISTENS = re.compile(rb"WebDriver BiDi listening on (ws://\S+)")
FLAGS = ("--headless", "--no-remote", "--remote-debugging-port=0", "--width=1300", "--height=1000")
SECONDS = 60


class FirefoxPage:
    """An open page. ``errors`` are what its console was told of and its scripts have thrown."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.context = ""
        self.count = 0
        self.errors: list[str] = []

    async def call(self, method: str, **params: Any) -> Any:
        """The result of a command. Raises AssertionError with what the browser says where there is none."""
        self.count += 1
        await self.socket.send_json({"id": self.count, "method": method, "params": params})
        while True:
            answer = json.loads(await self.socket.receive_str(timeout=SECONDS))
            if answer.get("method") == "log.entryAdded" and answer["params"]["level"] in ("error", "warn"):
                self.errors.append(answer["params"]["text"])
            if answer.get("id") == self.count:
                assert answer["type"] == "success", answer
                return answer["result"]

    async def evaluate(self, script: str) -> Any:
        """What an expression or a promise becomes: text, a number or a truth."""
        target = {"context": self.context}
        answer = await self.call("script.evaluate", expression=script, target=target, awaitPromise=True)
        assert answer["type"] == "success", answer
        return answer["result"].get("value")

    async def screenshot(self, path: Path) -> None:
        answer = await self.call("browsingContext.captureScreenshot", context=self.context)
        path.write_bytes(base64.b64decode(answer["data"]))


@contextlib.asynccontextmanager
async def opened(program: Path, url: str, profile: Path) -> AsyncIterator[FirefoxPage]:
    """The page of ``url``, once it is loaded, in a Firefox of its own."""
    process = await asyncio.create_subprocess_exec(
        program, *FLAGS, "--profile", profile, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        address = await asyncio.wait_for(_address(process), SECONDS)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{address}/session", max_msg_size=0) as socket,
        ):
            page = FirefoxPage(socket)
            await page.call("session.new", capabilities={})
            await page.call("session.subscribe", events=["log.entryAdded"])
            tree = await page.call("browsingContext.getTree")
            page.context = tree["contexts"][0]["context"]
            await page.call("browsingContext.navigate", context=page.context, url=url, wait="complete")
            yield page
    finally:
        process.terminate()
        await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    async for line in process.stderr:
        if match := LISTENS.search(line):
            return match[1].decode()
    raise AssertionError("Firefox has ended before it could be driven")
