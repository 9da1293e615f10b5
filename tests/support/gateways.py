"""Real nginx and real HAProxy on this machine, in front of one server."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.process import free_port
from tests.support.rendered import ROOT

START_SECS = 10
_PATH = f"{os.environ['PATH']}:/usr/sbin"

# How many an nginx out there stands in front of an application: WebSockets are let through, connections are kept.
WEBSOCKET_LINES = """
map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
upstream aitp_cp { server 127.0.0.1:4000; keepalive 1; }
server {
    listen 8080;
    location / {
        proxy_pass http://aitp_cp;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
}
"""
REUSE_ALWAYS = """
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend public
    bind :8080
    option forwardfor
    default_backend aitp_cp
backend aitp_cp
    http-reuse always
    server cp1 127.0.0.1:4000
"""

_NGINX = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    {site}
}}
"""


# The line of the reference files that an operator with two replicas uncomments.
SECOND = re.compile(r"# (server (?:cp2 )?)192\.0\.2\.2:4000")


def configuration(kind: str) -> str:
    """What `nginx`, `haproxy` and their everyday variants are told, with the ports of the reference files."""
    if kind == "nginx":
        return (ROOT / "deploy" / "nginx" / "aitp-cp.conf").read_text()
    if kind == "haproxy":
        return (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
    return WEBSOCKET_LINES if kind.startswith("nginx") else REUSE_ALWAYS


def installed(kind: str) -> str | None:
    return shutil.which(kind.partition(" ")[0], path=_PATH)


@contextmanager
def gateway(kind: str, port: int, folder: Path, second: int | None = None) -> Iterator[int]:
    """The port on which it forwards to `port`, and to a `second` replica."""
    own = free_port()
    text = configuration(kind).replace("listen 8080", f"listen 127.0.0.1:{own}")
    text = text.replace("bind :8080", f"bind 127.0.0.1:{own}").replace("127.0.0.1:4000", f"127.0.0.1:{port}")
    if second is not None:
        assert SECOND.search(text)
        text = SECOND.sub(rf"\g<1>127.0.0.1:{second}", text)
    program = installed(kind)
    assert program is not None
    file = folder / "gateway.conf"
    if kind.startswith("nginx"):
        file.write_text(_NGINX.format(site=text))
        command = [program, "-p", str(folder), "-c", str(file)]
    else:
        file.write_text(text)
        command = [program, "-db", "-f", str(file)]
    with (folder / "gateway.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        _wait_for(own, process, folder)
        yield own
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + START_SECS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError((folder / "gateway.log").read_text())
