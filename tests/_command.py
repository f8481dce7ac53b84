"""The command line in the process of the test: what the installed program does, without the start of an interpreter."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

import pytest

from lstmconv.cli import main


def lstmconv_command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``lstmconv`` with arguments, and with environment variables for its time."""
    command = ["lstmconv", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", command),
        patch.dict(os.environ, environment),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return subprocess.CompletedProcess(command, ended.value.code or 0, out.getvalue(), err.getvalue())
