"""A gRPC server whose messages are bytes: grpc_server.py NAME=PORT..., each a server of its own."""

import os
import sys
import threading
import time
from concurrent import futures

import grpc

SERVICE = "gapi.test.Echo"

ended = set()


class Echo:
    def __init__(self, name):
        self.name = name

    def say(self, request, context):
        """The message, with all the metadata that came, once as it is and once at the end."""
        received = context.invocation_metadata()
        echoed = [(key, value) for key, value in received if key.startswith("my-")]
        context.send_initial_metadata([("my-server", self.name), *echoed])
        context.set_trailing_metadata([("my-last-" + key[3:], value) for key, value in echoed])
        return request

    def join(self, requests, context):
        context.send_initial_metadata([("my-server", self.name)])
        return b"".join(requests)

    def repeat(self, request, context):
        """`count length`: so many messages of that length, each of another byte."""
        count, length = map(int, request.split())
        for number in range(count):
            yield bytes([number % 256]) * length

    def talk(self, requests, context):
        for request in requests:
            yield self.name.encode() + b" " + request

    def remaining(self, request, context):
        return str(context.time_remaining()).encode()

    def sleep(self, request, context):
        """Never answers; remembers that the call ended."""
        over = threading.Event()
        context.add_callback(lambda: (ended.add(request), over.set()))
        over.wait()
        return b""

    def rest(self, request, context):
        """Says it at once, and once more after so many seconds."""
        yield request
        time.sleep(int(request))
        yield request

    def endless(self, request, context):
        context.add_callback(lambda: ended.add(request))
        number = 0
        while context.is_active():
            yield b"%d" % number
            number += 1

    def has_ended(self, request, context):
        return b"yes" if request in ended else b"no"

    def fail(self, request, context):
        code = next(code for code in grpc.StatusCode if code.value[0] == int(request))
        context.set_trailing_metadata([("my-detail-bin", bytes(range(256)))])
        context.abort(code, f"100 % wrong: süß\n{code.value[0]}")

    def fail_late(self, request, context):
        yield b"one"
        yield b"two"
        context.abort(grpc.StatusCode.DATA_LOSS, "after two")

    def die(self, request, context):
        yield b"one"
        # Not before the client has it: it says so by a file.
        while not os.path.exists(request):
            time.sleep(0.01)
        os._exit(3)

    def methods(self):
        return {
            "Say": grpc.unary_unary_rpc_method_handler(self.say),
            "Join": grpc.stream_unary_rpc_method_handler(self.join),
            "Repeat": grpc.unary_stream_rpc_method_handler(self.repeat),
            "Talk": grpc.stream_stream_rpc_method_handler(self.talk),
            "Remaining": grpc.unary_unary_rpc_method_handler(self.remaining),
            "Sleep": grpc.unary_unary_rpc_method_handler(self.sleep),
            "Rest": grpc.unary_stream_rpc_method_handler(self.rest),
            "Endless": grpc.unary_stream_rpc_method_handler(self.endless),
            "HasEnded": grpc.unary_unary_rpc_method_handler(self.has_ended),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "FailLate": grpc.unary_stream_rpc_method_handler(self.fail_late),
            "Die": grpc.unary_stream_rpc_method_handler(self.die),
        }


# It ends a connection at the second ping that comes within five minutes of another without data (by default, at the third).
OPTIONS = [("grpc.so_reuseport", 0), ("grpc.http2.max_ping_strikes", 1)]
servers = []
for argument in sys.argv[1:]:
    name, port = argument.split("=")
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=OPTIONS)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, Echo(name).methods())])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    servers.append(server)
print("ready", flush=True)
for server in servers:
    server.wait_for_termination()
