"""The command ``lstmconv``, also as ``python -m lstmconv``: it starts in a blink, and runs once."""

import gc
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    gc.set_threshold(100_000)  # Imports make much and drop nothing: collecting in between takes a tenth of the start.
    from lstmconv import cli

    cli.build_only("".join(sys.argv[1:2]))
    try:
        cli.main()
    finally:
        gc.freeze()  # The end looks through everything for what nobody needs: as long as a fifth of a small command.


if __name__ == "__main__":
    main()
