"""All kinds of calls by gRPC's own client for Python, with raw bytes as messages, to `gapi echo` behind a gateway.

client.py HOST:PORT AUTHORITY   calls methods of /gapi.test.Echo; prints what was seen, one line for each kind.
"""

import sys
import threading

import grpc

SERVICE = "/gapi.test.Echo/"
PATIENCE = 60


def ended(call):
    return f"{call.code().name} {call.details()!r}"


def unary(channel):
    method = channel.unary_unary(SERVICE + "Say")
    answer, call = method.with_call(b"hello", timeout=PATIENCE, metadata=[("x-sent-bin", b"\x00\xff")])
    initial = dict(call.initial_metadata())
    return f"{answer} from {initial['x-hostname']}, {ended(call)}"


def large(channel):
    message = bytes(range(256)) * 12_000
    return channel.unary_unary(SERVICE + "Say")(message, timeout=PATIENCE) == message


def server_stream(channel):
    return list(channel.unary_stream(SERVICE + "ServerStream")(b"again", timeout=PATIENCE))


def client_stream(channel):
    return channel.stream_unary(SERVICE + "ClientStream")(iter([b"a", b"b", b"c"]), timeout=PATIENCE)


def both_stream(channel):
    """Each message is sent only when the one before has come back."""
    came = threading.Semaphore(0)

    def words():
        for word in [b"one", b"two", b"three"]:
            yield word
            came.acquire()

    got = []
    for word in channel.stream_stream(SERVICE + "Talk")(words(), timeout=PATIENCE):
        got.append(word)
        came.release()
    return got


def many(channel):
    method = channel.unary_unary(SERVICE + "Say")
    calls = [method.future(str(number).encode(), timeout=PATIENCE) for number in range(300)]
    return all(call.result() == str(number).encode() for number, call in enumerate(calls))


def refused(channel, path, timeout=PATIENCE):
    try:
        channel.unary_unary(path)(b"x", timeout=timeout)
    except grpc.RpcError as error:
        return ended(error)
    return "answered"


def cancelled(channel):
    call = channel.stream_stream(SERVICE + "Talk")(iter(threading.Event().wait, None), timeout=PATIENCE)
    call.cancel()
    return call.code().name


def main(address, authority):
    options = [
        ("grpc.default_authority", authority),
        ("grpc.max_receive_message_length", -1),
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
    ]
    with grpc.insecure_channel(address, options) as channel:
        print("unary:", unary(channel))
        print("large:", large(channel))
        print("server stream:", server_stream(channel))
        print("client stream:", client_stream(channel))
        print("both stream:", both_stream(channel))
        print("many:", many(channel))
        print("cancelled:", cancelled(channel))
        print("no match:", refused(channel, "/gapi.test.Other/Say"))
        print("no endpoint:", refused(channel, "/gapi.test.Nobody/Say"))
        print("hanging:", refused(channel, "/gapi.test.Hanging/Say", 0.5).split()[0])


main(*sys.argv[1:])
