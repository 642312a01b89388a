"""Become a program that dies with the process that started it: `launch.py PARENT_PID COMMAND…`.

A supervisor that is killed cannot stop its children; the kernel can (Linux, PR_SET_PDEATHSIG; the
setting survives exec). The signal is SIGKILL: every process here is made to survive one, and the
next start finds its ports free. Run as a file, so that it costs the start of a bare interpreter.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Ask the kernel for the signal, then become the command."""
    parent, *command = arguments
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 -- only there

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):
            return  # it died before we asked
    os.execv(command[0], command)  # noqa: S606 -- the command comes from our own supervisor


if __name__ == "__main__":
    main(sys.argv[1:])
