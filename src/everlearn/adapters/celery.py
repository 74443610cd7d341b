"""Celery as the broker that tells workers of work, over Redis or RabbitMQ.

Messages hold an id and nothing else, as JSON: no message of another kind is read, so what a stranger puts
into a queue is dropped. They are acknowledged late, one is taken at a time, and no result is kept: the rows
of the database are the truth, and the leases there make a message that comes twice harmless. Celery's own
time limits and remote control are off.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from loguru import logger

from everlearn.errors import MissingExtraError, UnavailableError
from everlearn.types import QUEUES

if TYPE_CHECKING:
    from celery import Celery
    from kombu import Connection

PREFIX = "everlearn."
"""What the names of the tasks begin with."""

PATIENCE = 5.0
"""Seconds after which a broker that does not answer counts as down."""

WAKE_SECONDS = 0.25
LONGEST_ID = 500
Task = Callable[[str], None]


class CeleryBroker:
    """See :class:`everlearn.ports.Broker`; and :meth:`work` consumes what others told.

    ``prefix`` begins the names of the queues, so that installations can share a broker. ``visibility`` is how
    long Redis waits for a message to be acknowledged before it delivers it again, in seconds.

    Raises:
        MissingExtraError: if Celery, or its client for this broker, is not installed.
    """

    def __init__(self, url: str, *, prefix: str = "everlearn", visibility: float = 3600.0) -> None:
        self._prefix, self._url = prefix, url
        self.app = make_app(url, prefix, visibility)
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def tell(self, queue: str, task: str, about: str) -> None:
        """See the port."""
        with self._lock, _Explained(self):
            producer = self._open().Producer()
            self.app.send_task(
                PREFIX + task,
                args=(about,),
                queue=name_of(self._prefix, queue),
                producer=producer,
                retry=False,
                ignore_result=True,
            )

    def waiting(self, queue: str) -> int:
        """See the port."""
        with self._lock, _Explained(self):
            declared = self.app.amqp.queues[name_of(self._prefix, queue)]
            return int(declared(self._open().default_channel).queue_declare().message_count)

    def check(self) -> str:
        """A line that says where it is and that it answers. Raises UnavailableError."""
        with self._lock, _Explained(self):
            self._open()
            return f"{without_password(self._url)} answers"

    def work(self, queues: list[str], tasks: Mapping[str, Task], on_stop: Callable[[], None]) -> None:
        """Call a task for each message, one at a time, until SIGTERM; ``on_stop`` is called at once then.

        To be called from the main thread. While the broker is down, it is tried again and again.
        """
        from celery import signals

        for name, task in tasks.items():
            self.app.task(name=PREFIX + name, ignore_result=True)(_guarded(name, task))
        signals.setup_logging.connect(_leave_logging, weak=False)
        signals.worker_ready.connect(_stay_awake, weak=False)
        signals.worker_shutting_down.connect(lambda **_: on_stop(), weak=False)
        logging.getLogger("celery.worker").setLevel(logging.INFO)
        for noisy in ("celery", "celery.worker.strategy", "kombu", "amqp", "redis"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        worker = self.app.Worker(
            hostname=f"{self._prefix}@{os.uname().nodename}-{os.getpid()}",
            pool="threads",  # a job is done in a process of its own anyway
            concurrency=1,
            queues=[name_of(self._prefix, queue) for queue in queues],
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
            optimization="fair",
            quiet=True,
        )
        worker.start()

    def stop(self) -> None:
        """Have :meth:`work` end, as SIGTERM does."""
        os.kill(os.getpid(), signal.SIGTERM)

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            self.hang_up()

    def hang_up(self) -> None:
        """Forget the connection; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.release()
            except Exception as error:  # it was broken already
                logger.debug("the broker's connection could not be closed: {}", error)

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = self.app.connection_for_write(connect_timeout=PATIENCE)
            self._connection.ensure_connection(max_retries=1, interval_start=0, timeout=PATIENCE)
        return self._connection


class _Explained:
    """The broker's way to say that it is down, in our words; the connection is not used again."""

    def __init__(self, broker: CeleryBroker) -> None:
        self._broker = broker

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        self._broker.hang_up()
        if isinstance(error, Exception):
            why = f"{type(error).__name__}: {error}".strip(": ")
            words = f"The broker does not answer ({why}): see that it runs; workers go on when it does."
            raise UnavailableError(words) from error


def make_app(url: str, prefix: str, visibility: float) -> Celery:
    """The Celery application of an installation; nothing is connected yet."""
    try:
        from celery import Celery
        from kombu import Exchange, Queue
    except ImportError as error:
        raise MissingExtraError("A broker", "celery") from error
    redis, names = url.startswith("redis"), [name_of(prefix, queue) for queue in QUEUES]
    app = Celery("everlearn", broker=url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        result_backend=None,
        task_acks_late=True,
        task_acks_on_failure_or_timeout=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_transport="everlearn.adapters.celery_redis:Transport" if redis else None,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=PATIENCE,
        broker_transport_options=_redis_options(prefix, visibility) if redis else {"confirm_publish": True},
        # The broker's own exchange leads to a queue by its name: no table of bindings can be lost.
        task_queues=[Queue(name, Exchange(""), routing_key=name) for name in names],
        task_default_queue=names[0],
        task_default_exchange="",
        task_create_missing_queues=False,
    )
    return app


def without_password(url: str) -> str:
    """A broker's URL as it may be shown.

    >>> without_password("amqp://ann:secret@rabbit:5672//")
    'amqp://rabbit:5672//'
    """
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def name_of(prefix: str, queue: str) -> str:
    """What a queue is called in the broker."""
    return f"{prefix}.{queue}"


def _redis_options(prefix: str, visibility: float) -> dict[str, Any]:
    return {
        "visibility_timeout": visibility,
        "unacked_restore_interval": max(1, min(10, int(visibility / 3))),
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 30,
        "queue_order_strategy": "priority",
        "socket_timeout": PATIENCE,
        "socket_connect_timeout": PATIENCE,
        "socket_keepalive": True,
        "unacked_key": f"{prefix}.unacked",
        "unacked_index_key": f"{prefix}.unacked_index",
        "unacked_mutex_key": f"{prefix}.unacked_mutex",
    }


def _guarded(name: str, task: Task) -> Callable[..., None]:
    """A task that ends well whatever happens: a message that failed is not worth more than a new one."""

    def run(*arguments: Any, **named: Any) -> None:
        about = arguments[0] if len(arguments) == 1 and not named else None
        if not isinstance(about, str) or not 0 < len(about) <= LONGEST_ID:
            logger.warning("a message of {} that is none of ours is dropped", name)
            return
        try:
            task(about)
        except Exception as error:
            logger.warning("{} {}: {}; it is told of again", name, about, error)

    return run


def _stay_awake(sender: Any, **_: Any) -> None:
    """Have the worker's loop look up now and then: a signal alone does not end its wait for messages."""
    hub = getattr(sender, "hub", None)
    if hub is not None:
        hub.call_repeatedly(WAKE_SECONDS, int)


def _leave_logging(**_: Any) -> None:
    """Logging is set up already."""
