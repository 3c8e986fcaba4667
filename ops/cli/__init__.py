"""The command line: `minutebook`. Data on stdout, everything else on stderr.

Exit codes: 0 done, 1 the answer is no, 2 wrong use, 3 something is unavailable.
"""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    """The entry point. Ctrl-C ends it quietly also while its modules are still being read."""
    try:
        from ops.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
