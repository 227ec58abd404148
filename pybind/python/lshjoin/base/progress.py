"""Progress bars: tqdm where it is installed, or a function of the caller's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnProgress = Callable[[int, int], object] | None
Progress = bool | OnProgress

# A bar nobody asked for appears only when there is something to wait for.
_DELAY_SECONDS = 1.0


@contextmanager
def reporter(progress: Progress, description: str) -> Iterator[OnProgress]:
    """The engine's ``on_progress`` for what the user passed as ``progress``.

    ``True`` is a tqdm bar, ``False`` none, a function is called with (done, total). ``None``, the
    default, is a bar if tqdm is installed and standard error a terminal, after one second.
    """
    if progress is False or callable(progress):
        yield progress or None
        return
    if progress is not None and progress is not True:
        raise TypeError(
            f"progress must be True, False, None or a function of (done, total), not {progress!r}"
        )
    if progress is None and not (sys.stderr and sys.stderr.isatty()):
        yield None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        if progress:
            raise ImportError("progress=True needs tqdm: pip install 'lshjoin[progress]'") from None
        yield None
        return
    with tqdm(desc=description, delay=0 if progress else _DELAY_SECONDS, unit_scale=True) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield report
