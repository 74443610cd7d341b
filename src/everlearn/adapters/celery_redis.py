"""Kombu's transport for Redis, with one fault mended that makes a worker deaf.

A worker that takes one message at a time does not listen while it has one. If the connection is lost just
when that message is acknowledged, Kombu logs the error and goes on, but counts the message as being worked on
for ever: the worker never listens again, so it never notices that its connection is gone, nor opens another
(celery/celery issues 8030, 8091, 9054 and 10302 tell of workers that stop consuming like this). Here a
message that could not be acknowledged is done with all the same. Redis delivers it again later, which is
harmless.
"""

from __future__ import annotations

from typing import Any, ClassVar

from kombu.transport import redis, virtual


class QoS(redis.QoS):  # type: ignore[misc]
    """Counts a message as done with, whether or not Redis could be told."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message."""
        try:
            super().ack(delivery_tag)
        except BaseException:
            virtual.QoS.ack(self, delivery_tag)
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Drop a message, or put it back."""
        try:
            super().reject(delivery_tag, requeue)
        except BaseException:
            virtual.QoS.ack(self, delivery_tag)
            raise


class Channel(redis.Channel):  # type: ignore[misc]
    """A channel that counts so."""

    QoS: ClassVar[Any] = QoS


class Transport(redis.Transport):  # type: ignore[misc]
    """A transport with such channels."""

    Channel: ClassVar[Any] = Channel
