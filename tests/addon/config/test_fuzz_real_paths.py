"""No path that a pool matches leads out of what it names, by the reading of a real nginx or curl."""

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from authpool.config.path_pattern import PathPattern, comparable_path

SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
MATCHED = 4000 if SOAK else 400
"""So many paths that the pool matches are asked."""
NARROWED = PathPattern.parse("/v1/*").compiled()
PARTS = (
    *("/", "//", ".", "..", "...", ";", ";a=b", "%2e", "%2E", "%252e", "%2f", "%5c", "\\", "+", "%09", "%00", "%0d%0a"),
    *("%", "2", "e", "%3b", "%3f", "%23", "?", "@", ":", "%ef%bc%8e", "%c0%ae", "a", "v1", "admin", "~", "*", "%7e"),
)
CONFIGURATION = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
events {{}}
http {{
    access_log off; keepalive_requests 100000;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{
        listen 127.0.0.1:{port};
        location / {{ add_header Where outside always; return 404; }}
        location /v1 {{ add_header Where outside always; return 404; }}
        location = /v1 {{ add_header Where inside always; return 204; }}
        location /v1/ {{ add_header Where inside always; return 204; }}
    }}
}}
"""


def matched_paths() -> list[str]:
    """Paths of odd parts that the pool matches; others each run."""
    rng, found = random.Random(random.random()), set[str]()  # by the run's seed
    while len(found) < MATCHED:
        path = "/v1/" + "".join(rng.choices(PARTS, k=rng.randrange(1, 9)))
        comparable = comparable_path(path)
        if comparable is not None and NARROWED.fullmatch(comparable):
            found.add(path)
    return sorted(found)


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[int]:
    """A real nginx, and its port; its own reading of a path says which location it takes."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None and os.environ.get("AUTHPOOL_REQUIRE_NGINX") == "1":
        pytest.fail("there is no nginx", pytrace=False)
    if program is None:
        pytest.skip("no nginx; AUTHPOOL_REQUIRE_NGINX=1 makes this an error")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (tmp_path / "nginx.conf").write_text(CONFIGURATION.format(folder=tmp_path, port=port))
    command = [program, "-p", str(tmp_path), "-e", str(tmp_path / "errors"), "-c", str(tmp_path / "nginx.conf")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 5):
            return
        time.sleep(0.02)
    pytest.fail("nginx did not come up", pytrace=False)


def where(port: int, paths: Sequence[str]) -> list[str]:
    """Which location nginx takes for each path, on kept connections; `refused` where it answers 400."""
    found: list[str] = []
    while len(found) < len(paths):
        with socket.create_connection(("127.0.0.1", port), 30) as connection, connection.makefile("rb") as answers:
            for path in paths[len(found) :]:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode("latin-1"))
                head = b"".join(iter(answers.readline, b"\r\n")).lower()
                if b" 400 " in head.partition(b"\n")[0]:
                    found.append("refused")
                    break  # nginx closes the connection
                length = head.partition(b"content-length: ")[2].partition(b"\r")[0]
                answers.read(int(length or 0))
                found.append(head.partition(b"where: ")[2].partition(b"\r")[0].decode())
    return found


def test_nginx_stays_within_the_pool(nginx: int) -> None:
    """On a connection that is kept as long as nginx keeps it; and it tells the one from the other."""
    assert where(nginx, ["/v1/a", "/v1/../admin", "/v1/%2e%2e/admin", "/v1x", "/v1/%00"]) == [
        "inside",
        *["outside"] * 3,
        "refused",
    ]
    paths = matched_paths()
    outside = [path for path, found in zip(paths, where(nginx, paths), strict=True) if found == "outside"]
    assert outside == []


@pytest.mark.parametrize("as_is", (True, False))
def test_curl_stays_within_the_pool(*, as_is: bool) -> None:
    """What curl would ask for, were it a client behind: with dot segments removed by it, or as they are."""
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    paths = matched_paths()
    asked = curl_asks(paths, as_is=as_is)
    assert len(asked) == len(paths)
    outside = [path for path, found in zip(paths, asked, strict=True) if not found.startswith("/v1/")]
    assert outside == []
    assert curl_asks(["/v1/../admin"], as_is=as_is) == ["/v1/../admin" if as_is else "/admin"]


def curl_asks(paths: Sequence[str], *, as_is: bool) -> list[str]:
    """The target of each request that one curl sends on one connection, its URLs from standard input."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        config = "".join(
            f'url = "http://127.0.0.1:{port}{path.replace("\\", "\\\\")}"\noutput = "/dev/null"\n' for path in paths
        )
        command = ["curl", "-q", "-s", "-g", "--noproxy", "*", "--max-time", "60", "-K", "-"]
        command += ["--path-as-is"] if as_is else []
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            process.stdin.write(config.encode())
            process.stdin.close()
            server.settimeout(30)
            targets: list[str] = []
            while len(targets) < len(paths):
                connection, _ = server.accept()
                with connection, connection.makefile("rb") as requests:
                    while head := b"".join(iter(requests.readline, b"\r\n")):
                        targets.append(head.split(b" ")[1].decode("latin-1"))
                        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                        if len(targets) == len(paths):
                            break
            process.wait(30)
    return targets
