"""Sending calls: one runner waits, the other awaits; what they send and decide is shared."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from everlearn.client.answers import Record
from everlearn.client.calls import Call, Download, Pages, Series
from everlearn.client.retries import Retries, Retry, error_of, may_pass, unreachable

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Runner:
    """What both runners share: the address, the key, the patience."""

    def __init__(
        self,
        url: str | None,
        key: str | None,
        timeout: float,
        retries: Retries | None,
        on_retry: Callable[[Retry], None] | None,
    ) -> None:
        self.url = httpx.URL(url or os.environ.get("EVERLEARN_URL") or DEFAULT_URL)
        self.timeout = timeout
        self.retries = retries or Retries()
        self._on_retry = on_retry
        self._key = key or os.environ.get("EVERLEARN_API_KEY")

    def _options(self) -> dict[str, Any]:
        """Arguments of the httpx client. A proxy of the environment is not for this machine itself."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        options: dict[str, Any] = {"base_url": self.url, "headers": headers, "timeout": self.timeout}
        return {**options, "trust_env": self.url.host not in _LOOPBACK}

    def _request(self, call: Call[Any]) -> Mapping[str, Any]:
        timeout = httpx.Timeout(self.timeout, read=self.timeout + call.patience)
        return {
            "method": call.method,
            "url": call.path,
            "params": dict(call.params) or None,
            "headers": dict(call.headers),
            "content": call.content,
            "timeout": timeout,
        }

    def _pause(
        self, call: Call[Any], attempt: int, result: httpx.Response | httpx.TransportError
    ) -> float | None:
        """Seconds to wait before the next attempt, or ``None`` if this result is final."""
        if attempt >= self.retries.attempts or not call.again or not may_pass(result, call.accept):
            return None
        response = result if isinstance(result, httpx.Response) else None
        delay = self.retries.delay(attempt, response)
        if self._on_retry is not None:
            reason = f"HTTP {response.status_code}" if response is not None else type(result).__name__
            self._on_retry(Retry(call.method, call.path, attempt, reason, delay))
        return delay

    def _finish(self, call: Call[T], result: httpx.Response | httpx.TransportError) -> T:
        """The answer, or the error that the result tells of."""
        if not isinstance(result, httpx.Response):
            raise unreachable(self.url, result) from result
        if result.is_success or result.status_code in call.accept:
            return call.parse(result)
        raise error_of(result)


class SyncRunner(Runner):
    """Sends calls and waits for their answers. Safe to share between threads."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: Retries | None = None,
        on_retry: Callable[[Retry], None] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, key, timeout, retries, on_retry)
        self._http = httpx.Client(transport=transport, **self._options())

    def run(self, call: Call[T]) -> T:
        """Send a call, again where that may help, and read its answer."""
        attempt = 1
        while True:
            result = self._send(call)
            delay = self._pause(call, attempt, result)
            if delay is None:
                return self._finish(call, result)
            time.sleep(delay)
            attempt += 1

    def _send(self, call: Call[Any]) -> httpx.Response | httpx.TransportError:
        try:
            return self._http.request(**self._request(call))
        except httpx.TransportError as error:
            return error

    def run_pages(self, pages: Pages) -> Iterator[Record]:
        """The items of all pages, each page fetched when it is reached."""
        call: Call[Record] | None = pages.first
        while call is not None:
            page = self.run(call)
            yield from page["items"]
            call = pages.following(page)

    def run_series(self, series: Series) -> int:
        """Send the calls one after the other; the sum of their answers."""
        total = 0
        for call, done in series.calls:
            total += self.run(call)
            series.report(done)
        return total

    def run_download(self, download: Download) -> int:
        """Write an answer to a file as it comes, from its start again where that may help; its bytes."""
        attempt = 1
        while True:
            result = self._save(download)
            delay = self._pause(download.call, attempt, result)
            if delay is None:
                return self._finish(download.call, result)
            time.sleep(delay)
            attempt += 1

    def _save(self, download: Download) -> httpx.Response | httpx.TransportError:
        try:
            with self._http.stream(**self._request(download.call)) as response:
                if not response.is_success:
                    response.read()
                    return response
                with download.writing() as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
                return response
        except httpx.TransportError as error:
            return error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncRunner(Runner):
    """Sends calls and awaits their answers."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: Retries | None = None,
        on_retry: Callable[[Retry], None] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, key, timeout, retries, on_retry)
        self._http = httpx.AsyncClient(transport=transport, **self._options())

    async def run(self, call: Call[T]) -> T:
        """Send a call, again where that may help, and read its answer."""
        attempt = 1
        while True:
            result = await self._send(call)
            delay = self._pause(call, attempt, result)
            if delay is None:
                return self._finish(call, result)
            await asyncio.sleep(delay)
            attempt += 1

    async def _send(self, call: Call[Any]) -> httpx.Response | httpx.TransportError:
        try:
            return await self._http.request(**self._request(call))
        except httpx.TransportError as error:
            return error

    async def run_pages(self, pages: Pages) -> AsyncIterator[Record]:
        """The items of all pages, each page fetched when it is reached."""
        call: Call[Record] | None = pages.first
        while call is not None:
            page = await self.run(call)
            for item in page["items"]:
                yield item
            call = pages.following(page)

    async def run_series(self, series: Series) -> int:
        """Send the calls one after the other; the sum of their answers."""
        total = 0
        for call, done in series.calls:
            total += await self.run(call)
            series.report(done)
        return total

    async def run_download(self, download: Download) -> int:
        """Write an answer to a file as it comes, from its start again where that may help; its bytes."""
        attempt = 1
        while True:
            result = await self._save(download)
            delay = self._pause(download.call, attempt, result)
            if delay is None:
                return self._finish(download.call, result)
            await asyncio.sleep(delay)
            attempt += 1

    async def _save(self, download: Download) -> httpx.Response | httpx.TransportError:
        try:
            async with self._http.stream(**self._request(download.call)) as response:
                if not response.is_success:
                    await response.aread()
                    return response
                with download.writing() as file:
                    async for chunk in response.aiter_bytes():
                        file.write(chunk)
                return response
        except httpx.TransportError as error:
            return error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
