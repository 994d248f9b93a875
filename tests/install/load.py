"""Sends requests until a file disappears, and prints as JSON what became of them. FILE.answered comes once each client
has had an answer.

usage: load.py PORT FILE

Two clients open a connection for each request, two keep theirs. A kept connection that the server has closed before a
byte of the answer came is what RFC 9112 section 9.3.1 wants sent again over a new one: `resent`. Everything else but a
whole 200 is `failed`.
"""
import http.client
import json
import os
import sys
import threading
import time

PORT, FILE = int(sys.argv[1]), sys.argv[2]
PATIENCE = 20
MOST = 300
CLOSED = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


class Client(threading.Thread):
    def __init__(self, keeps):
        super().__init__()
        self.keeps = keeps
        self.answered, self.resent, self.longest, self.failed = 0, 0, 0.0, {}

    def run(self):
        connection, used = None, False
        end = time.monotonic() + MOST
        while os.path.exists(FILE) and time.monotonic() < end:
            connection = connection or http.client.HTTPConnection("127.0.0.1", PORT, timeout=PATIENCE)
            start = time.monotonic()
            try:
                connection.request("GET", "/", headers={} if self.keeps else {"Connection": "close"})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    raise ValueError(f"status {answer.status}")
                self.answered += 1
                used = self.keeps and not answer.will_close
            except CLOSED as error:
                if used:
                    self.resent += 1
                else:
                    self.count(error)
                used = False
            except (OSError, ValueError, http.client.HTTPException) as error:
                self.count(error)
                used = False
            self.longest = max(self.longest, time.monotonic() - start)
            if not used:
                connection.close()
                connection = None
            time.sleep(0.002)

    def count(self, error):
        name = f"{type(error).__name__}: {error}"
        self.failed[name] = self.failed.get(name, 0) + 1


clients = [Client(keeps) for keeps in (False, False, True, True)]
for client in clients:
    client.start()
while not all(client.answered for client in clients) and any(client.is_alive() for client in clients):
    time.sleep(0.01)
open(FILE + ".answered", "w").close()
for client in clients:
    client.join()
failed = {}
for client in clients:
    for name, times in client.failed.items():
        failed[name] = failed.get(name, 0) + times
print(json.dumps({
    "new": sum(client.answered for client in clients if not client.keeps),
    "kept": sum(client.answered for client in clients if client.keeps),
    "resent": sum(client.resent for client in clients),
    "failed": failed,
    "longest": round(max(client.longest for client in clients), 3),
}))
