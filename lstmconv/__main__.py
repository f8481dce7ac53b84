"""Run ``python -m lstmconv``."""

from lstmconv.cli import main

main()
