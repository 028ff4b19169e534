"""Remotes to share through, on loopback: a folder, moto's S3 and Debian's sshd, each started and stopped by its test.

Where a server is missing the test is skipped and says so; with MOLAR_SERVERS=required, as in .ci/run, it fails.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SECONDS = 30  # that a server may take to answer


def missing(what: str) -> None:
    """End the test."""
    if os.environ.get("MOLAR_SERVERS") == "required":
        pytest.fail(f"MOLAR_SERVERS=required, and {what}")
    pytest.skip(what)


@contextmanager
def local(folder: Path) -> Iterator[str]:
    """The remote as DVC's config writes it."""
    yield remote(f"url = {folder / 'remote'}")


@contextmanager
def s3(folder: Path) -> Iterator[str]:
    try:
        from moto.server import ThreadedMotoServer
    except ImportError:
        missing("moto[server] is not installed: pip install -e '.[dev]'")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        bucket = urllib.request.Request(f"http://{host}:{port}/molar", method="PUT")
        urllib.request.urlopen(bucket, timeout=SECONDS).close()
        keys = ("access_key_id = key", "secret_access_key = secret", "region = us-east-1")
        yield remote("url = s3://molar/tables", f"endpointurl = http://{host}:{port}", *keys)
    finally:
        server.stop()


@contextmanager
def ssh(folder: Path) -> Iterator[str]:
    sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if sshd is None or shutil.which("ssh-keygen") is None:
        missing("there is no sshd: apt-get install openssh-server")
    assert sshd is not None
    for key in ("host", "client"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(command, check=True, capture_output=True)
    shutil.copy(folder / "client.pub", folder / "authorized")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # which Debian's service makes at boot
    port = free_port()
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nAuthorizedKeysFile {folder / 'authorized'}\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n"
    )
    command = [sshd, "-D", "-e", "-f", str(folder / "sshd_config")]
    with (folder / "sshd.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + SECONDS
        while not listens(port):
            assert server.poll() is None and time.monotonic() < deadline, (folder / "sshd.log").read_text()
            time.sleep(0.05)
        about = (f"user = {getpass.getuser()}", f"port = {port}", f"keyfile = {folder / 'client'}")
        yield remote(f"url = ssh://127.0.0.1{folder / 'remote'}", *about)
    finally:
        server.terminate()
        server.wait()


def remote(*lines: str) -> str:
    return "\n".join(["[core]", "remote = shared", "['remote \"shared\"']", *lines]) + "\n"


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
