"""Open a page in a real, headless Chromium, with a proxy that records what it asks for."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt-get install chromium)")
_QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
    "--proxy-bypass-list=<-loopback>",
    "--enable-logging=stderr",
    "--v=0",
]


@dataclass(frozen=True)
class Visit:
    """What came of a visit: the DOM or nothing, the lines of the console, the hosts asked for."""

    shown: str
    console: tuple[str, ...]
    asked: tuple[str, ...]


def visit(page: Path, profile: Path, *options: str) -> Visit:
    """Open a page from the disk in a profile of its own."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        threading.Thread(target=_record, args=(proxy, asked), daemon=True).start()
        command = [
            *(str(CHROMIUM), *_QUIET, f"--user-data-dir={profile}"),
            *(f"--proxy-server=127.0.0.1:{proxy.getsockname()[1]}", *options, page.as_uri()),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    lines = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return Visit(done.stdout, tuple(lines), tuple(asked))


def _record(proxy: socket.socket, asked: list[str]) -> None:
    while True:
        try:
            connection, _ = proxy.accept()
        except OSError:  # The visit is over.
            return
        with connection:
            connection.settimeout(5)
            try:
                line = connection.recv(4096).split(b"\r\n")[0].decode(errors="replace")
            except OSError:
                continue
            if not _BROWSERS_OWN.search(line):
                asked.append(line)


_BROWSERS_OWN = re.compile(r"[ /.](google|googleapis|gvt1|gstatic)\.com[:/]")
"""Whom a browser asks by itself, whatever page is open."""
