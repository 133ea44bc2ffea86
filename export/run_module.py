"""`python run_module.py MODULE ARGUMENT...`: like `python -m MODULE ARGUMENT...`, for a child of the command line.

Modules are not looked for in the working directory, in any Python. And it ends with its parent, which keeps a pipe to
the standard input open: when that closes, because the parent wants so or is gone, however it ended, the module is
interrupted as by Ctrl-C, so that it can remove what it left half-made.
"""

from __future__ import annotations

import _thread
import os
import runpy
import signal
import sys
import threading
import time
from types import FrameType

GRACE_SECONDS = 3
_interrupted = threading.Event()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Once only: a second one would end the cleaning up."""
    if not _interrupted.is_set():
        _interrupted.set()
        raise KeyboardInterrupt


def _end_with_parent() -> None:
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass
    end = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < end:
        # Again and again: a signal that comes just before the main thread begins to wait does not end the waiting.
        if not _interrupted.is_set():
            _wake_main_thread()
        time.sleep(0.05)
    os._exit(130)


def _wake_main_thread() -> None:
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


def main() -> None:
    """Run the module as `__main__`; its exit code is ours."""
    signal.signal(signal.SIGINT, _interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
