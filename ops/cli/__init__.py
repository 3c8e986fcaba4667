"""The command line: `minutebook`. Data on stdout, everything else on stderr.

Exit codes: 0 done, 1 the answer is no, 2 wrong use, 3 something is unavailable.
"""

from ops.cli.app import main

__all__ = ["main"]
