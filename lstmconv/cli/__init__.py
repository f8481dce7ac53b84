"""The command line."""

from lstmconv.cli.program import app, build_only, main

__all__ = ["app", "build_only", "main"]
