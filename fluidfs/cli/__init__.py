"""The command line: one file per command, that reads what was typed, calls the room that does it, and prints. No logic.

Modules here import at their top only what `fluidfs --help` can afford; a command imports what it runs when it runs.
"""

from fluidfs.cli.app import main

__all__ = ["main"]
