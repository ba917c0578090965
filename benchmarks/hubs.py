"""A hub under measurement, as a browser sees it: a click, the progress page's events, the first answer of the server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

STARTED, STARTING = 201, 202
PATIENCE = 180.0
STOPS_AT_ONCE = 4


class HubFailed(Exception):
    """A hub did not do what was measured; the message quotes its answer."""


@dataclass(frozen=True)
class Hub:
    """One hub with the token of an operator, its log and its process."""

    name: str  # "ours" or "stock"
    url: str  # with a slash at its end
    token: str
    log: Path
    pid: int

    def client(self, token: str = "") -> httpx.AsyncClient:
        """One person's connections, or the operator's.

        People bring tokens of their own, which the hub has made itself: one from its configuration costs it thousands of
        rounds of hashing a request, as no person's cookie or token does.
        """
        headers = {"Authorization": f"token {token or self.token}"}
        return httpx.AsyncClient(headers=headers, timeout=PATIENCE, trust_env=False, verify=False)

    def token_of(self, person: str) -> str:
        """A fresh token of a person, good for what they may do themselves."""
        answer = self.call("POST", f"users/{person}/tokens", {"note": "benchmark", "expires_in": 3600})
        answer.raise_for_status()
        return str(answer.json()["token"])

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> httpx.Response:
        """One request to ``hub/api/…``."""
        headers = {"Authorization": f"token {token or self.token}"}
        with httpx.Client(headers=headers, timeout=60, trust_env=False, verify=False) as client:
            return client.request(method, f"{self.url}hub/api/{path}", json=body)

    def await_answer(self) -> None:
        """Wait until the hub answers to its token."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if self.call("GET", "info").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise HubFailed(f"the hub of {self.name} does not answer; its log: {self.log}")

    async def start(self, client: httpx.AsyncClient, person: str, options: Mapping[str, Any]) -> float:
        """Click, and follow the progress page until the server is said to be ready; seconds since 1970 of that moment."""
        path = f"{self.url}hub/api/users/{person}/server"
        answer = await client.post(path, json={"user_options": dict(options)})
        if answer.status_code == STARTED:
            return time.time()
        if answer.status_code != STARTING:
            raise HubFailed(f"{self.name}: {person} was refused ({answer.status_code}): {answer.text[:300]}")
        try:
            return await asyncio.wait_for(self._progress(client, person), PATIENCE)
        except asyncio.TimeoutError:
            # Stock waits for ever for a job that has died before its server answered.
            raise HubFailed(f"{self.name}: {person}'s server is not ready after {PATIENCE:g} s") from None

    async def _progress(self, client: httpx.AsyncClient, person: str) -> float:
        async with client.stream("GET", f"{self.url}hub/api/users/{person}/server/progress") as events:
            async for line in events.aiter_lines():
                if not line.startswith("data:"):
                    continue
                event = json.loads(line.removeprefix("data:"))
                if event.get("ready"):
                    return time.time()
                if event.get("failed"):
                    raise HubFailed(f"{self.name}: {person}'s server failed: {event.get('message')}")
        raise HubFailed(f"{self.name}: {person}'s progress ended without a server")

    async def first_answer(self, client: httpx.AsyncClient, person: str, page: str = "lab") -> float:
        """Ask for a page of the server through the proxy until it comes; seconds since 1970."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            answer = await client.get(f"{self.url}user/{person}/{page}")
            if answer.status_code == httpx.codes.OK:
                return time.time()
            await asyncio.sleep(0.02)
        raise HubFailed(f"{self.name}: no answer of {person}'s server ({answer.status_code})")

    async def click_to_answer(
        self, client: httpx.AsyncClient, person: str, options: Mapping[str, Any], page: str = "lab"
    ) -> tuple[float, float, float]:
        """Moments of the click, of the news that the server is ready, and of its first answer; seconds since 1970."""
        clicked = time.time()
        ready = await self.start(client, person, options)
        return clicked, ready, await self.first_answer(client, person, page)

    async def stop_all(self, clients: Mapping[str, httpx.AsyncClient]) -> None:
        """Stop the servers of all these people, a few at a time, and wait until the hub has none of them."""
        deadline = time.monotonic() + PATIENCE
        left = set(clients)
        few = asyncio.Semaphore(STOPS_AT_ONCE)

        async def stop(person: str) -> None:
            async with few:
                await clients[person].delete(f"{self.url}hub/api/users/{person}/server")

        async with self.client() as operator:
            while time.monotonic() < deadline:
                # Again, as a person would: a busy JupyterHub fails to stop what is starting (500), and forgets it.
                await asyncio.gather(*map(stop, left))
                for _ in range(10):
                    answer = await operator.get(f"{self.url}hub/api/users?state=active&limit=2000")
                    answer.raise_for_status()
                    left = {user["name"] for user in answer.json()} & set(clients)
                    if not left:
                        return
                    await asyncio.sleep(0.5)
        raise HubFailed(f"{self.name}: servers do not stop: {', '.join(sorted(left))}")

    @asynccontextmanager
    async def clients(self, people: Iterable[str]) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
        """Everybody's own connections."""
        async with AsyncExitStack() as stack:
            yield {person: await stack.enter_async_context(self.client(self.token_of(person))) for person in people}
