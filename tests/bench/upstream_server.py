"""The upstream of the benchmark: nginx where it is installed, else a small one of our own.

Both answer every path with the same 200 bytes, and `/credential` with 204 or 403: did a pooled credential
arrive?
"""

import asyncio
import contextlib
import multiprocessing
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

BODY = '{"answer":"' + "x" * 187 + '"}'
CREDENTIAL_PATH = "/credential"
CREDENTIAL_PREFIX = "Bearer bench-"

_NGINX_CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type application/json;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 200 '{body}'; }}
        location = {credential_path} {{
            if ($http_authorization ~ "^{prefix}") {{ return 204; }}
            return 403;
        }}
    }}
}}
"""


@contextlib.contextmanager
def running_upstream(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield what serves and on which loopback port, for as long as the block lasts."""
    port = free_port()
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    with _nginx(nginx, folder, port) if nginx else _own_server(port):
        wait_until_open(port)
        yield ("nginx" if nginx else "asyncio (install nginx-light for a faster one)"), port


def free_port() -> int:
    """Find a loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_until_open(port: int, deadline_seconds: float = 30) -> None:
    """Wait until something listens on the port. Raises TimeoutError."""
    deadline = time.monotonic() + deadline_seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on 127.0.0.1:{port} after {deadline_seconds:g} s")


@contextlib.contextmanager
def _nginx(program: str, folder: Path, port: int) -> Iterator[None]:
    config = folder / "nginx.conf"
    config.write_text(
        _NGINX_CONFIG.format(
            folder=folder, port=port, body=BODY, credential_path=CREDENTIAL_PATH, prefix=CREDENTIAL_PREFIX
        )
    )
    with subprocess.Popen([program, "-p", str(folder), "-c", str(config)]) as process:
        try:
            yield
        finally:
            process.terminate()


@contextlib.contextmanager
def _own_server(port: int) -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(port,), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _serve(port: int) -> None:
    async def serve() -> None:
        server = await asyncio.start_server(_answer_all, "127.0.0.1", port)
        await server.serve_forever()

    asyncio.run(serve())


async def _answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer request after request on one connection; the benchmark sends no bodies."""
    body = BODY.encode()
    head_lines = "HTTP/1.1 200 OK", "content-type: application/json", f"content-length: {len(body)}", "", ""
    ok = "\r\n".join(head_lines).encode() + body
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            writer.write(_credential_answer(head) if f" {CREDENTIAL_PATH} " in head else ok)
            await writer.drain()
    writer.close()


def _credential_answer(head: str) -> bytes:
    arrived = f"\r\nauthorization: {CREDENTIAL_PREFIX}".casefold() in head.casefold()
    status = "204 No Content" if arrived else "403 Forbidden\r\ncontent-length: 0"
    return f"HTTP/1.1 {status}\r\n\r\n".encode()
