"""The start of the ``ladseg`` command, which loads next to nothing."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; see :func:`ladseg.cli.entry.main`."""
    try:
        from ladseg.cli.entry import main as run  # here, so that Ctrl-C has its one line while it is loaded too
    except KeyboardInterrupt:
        print("ladseg: stopped", file=sys.stderr)
        return 130
    return run(arguments)
