"""`python run_module.py MODULE ARGUMENT...`: like `python -m MODULE ARGUMENT...`, for a child of the command line.

Modules are not looked for in the working directory, in any Python. And it ends with its parent, which keeps a pipe to
the standard input open: when that closes, the parent is gone, however it ended, and the module is interrupted as by
Ctrl-C. SIGTERM interrupts it alike, so that it can remove what it left half-made.
"""

from __future__ import annotations

import _thread
import os
import runpy
import signal
import sys
import threading
import time

GRACE_SECONDS = 3


def _end_with_parent() -> None:
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass
    if hasattr(signal, "pthread_kill"):
        # Unlike `interrupt_main`, this wakes a main thread that waits for the network.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()
    time.sleep(GRACE_SECONDS)
    os._exit(130)


def main() -> None:
    """Run the module as `__main__`; its exit code is ours."""
    # A background job of a shell has SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
