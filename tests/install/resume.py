"""Opens a TLS session, waits for a line on standard input, and says whether the session is resumed then.

usage: resume.py PORT NAME CERTIFICATES
"""
import socket
import ssl
import sys

PORT, NAME, CERTIFICATES = int(sys.argv[1]), sys.argv[2], sys.argv[3]
context = ssl.create_default_context(cafile=CERTIFICATES)


def visit(session):
    """One request over a connection of its own. The ticket comes after the handshake, so it is read from last."""
    with socket.create_connection(("127.0.0.1", PORT), timeout=20) as connection:
        with context.wrap_socket(connection, server_hostname=NAME, session=session) as tls:
            tls.sendall(f"GET / HTTP/1.1\r\nHost: {NAME}:{PORT}\r\nConnection: close\r\n\r\n".encode())
            while tls.recv(65536):
                pass
            return tls.session, tls.session_reused


session, reused = visit(None)
print("new", flush=True)
sys.stdin.readline()
print("resumed" if visit(session)[1] else "not resumed", flush=True)
