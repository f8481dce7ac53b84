"""The version, alone in its file so that printing it loads nothing."""

__version__ = "0.1.0"
