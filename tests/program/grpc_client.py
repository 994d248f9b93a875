"""Calls of a client of gRPC: grpc_client.py ADDRESS ROOTS SCENARIO [ARGUMENT...].

ROOTS is the file of the authority to trust, `-` for no TLS. Ends with a traceback where an answer is not the expected
one.
"""

import os
import queue
import sys
import time

import grpc

AUTHORITY = "rpc.example.com"
# For all that is to succeed: longer than any machine should take.
PATIENCE = 60


def open_channel(address, roots):
    options = [("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]
    if roots == "-":
        return grpc.insecure_channel(address, options + [("grpc.default_authority", AUTHORITY)])
    with open(roots, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    return grpc.secure_channel(address, credentials, options + [("grpc.ssl_target_name_override", AUTHORITY)])


def path(method):
    return method if method.startswith("/") else "/gapi.test.Echo/" + method


def unary(channel, method, request, timeout=PATIENCE, metadata=()):
    """The answer, and the call with its metadata."""
    return channel.unary_unary(path(method)).with_call(request, timeout=timeout, metadata=metadata)


def refused(call):
    """The error of a call that has to fail."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"succeeded: {answer!r}")


def equal(got, wanted):
    assert got == wanted, f"got {got!r:.500}, not {wanted!r:.500}"


def metadata_of(pairs):
    return {key: value for key, value in pairs if key.startswith("my-")}


def one_message(channel):
    for request in [b"", b"hello", os.urandom(3 << 20)]:
        answer, call = unary(channel, "Say", request)
        equal(answer, request)
        equal(call.code(), grpc.StatusCode.OK)
        equal(metadata_of(call.initial_metadata())["my-server"], "one")


def many_calls(channel):
    """At once, on one connection; answers come in any order and are not mixed up."""
    say = channel.unary_unary(path("Say"))
    calls = [(b"%d" % n, say.future(b"%d" % n, timeout=PATIENCE, wait_for_ready=True)) for n in range(500)]
    for request, call in calls:
        equal(call.result(), request)


def client_stream(channel):
    messages = [os.urandom(10_000) for _ in range(300)]
    equal(channel.stream_unary(path("Join"))(iter(messages), timeout=PATIENCE), b"".join(messages))
    equal(channel.stream_unary(path("Join"))(iter([]), timeout=PATIENCE), b"")


def server_stream(channel):
    count, length = 50, 300_000
    got = list(channel.unary_stream(path("Repeat"))(b"%d %d" % (count, length), timeout=PATIENCE))
    equal(got, [bytes([number % 256]) * length for number in range(count)])
    equal(list(channel.unary_stream(path("Repeat"))(b"0 0", timeout=PATIENCE)), [])


class Talk:
    """A call of which each message waits for the answer to the one before."""

    def __init__(self, channel):
        self.requests = queue.Queue()
        self.answers = channel.stream_stream(path("Talk"))(iter(self.requests.get, None), timeout=PATIENCE)

    def ask(self, message):
        self.requests.put(message)
        equal(next(self.answers), b"one " + message)

    def end(self):
        self.requests.put(None)
        equal(list(self.answers), [])
        equal(self.answers.code(), grpc.StatusCode.OK)


def both_stream(channel):
    talk = Talk(channel)
    for number in range(300):
        talk.ask(b"%d" % number)
    talk.ask(os.urandom(1 << 20))
    talk.end()


def metadata(channel):
    sent = [("my-word", "two words"), ("my-empty", ""), ("my-bytes-bin", bytes(range(256))), ("my-none-bin", b"")]
    _, call = unary(channel, "Say", b"", metadata=sent)
    equal(metadata_of(call.initial_metadata()), dict(sent) | {"my-server": "one"})
    equal(metadata_of(call.trailing_metadata()), {"my-last-" + key[3:]: value for key, value in sent})
    # One of the route's rules asks for it.
    _, call = unary(channel, "Say", b"", metadata=[("my-version", "2")])
    equal(metadata_of(call.initial_metadata())["my-server"], "two")


def statuses(channel):
    for code in grpc.StatusCode:
        number = code.value[0]
        if number == 0:
            continue
        error = refused(lambda: unary(channel, "Fail", b"%d" % number))
        equal((error.code(), error.details()), (code, f"100 % wrong: süß\n{number}"))
        equal(metadata_of(error.trailing_metadata())["my-detail-bin"], bytes(range(256)))
    stream = channel.unary_stream(path("FailLate"))(b"", timeout=PATIENCE)
    equal([next(stream), next(stream)], [b"one", b"two"])
    error = refused(lambda: next(stream))
    equal((error.code(), error.details()), (grpc.StatusCode.DATA_LOSS, "after two"))


def own(key):
    """A key that no other client has."""
    return b"%s %d" % (key.encode(), os.getpid())


def wait_until_ended(channel, key):
    start = time.monotonic()
    while unary(channel, "HasEnded", key)[0] != b"yes":
        assert time.monotonic() - start < PATIENCE, f"{key!r} goes on at the server"
        time.sleep(0.02)


def deadlines(channel):
    answer, _ = unary(channel, "Remaining", b"", timeout=50)
    # The server is told what is left of it.
    assert 20 < float(answer) <= 50, answer
    error = refused(lambda: unary(channel, "Sleep", own("deadline"), timeout=0.5))
    equal(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
    wait_until_ended(channel, own("deadline"))


def cancels(channel):
    call = channel.unary_unary(path("Sleep")).future(own("asleep"), timeout=PATIENCE)
    stream = channel.unary_stream(path("Endless"))(own("endless"), timeout=PATIENCE)
    equal([next(stream) for _ in range(1000)], [b"%d" % number for number in range(1000)])
    equal(unary(channel, "HasEnded", own("endless"))[0], b"no")
    stream.cancel()
    call.cancel()
    equal((stream.code(), call.code()), (grpc.StatusCode.CANCELLED, grpc.StatusCode.CANCELLED))
    wait_until_ended(channel, own("endless"))
    wait_until_ended(channel, own("asleep"))
    equal(unary(channel, "Say", b"still")[0], b"still")


def silence(channel):
    """Longer than a gateway takes that asks every 20 seconds whether the server is still there: such a one is cut off."""
    equal(list(channel.unary_stream(path("Rest"))(b"65", timeout=100)), [b"65", b"65"])


def a_server_that_dies(channel, directory):
    sign = os.path.join(directory, "die")
    stream = channel.unary_stream(path("Die"))(sign.encode(), timeout=PATIENCE)
    equal(next(stream), b"one")
    open(sign, "w").close()
    code = refused(lambda: next(stream)).code()
    assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL), code


def held(channel, directory):
    """Talks from when DIRECTORY/held is there until DIRECTORY/over is."""
    talk = Talk(channel)
    talk.ask(b"first")
    open(os.path.join(directory, "held"), "w").close()
    while not os.path.exists(os.path.join(directory, "over")):
        talk.ask(b"on")
        time.sleep(0.005)
    talk.ask(b"last")
    talk.end()


def answers_of_the_gateway(channel):
    """They are gRPC's own: no status of HTTP that the client has to make sense of."""
    for method, code in [
        ("/gapi.test.Unmatched/Say", grpc.StatusCode.UNIMPLEMENTED),
        ("/gapi.test.Echo/Unmatched", grpc.StatusCode.UNIMPLEMENTED),
        ("/gapi.test.Nobody/Say", grpc.StatusCode.UNAVAILABLE),
        ("/gapi.test.Invalid/Say", grpc.StatusCode.UNAVAILABLE),
    ]:
        for stream in [False, True]:
            if stream:
                call = lambda: list(channel.stream_stream(path(method))(iter([b"1", b"2"]), timeout=PATIENCE))
            else:
                call = lambda: unary(channel, method, b"")
            error = refused(call)
            equal((method, error.code()), (method, code))
            assert "http2 header" not in error.details().lower(), (method, error.details())
    equal(unary(channel, "Say", b"after")[0], b"after")


SCENARIOS = [
    one_message,
    many_calls,
    client_stream,
    server_stream,
    both_stream,
    metadata,
    statuses,
    deadlines,
    cancels,
    silence,
    a_server_that_dies,
    held,
    answers_of_the_gateway,
]

address, roots, scenario, *arguments = sys.argv[1:]
with open_channel(address, roots) as channel:
    {function.__name__: function for function in SCENARIOS}[scenario](channel, *arguments)
print("as expected")
