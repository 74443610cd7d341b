"""Decorators that make one description of a verb a method of both clients, with both types.

On a ``Client`` the verb returns its answer, on an ``AsyncClient`` something to await (or to iterate
with ``async for``). Type checkers choose by the overloads of ``__get__``.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from everlearn.client.answers import Record
from everlearn.client.calls import Call, Download, Pages, Series
from everlearn.client.runners import AsyncRunner, SyncRunner

P = ParamSpec("P")
T = TypeVar("T")


def _bind(build: Callable[..., Any], client: Any, run: Callable[[Any], Any]) -> Any:
    """The method of a client that runs what ``build`` describes."""

    @functools.wraps(build)
    def method(*args: Any, **kwargs: Any) -> Any:
        return run(build(client, *args, **kwargs))

    return method


class Verb(Generic[P, T]):
    """A verb of one request."""

    def __init__(self, build: Callable[Concatenate[Any, P], Call[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: SyncRunner, owner: type) -> Callable[P, T]: ...

    @overload
    def __get__(self, client: AsyncRunner, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    @overload
    def __get__(self, client: None, owner: type) -> Callable[Concatenate[Any, P], Any]: ...

    def __get__(self, client: Any, owner: type) -> Any:
        return self._build if client is None else _bind(self._build, client, client.run)


class Listing(Generic[P]):
    """A verb that iterates over a list, page by page."""

    def __init__(self, build: Callable[Concatenate[Any, P], Pages]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: SyncRunner, owner: type) -> Callable[P, Iterator[Record]]: ...

    @overload
    def __get__(self, client: AsyncRunner, owner: type) -> Callable[P, AsyncIterator[Record]]: ...

    @overload
    def __get__(self, client: None, owner: type) -> Callable[Concatenate[Any, P], Any]: ...

    def __get__(self, client: Any, owner: type) -> Any:
        return self._build if client is None else _bind(self._build, client, client.run_pages)


class Load(Generic[P]):
    """A verb of several requests whose answers add up."""

    def __init__(self, build: Callable[Concatenate[Any, P], Series]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: SyncRunner, owner: type) -> Callable[P, int]: ...

    @overload
    def __get__(self, client: AsyncRunner, owner: type) -> Callable[P, Coroutine[Any, Any, int]]: ...

    @overload
    def __get__(self, client: None, owner: type) -> Callable[Concatenate[Any, P], Any]: ...

    def __get__(self, client: Any, owner: type) -> Any:
        return self._build if client is None else _bind(self._build, client, client.run_series)


class Saving(Generic[P]):
    """A verb whose answer goes to a file; it returns the file's bytes."""

    def __init__(self, build: Callable[Concatenate[Any, P], Download]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: SyncRunner, owner: type) -> Callable[P, int]: ...

    @overload
    def __get__(self, client: AsyncRunner, owner: type) -> Callable[P, Coroutine[Any, Any, int]]: ...

    @overload
    def __get__(self, client: None, owner: type) -> Callable[Concatenate[Any, P], Any]: ...

    def __get__(self, client: Any, owner: type) -> Any:
        return self._build if client is None else _bind(self._build, client, client.run_download)
