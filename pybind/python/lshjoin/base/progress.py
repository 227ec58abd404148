"""Progress bars: tqdm where it is installed, or a function of the caller's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

OnProgress = Callable[[int, int], object] | None
Progress = bool | OnProgress

# A bar nobody asked for appears only when there is something to wait for.
_DELAY_SECONDS = 1.0

#: What work in stages counts: shares of all of it.
_STEPS = 1000


class _Bar:
    """A bar of the share that is done, which never goes back.

    More to do may turn up on the way. What is done after that takes the share of what is left of
    the bar that it is of what is left to do.
    """

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._done = 0

    def __call__(self, done: int, total: int) -> None:
        if done > self._done:
            left = max(total, done) - self._done
            self._bar.update((1 - self._bar.n) * (done - self._done) / left)
            self._done = done

    def name(self, stage: str) -> None:
        self._bar.set_postfix_str(stage)


@contextmanager
def reporter(progress: Progress, description: str) -> Iterator[OnProgress]:
    """The engine's ``on_progress`` for what the user passed as ``progress``.

    ``True`` is a tqdm bar, ``False`` none, a function is called with (done, total). ``None``, the
    default, is a bar if tqdm is installed and somebody is there to see it, on a terminal or in a
    notebook, after one second.
    """
    if progress is False or callable(progress):
        yield progress or None
        return
    if progress is not None and progress is not True:
        raise TypeError(
            f"progress must be True, False, None or a function of (done, total), not {progress!r}"
        )
    if progress is None and not (sys.stderr and sys.stderr.isatty()) and not _in_notebook():
        yield None
        return
    try:
        from tqdm.auto import tqdm  # which knows notebooks
    except ImportError:
        if progress:
            raise ImportError("progress=True needs tqdm: pip install 'lshjoin[progress]'") from None
        yield None
        return
    with tqdm(
        desc=description,
        total=1.0,
        delay=0 if progress else _DELAY_SECONDS,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
    ) as bar:
        yield _Bar(bar)


@contextmanager
def stages(
    progress: Progress, description: str, work: Mapping[str, float]
) -> Iterator[Callable[[str], OnProgress]]:
    """As :func:`reporter`, for stages of which each is so much of all the work.

    Gives the ``on_progress`` of a stage, by its name, when that begins. What the user is told is
    the share of the work, in thousandths.
    """
    names, whole = list(work), sum(work.values())
    most = 0
    with reporter(progress, description) as told:

        def begin(stage: str) -> OnProgress:
            if told is None:
                return None
            before = sum(work[name] for name in names[: names.index(stage)])
            if isinstance(told, _Bar):
                told.name(stage)

            def report(done: int, total: int) -> None:
                nonlocal most
                share = (before + work[stage] * done / max(total, done, 1)) / whole
                most = max(most, int(_STEPS * share))
                told(most, _STEPS)

            return report

        yield begin


def _in_notebook() -> bool:
    """Whether this is a kernel of Jupyter, as tqdm asks it."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config
