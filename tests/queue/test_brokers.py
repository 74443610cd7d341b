"""A broker's messages are hints: one that comes twice, late, broken or not at all does no harm."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from everlearn.adapters.celery import PREFIX, make_app, name_of
from everlearn.doctor import check_broker
from everlearn.errors import UnavailableError
from everlearn.types import EventKind, JobState, NewEvent
from everlearn.wiring import Installation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

Until = Callable[..., None]


def test_a_message_that_comes_twice_has_its_job_done_once(brokered: Any, until: Until) -> None:
    brokered.model("m", "slow", seconds=0.5)
    keys = brokered.queue("m", 3)
    with ThreadPoolExecutor(6) as threads:  # each job is told of six times, by many at once
        list(threads.map(lambda key: brokered.broker.tell("train", "job", key), keys * 6))
    workers = [brokered.start("train") for _ in range(2)]
    until(lambda: all(brokered.state(key) is JobState.DONE for key in keys))
    until(lambda: brokered.broker.waiting("train") == 0, what="the end of the messages")
    time.sleep(1.0)
    assert [brokered.job(key).attempts for key in keys] == [1, 1, 1]
    assert all(len(brokered.outcomes(key)) == 1 for key in keys)
    versions = [version.number for version in brokered.installation.versions.list("m").items]
    assert versions == [1002, 1001, 1000, 0]
    assert all(worker.poll() is None for worker in workers)


def test_a_message_delivered_again_by_the_visibility_timeout_is_dropped(
    make_yard: Callable[..., Any], until: Until
) -> None:
    """Redis delivers again what is not acknowledged in time: celery/celery issue 5935."""
    yard = make_yard("redis", "postgres", EVERLEARN_BROKER_VISIBILITY_SECONDS="1")
    yard.model("m", "slow", seconds=8.0)
    (key,) = yard.queue("m")
    workers = [yard.start("train", EVERLEARN_LOG_LEVEL="DEBUG") for _ in range(2)]
    until(lambda: yard.state(key) is JobState.RUNNING)
    began = yard.job(key).token
    until(lambda: yard.state(key) is JobState.DONE)
    assert yard.log().count("is not due here: the message is dropped") >= 1, yard.log()
    time.sleep(1.0)
    assert (yard.job(key).attempts, yard.job(key).token, began) == (1, 1, 1)
    assert len(yard.outcomes(key)) == 1
    assert all(worker.poll() is None for worker in workers)


def test_a_flushed_broker_is_told_of_the_work_again(brokered: Any, until: Until) -> None:
    brokered.model("m", "slow", seconds=0.3)
    keys = brokered.queue("m", 8)
    brokered.start()
    until(lambda: any(brokered.state(key) is JobState.DONE for key in keys))
    brokered.flush()
    brokered.teach("m", 10)
    until(lambda: all(brokered.state(key) is JobState.DONE for key in keys), what="all jobs")
    until(brokered.caught_up, what="the end of the log")
    assert all(len(brokered.outcomes(key)) == 1 for key in keys)


def test_while_the_broker_is_down_recording_goes_on_and_the_work_waits(brokered: Any, until: Until) -> None:
    brokered.model("m")
    worker = brokered.start()
    until(brokered.caught_up, what="the end of the log")
    for turn in range(3):
        brokered.proxy.cut()
        time.sleep(1.0)  # what was delivered before is done by now
        keys = brokered.queue("m", 3, first=1000 + 10 * turn)
        brokered.teach("m", 50)
        time.sleep(2.0)
        assert all(brokered.state(key) is JobState.QUEUED for key in keys)
        assert worker.poll() is None, brokered.log()
        brokered.proxy.restore()
        until(lambda keys=keys: all(brokered.state(key) is JobState.DONE for key in keys), what="all jobs")
        until(brokered.caught_up, what="the end of the log")
        assert all(len(brokered.outcomes(key)) == 1 for key in keys)


def test_a_connection_lost_at_an_acknowledgement_makes_no_worker_deaf(make_yard: Callable[..., Any]) -> None:
    """Else it would count the message as being worked on, and never ask for another nor reconnect."""
    yard = make_yard("redis", "sqlite")
    yard.broker.tell("train", "job", "m-1")
    app = make_app(yard.environment["EVERLEARN_BROKER_URL"], yard.prefix, 3600.0)
    got: list[Any] = []
    with app.connection_for_read() as connection:
        channel = connection.channel()
        channel.basic_qos(0, 1, False)
        with app.amqp.TaskConsumer(
            channel, queues=[app.amqp.queues[name_of(yard.prefix, "train")]], on_message=got.append
        ):
            connection.drain_events(timeout=10)
            assert len(got) == 1
            assert not channel.qos.can_consume()
            yard.proxy.cut()
            with pytest.raises(connection.connection_errors):
                got[0].ack()
            assert channel.qos.can_consume()
            yard.proxy.restore()


def test_messages_that_are_none_of_ours_are_dropped(brokered: Any, until: Until) -> None:
    brokered.model("m")
    app, queue = brokered.broker.app, name_of(brokered.prefix, "train")
    tell = brokered.broker.tell
    with app.connection_for_write() as connection, connection.Producer(routing_key=queue) as producer:
        for poison in (b"not json", b"[]", b"{}", json.dumps([["x"], {}, {}]).encode(), b"\xff\xfe"):
            producer.publish(poison, content_type="application/json", content_encoding="utf-8")
        producer.publish(b"\x80\x04K\x01.", content_type="application/x-python-serialize",
                         content_encoding="binary", headers={"task": f"{PREFIX}job", "id": "1"})  # fmt: skip
    app.send_task("os.system", args=("false",), queue=queue, ignore_result=True)
    app.send_task(f"{PREFIX}job", args=(), queue=queue, ignore_result=True)
    app.send_task(f"{PREFIX}job", args=({"$": 1},), queue=queue, ignore_result=True)
    app.send_task(f"{PREFIX}job", args=("a", "b"), kwargs={"c": 1}, queue=queue, ignore_result=True)
    tell("train", "job", "no such job")
    tell("train", "job", "x" * 10_000)
    tell("train", "advance", "m")  # in the wrong queue
    worker = brokered.start("train")
    (key,) = brokered.queue("m")
    until(lambda: brokered.state(key) is JobState.DONE, what="the job behind them")
    until(lambda: brokered.broker.waiting("train") == 0, what="the end of the messages")
    assert worker.poll() is None
    assert len(brokered.outcomes(key)) == 1


def test_a_model_told_of_many_times_is_advanced_once(brokered: Any, until: Until) -> None:
    brokered.model("m", rows=0)
    for i in range(40):
        brokered.installation.log.append("m", [NewEvent(EventKind.TICK, time.time(), f"tick:{i}")])
    for name in ("m", "no such model") * 20:
        brokered.broker.tell("advance", "advance", name)
    workers = [brokered.start("advance") for _ in range(2)]
    until(brokered.caught_up, what="the end of the log")
    until(lambda: brokered.broker.waiting("advance") == 0, what="the end of the messages")
    numbers = [d.number for d in brokered.installation.ledger.decisions("m", limit=1000).items]
    assert numbers == list(range(len(numbers), 0, -1))
    assert all(worker.poll() is None for worker in workers)


def test_a_broker_that_does_not_answer_is_said_to_be_down(brokered: Any) -> None:
    brokered.proxy.cut()
    broker = type(brokered.broker)(str(Installation.load().broker_url), prefix=brokered.prefix)
    with pytest.raises(UnavailableError, match="broker does not answer"):
        broker.tell("train", "job", "m-1")
    with pytest.raises(UnavailableError, match="broker does not answer"):
        broker.waiting("train")
    finding = check_broker(Installation.load())
    assert (finding.state, "broker does not answer" in finding.text) == ("fail", True)
    brokered.proxy.restore()
    broker.tell("train", "job", "m-1")
    assert broker.waiting("train") == 1
    broker.close()
    finding = check_broker(Installation.load())
    assert (finding.state, "guest" in finding.text, "answers" in finding.text) == ("ok", False, True)
