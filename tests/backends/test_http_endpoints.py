"""Servers that stumble, die, come back or send elsewhere: no request is lost, and none is blamed for a server."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from command import free_port, wait_for
from model_server import (
    Reply,
    Strike,
    chat,
    complete,
    error,
    expected,
    question,
)

from vidcap.backends.served import http_exchange
from vidcap.errors import BackendError, ItemError, TransientError


def test_a_busy_server_is_asked_again_when_it_said(serve: Any, backend_of: Any) -> None:
    times: list[float] = []

    def answer(payload: dict[str, Any], number: int) -> Reply:
        times.append(time.monotonic())
        return error(429, "slow down", **{"Retry-After": "1"}) if number == 0 else chat("Fine.")

    assert complete(backend_of(serve(answer), max_backoff_seconds=5)) == ["Fine."]
    assert 1.0 <= times[1] - times[0] < 60


def test_the_wait_that_a_server_asks_for_is_capped(serve: Any, backend_of: Any) -> None:
    server = serve(lambda p, number: error(503, **{"Retry-After": "86400"}) if number < 12 else chat("Fine."))
    assert complete(backend_of(server, retries=0)) == ["Fine."]  # waiting costs no retries


def test_dates_to_wait_for_are_read_by_the_clock_of_the_server() -> None:
    date = {"date": "Wed, 21 Oct 2015 07:28:00 GMT", "retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}
    assert http_exchange._wait(date) == 30.0
    assert http_exchange._wait({"retry-after": "7"}) == 7.0
    for bad in ({}, {"retry-after": "soon"}, {"retry-after": date["retry-after"]}, {"retry-after": "-1"}):
        assert http_exchange._wait(bad) is None


@pytest.mark.parametrize("stumble", [error(500), error(502), error(404), Reply(body=b"x" * 50, broken=True)])
def test_a_server_that_stumbles_loses_nothing(serve: Any, backend_of: Any, stumble: Reply) -> None:
    server = serve(lambda p, number: stumble if number % 3 == 0 else chat(f"Answer to {question(p)}"))
    assert complete(backend_of(server, retries=20), 12) == expected(12)


def test_a_slow_answer_is_asked_again(serve: Any, backend_of: Any) -> None:
    def answer(payload: dict[str, Any], number: int) -> Reply:
        reply = chat("Fine.")
        reply.seconds = 300.0 if number == 0 else 0.0
        return reply

    assert complete(backend_of(serve(answer), timeout_seconds=2)) == ["Fine."]


def test_an_answer_that_drips_is_cut_off(serve: Any, backend_of: Any) -> None:
    def answer(payload: dict[str, Any], number: int) -> Reply:
        reply = chat("Fine." if number else "Never to its end. " * 500)
        reply.drip = 0.0 if number else 0.1  # all of it would take a quarter of an hour
        return reply

    server = serve(answer)
    assert complete(backend_of(server, timeout_seconds=2)) == ["Fine."]
    assert len(server.payloads) > 1


def test_a_request_that_alone_is_always_too_slow_is_given_up(serve: Any, backend_of: Any) -> None:
    def answer(payload: dict[str, Any], number: int) -> Reply:
        reply = chat(f"Answer to {question(payload)}")
        reply.seconds = 300.0 if question(payload) == "question 0" else 0.02
        return reply

    found = complete(backend_of(serve(answer), timeout_seconds=3, retries=1, requests_per_endpoint=2), 40)
    assert isinstance(found[0], ItemError) and "(2 times)" in found[0].detail
    assert found[1:] == expected(40)[1:]


def test_nobody_listens_at_first(serve: Any, backend_of: Any) -> None:
    port = free_port()
    backend = backend_of(f"http://127.0.0.1:{port}", retries=0)
    threading.Timer(0.4, lambda: serve(port=port)).start()
    assert complete(backend, 4) == expected(4)


def test_a_server_killed_and_restarted_in_a_batch_loses_nothing(serve: Any, backend_of: Any) -> None:
    strike = Strike(at=20)
    server = serve(strike.around(lambda payload: chat(f"Answer to {question(payload)}")))
    backend = backend_of(server, requests_per_endpoint=4)
    with strike.on(server):
        assert complete(backend, 60) == expected(60)
    assert strike.killed.is_set()
    assert len(server.payloads) > 60  # what was in flight was asked again


def test_the_other_server_takes_over(serve: Any, backend_of: Any) -> None:
    def shared(payload: dict[str, Any], number: int) -> Reply:
        wait_for(lambda: min(len(one.payloads), len(other.payloads)) >= 10)  # or nobody is answered
        return chat(f"Answer to {question(payload)}")

    one, other = serve(shared), serve(shared)
    backend = backend_of(one, other)
    assert complete(backend, 40) == expected(40)
    one.kill()
    assert complete(backend, 40) == expected(40)
    one.restart()
    before = len(one.payloads)

    def taken_back() -> bool:
        assert complete(backend, 10) == expected(10)
        return len(one.payloads) > before

    wait_for(taken_back)


def test_a_server_that_is_not_well_gets_no_requests(serve: Any, backend_of: Any) -> None:
    def patient(payload: dict[str, Any], number: int) -> Reply:
        wait_for(lambda: "/health" in ill.gets)  # or all is done before anybody asks how the other one is
        return chat(f"Answer to {question(payload)}")

    ill, well = serve(lambda p, number: error(503)), serve(patient)
    ill.health = 503
    assert complete(backend_of(ill, well), 30) == expected(30)
    assert len(ill.payloads) <= 16 and "/health" in ill.gets


def test_health_without_an_address_for_it(serve: Any, backend_of: Any) -> None:
    server = serve(lambda p, number: error(503) if number == 0 else chat("Fine."))
    server.health = 404
    assert complete(backend_of(server)) == ["Fine."]
    assert server.gets == ["/v1/models", "/health", "/v1/models"]


def test_no_server_for_too_long_is_no_items_fault(backend_of: Any) -> None:
    backend = backend_of(f"http://127.0.0.1:{free_port()}", outage_seconds=0.3)
    started = time.monotonic()
    with pytest.raises(TransientError, match="no answer from"):
        complete(backend, 5)
    assert 0.3 <= time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("stumble", "outage", "said"),
    [
        (error(429, "slow down"), 0.7, "no answer from .* for 0.7 s: HTTP 429: slow down"),
        (Reply(body=b"x" * 50, broken=True), 60, "the connection broke.*2 times"),
        (Reply(seconds=300), 60, "no answer within 3 s .2 times"),
    ],
)
def test_servers_that_only_stumble_are_no_items_fault(
    serve: Any, backend_of: Any, stumble: Reply, outage: float, said: str
) -> None:
    server = serve()
    backend = backend_of(server, outage_seconds=outage, timeout_seconds=3, retries=1)
    assert complete(backend, 3) == expected(3)
    server.answer = lambda p, number: stumble
    with pytest.raises(TransientError, match=said):
        complete(backend, 3)


def test_failing_while_not_well_is_no_items_fault(serve: Any, backend_of: Any) -> None:
    server = serve()
    backend = backend_of(server, outage_seconds=0.5, retries=1)
    assert complete(backend, 2) == expected(2)
    server.answer = lambda p, number: error(500, "engine dead")
    # It is well when asked before the requests, and not when one has failed too often.
    health = iter([200])
    server.health_of = lambda: next(health, 500)
    with pytest.raises(TransientError, match="HTTP 500"):
        complete(backend, 1)


def test_requests_in_flight_are_bounded(serve: Any, backend_of: Any) -> None:
    def slow(payload: dict[str, Any], number: int) -> Reply:
        wait_for(lambda: min(one.most, other.most) >= 3)  # or nobody is answered
        reply = chat("Fine.")
        reply.seconds = 0.02
        return reply

    one, other = serve(slow), serve(slow)
    backend = backend_of(one, other, requests_per_endpoint=3, timeout_seconds=200)
    complete(backend, 40)
    assert one.most == other.most == 3
    other.kill()
    complete(backend, 40)
    assert one.most <= 3  # also where it answers for both


def test_redirects_are_not_followed(serve: Any, backend_of: Any) -> None:
    aim = serve()
    for status in (302, 307, 308):
        server = serve(lambda p, number, s=status: Reply(s, headers={"Location": f"{aim.url}/v1/chat/completions"}))
        with pytest.raises(BackendError, match=f"HTTP {status}"):
            complete(backend_of(server, retries=1))
    assert not aim.payloads


def test_a_page_instead_of_json_is_a_mistake_of_the_pipeline(serve: Any, backend_of: Any) -> None:
    with pytest.raises(BackendError, match="no JSON: <html>"):
        complete(backend_of(serve(lambda p, number: Reply(body=b"<html>log in</html>")), retries=1))


def test_proxies_are_not_asked_for_this_machine(serve: Any, backend_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = f"http://127.0.0.1:{free_port()}"
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.setenv("no_proxy", "inside.example")
    assert complete(backend_of(serve())) == ["Answer to question 0"]
    assert http_exchange._proxy("http://[::1]:8000/v1/models") == ""
    assert http_exchange._proxy("http://localhost:8000/") == ""
    assert http_exchange._proxy("https://gpu.inside.example/") == ""
    assert http_exchange._proxy("http://gpu.example:8000/") == proxy
