"""The command ``lshjoin``."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
import numpy.ma  # noqa: F401  pyarrow would import it midway, and an import can swallow Ctrl-C

# What is freed goes back to the system, or a memory limit would be about something else. Arrow is
# told before it is loaded, glibc in main().
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

from lshjoin import engine
from lshjoin.arrays.groups import Linkage
from lshjoin.arrays.neighbors import BinaryMetric, Metric
from lshjoin.base.checks import to_bytes, to_k, to_natural, to_radius, to_recall
from lshjoin.base.paths import local_path, result_place
from lshjoin.base.places import Place
from lshjoin.base.plan import JoinPlan
from lshjoin.errors import OtherJobError
from lshjoin.files.joins import FilesJoin, OnPlan, knn_join_files, radius_join_files
from lshjoin.files.planner import plan_knn_join_files
from lshjoin.files.results import FORMATS, Layout, to_layout
from lshjoin.job_file import FROM

Command = TypeVar("Command", bound=Callable[..., Any])

# Larger blocks are given back when they are freed; without that, glibc raises it to 32 MB. And what
# one thread frees, others can have; each has a heap of its own otherwise.
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8

USAGE, INPUT, REFUSED, INTERRUPTED = 2, 3, 4, 130

_EPILOG = f"""\b
Exit codes:
  0    done
  1    failed for another reason, a full disk for instance
  {USAGE}    wrong options
  {INPUT}    input that can't be used: no such file or column, NaN, a damaged index
  {REFUSED}    refused: the file to write exists, or the work directory is another job's
  {INTERRUPTED}  interrupted; the same command goes on where it was

Patterns like 'data/*.parquet' are to be quoted. Progress is shown on terminals where tqdm is
installed."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits with its code."""
    with suppress(AttributeError, OSError):  # another libc
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        libc.mallopt(_M_ARENA_MAX, 1)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    try:
        code = lshjoin.main(arguments, prog_name="lshjoin", standalone_mode=False)
    except click.Abort:  # Ctrl-C
        return _fail("interrupted; the same command goes on where it was", INTERRUPTED)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (OtherJobError, FileExistsError, BlockingIOError) as error:
        return _fail(error, REFUSED)
    except (FileNotFoundError, IsADirectoryError, TypeError, ValueError) as error:
        return _fail(error, INPUT)
    except (ImportError, MemoryError, OSError, RuntimeError) as error:
        return _fail(error, 1)
    return code if isinstance(code, int) else 0


def _fail(error: object, code: int) -> int:
    click.echo(f"Error: {error}", err=True)
    return code


def _version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(
            f"lshjoin {engine.__version__}, running on {engine.isa()} "
            f"(this machine has {', '.join(engine.cpu_features())})"
        )
        context.exit()


@click.group(
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Version and instruction sets.",
)
@click.pass_context
def lshjoin(context: click.Context) -> None:
    """Nearest neighbours and similarity joins of embeddings in files.

    Files are Parquet, Arrow IPC or .npy, one, a folder of them, or a quoted pattern; here or at a
    URL: s3://, gs://, abfss://, hf:// and what else fsspec reads.

    \b
    Example:
      lshjoin knn items.parquet -k 10 --out nearest.parquet
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _checked(check: Callable[[Any], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """What the functions behind the commands would refuse, as a wrong option."""

    def callback(context: click.Context, option: click.Parameter, value: Any) -> Any:
        try:
            return None if value is None else check(value)
        except (TypeError, ValueError) as error:
            raise click.BadParameter(str(error)) from None

    return callback


_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_VECTORS = _options(
    click.option("--column", metavar="NAME", help="Of vectors; needed where there are several."),
    click.option("--id-column", metavar="NAME", help="Of ids; row numbers without it."),
)
_DISTANCES, _OF_BITS = get_args(Metric), get_args(BinaryMetric)


def _metric(*names: str) -> Callable[[Command], Command]:
    choice = click.Choice(names)
    return click.option(
        "--metric",
        type=choice,
        default="euclidean",
        show_default=True,
        help="hamming and jaccard are of packed bits.",
    )


_METRIC = _metric(*_DISTANCES, *_OF_BITS)
_NEAREST_METRIC = _metric(*_DISTANCES, "inner_product", *_OF_BITS)
_K = click.option(
    "-k",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    callback=_checked(to_k),
)
_RECALL = click.option(
    "--recall",
    type=click.FloatRange(0, 1, min_open=True),
    show_default="0.95",
    callback=_checked(to_recall),
    help="Share of the true neighbours to find.",
)
_SEED = click.option(
    "--seed",
    type=int,
    show_default="0",
    callback=_checked(partial(to_natural, "seed")),
    help="Where random choices start.",
)
_MEMORY = click.option(
    "--memory-limit",
    metavar="SIZE",
    callback=_checked(to_bytes),
    help="Like 4GiB; half of the machine's without it.",
)
_THREADS = click.option(
    "--num-threads",
    type=click.IntRange(min=1),
    help="As many as there are cores without it.",
)
_FILE = _options(
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        required=True,
        callback=_checked(result_place),
        help="File to write: .parquet, .arrow, .csv or .npz.",
    ),
    click.option(
        "--format", type=click.Choice(FORMATS), help="Of OUT; by the end of its name without it."
    ),
)
_WITHIN = click.option(
    "--within", metavar="COLUMN", help="Of keys: only rows of equal ones are compared."
)
_KEYS = _options(
    _WITHIN,
    click.option(
        "--apart", metavar="COLUMN", help="Of keys: only rows of different ones are neighbours."
    ),
)
_EXCLUDE = click.option(
    "--exclude",
    type=click.Path(),
    metavar="FILE",
    help="Pairs to leave out: what a join wrote, or two columns of ids or row numbers.",
)
_OUT = _options(
    _FILE,
    click.option("--nested", is_flag=True, help="A row a query, with the list of its neighbours."),
    click.option(
        "--max-rows-per-file",
        type=click.IntRange(min=1),
        help="OUT is a folder of files of so many rows.",
    ),
)
_JOB = _options(
    _MEMORY,
    click.option(
        "--work-dir",
        type=click.Path(path_type=Path),
        callback=_checked(local_path),
        help="What is done so far, deleted at the end; OUT.work without it.",
    ),
    _THREADS,
    _JSON,
)
_PLOT = click.option(
    "--plot",
    type=click.Path(path_type=Path),
    callback=_checked(lambda path: _picture(path)),
    help="Picture of distances and neighbours found, .png or .svg.",
)
# Paths, for the completion of shells; patterns are no paths that exist.
_SIDES = _options(
    click.argument("queries", type=click.Path()),
    click.argument("items", type=click.Path(), required=False),
)
_ITEMS = click.argument("items", type=click.Path())


def _picture(path: Path) -> Path:
    if path.suffix.lower() not in (".png", ".svg"):
        raise click.BadParameter(f"{path} must end with .png or .svg")
    if find_spec("matplotlib") is None:
        raise click.BadParameter("a picture needs matplotlib: pip install 'lshjoin[plot]'")
    return local_path(path)


def _plan_in(context: click.Context, _: click.Parameter, path: Path | None) -> JoinPlan | None:
    """The plan in a file: one of its own, or in what `plan --json` or `knn --json` prints."""
    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for name in ("plan", "join"):
            if isinstance(found, dict) and isinstance(found.get(name), dict):
                found = found[name]
        return JoinPlan.from_json(json.dumps(found))
    except ValueError as error:
        raise ValueError(f"{path} holds no plan: {error}") from None


_PLAN = click.option(
    "--plan",
    type=click.Path(path_type=Path),
    callback=_plan_in,
    metavar="FILE",
    help="One that --json printed, to be followed in place of a recall and a seed.",
)


@lshjoin.command()
@_SIDES
@_K
@_RECALL
@_SEED
@_PLAN
@_NEAREST_METRIC
@_VECTORS
@_KEYS
@_EXCLUDE
@_OUT
@_JOB
@_PLOT
@FROM
def knn(
    queries: str, items: str | None, k: int, plot: Path | None, as_json: bool, **options: Any
) -> None:
    """The K nearest rows of ITEMS for every row of QUERIES.

    One source alone is joined with itself; then a row is not its own neighbour.

    \b
    Example:
      lshjoin knn queries.parquet items.parquet -k 10 --recall 0.95 \\
          --column embedding --id-column id --out pairs.parquet
      lshjoin knn queries.parquet items.parquet --within country --id-column id \\
          --exclude pairs.parquet --out more.parquet
    """
    if options["plan"] and not options["recall"] is options["seed"] is None:
        raise click.UsageError("a plan has its own recall and seed: leave out --recall and --seed")
    layout = _layout(options)
    result = knn_join_files(queries, items, k, on_plan=_on_plan(), **options)
    _joined(result, options["out"], layout, plot, as_json)


@lshjoin.command()
@_SIDES
@click.option(
    "--radius",
    type=click.FloatRange(min=0),
    required=True,
    callback=_checked(to_radius),
    help="Pairs nearer than that, in the units of the metric.",
)
@click.option(
    "--max-neighbors",
    type=click.IntRange(min=1),
    callback=_checked(to_k),
    help="Of each row the nearest so many of those within the radius.",
)
@_METRIC
@_VECTORS
@_KEYS
@_EXCLUDE
@_OUT
@_JOB
@_PLOT
@FROM
def radius(
    queries: str,
    items: str | None,
    radius: float,
    plot: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """All pairs of a row of QUERIES and one of ITEMS that are nearer than a radius.

    One source alone is joined with itself: pairs of different rows, both ways.

    \b
    Example:
      lshjoin radius items.parquet --radius 0.4 --column embedding --id-column id \\
          --out near.parquet
      lshjoin radius items.parquet --radius 0.4 --apart document --max-neighbors 5 \\
          --out others.parquet
    """
    layout = _layout(options)
    result = radius_join_files(queries, items, radius, on_plan=_on_plan(), **options)
    _joined(result, options["out"], layout, plot, as_json)


def _layout(options: dict[str, Any]) -> Layout:
    """What OUT is to be; what it can't be is a wrong option."""
    names = ("out", "format", "nested", "max_rows_per_file")
    try:
        return to_layout(**{name: options[name] for name in names if name in options})
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _on_plan() -> OnPlan:
    """Tells the plan on terminals, as progress is."""
    return partial(click.echo, err=True) if sys.stderr.isatty() else None


def _plot(pairs: Place, layout: Layout, plot: Path | None, queries: int) -> None:
    if plot is not None:
        from lshjoin.files.plot import plot_pairs

        plot_pairs(pairs, layout, plot, queries)


def _joined(
    result: FilesJoin, out: Place, layout: Layout, plot: Path | None, as_json: bool
) -> None:
    _plot(out, layout, plot, result.queries)
    _print(
        dataclasses.asdict(result) | {"plan": result.plan.as_dict()},
        f"{result.pairs:,} pairs of {result.queries:,} queries and {result.items:,} items in "
        f"{result.seconds['all']:.1f} s: {result.out}",
        as_json,
    )


@lshjoin.command()
@_ITEMS
@click.option(
    "--radius",
    "threshold",
    type=click.FloatRange(min=0, min_open=True),
    required=True,
    callback=_checked(to_radius),
    help="Rows nearer than that are duplicates.",
)
@click.option(
    "--keep",
    metavar="WHICH",
    default="first",
    show_default=True,
    help="Of each group: first, last, longest (most characters in columns of strings), or a "
    "column, of which the largest value is kept.",
)
@click.option(
    "--linkage",
    type=click.Choice(get_args(Linkage)),
    default="component",
    show_default=True,
    help="representative: all rows of a group are near the kept one.",
)
@click.option(
    "--against",
    type=click.Path(),
    metavar="OLD",
    help="Old rows, all of them kept: of ITEMS near one of them none is.",
)
@_METRIC
@_VECTORS
@_WITHIN
@_FILE
@_JOB
@FROM
def dedup(items: str, threshold: float, as_json: bool, **options: Any) -> None:
    """Groups of near-duplicates, and which row of each to keep.

    Writes a row for each row: its id, the id of the first row of its group, and whether to keep
    it, which is true for one row of a group; with --against also match, the id of the old row that
    it is a duplicate of, null where there is none. Duplicates of duplicates are in one group.

    \b
    Example:
      lshjoin dedup items.parquet --radius 0.1 --metric cosine --id-column id \\
          --keep longest --out groups.parquet
      lshjoin dedup queries.parquet --radius 0.1 --within country --against items.parquet \\
          --out new.parquet
    """
    from lshjoin.files.dedup import dedup_files

    _layout(options)
    result = dedup_files(items, threshold, **options)
    _print(
        dataclasses.asdict(result),
        f"{result.rows:,} rows, {result.kept:,} to keep; {result.groups:,} groups of duplicates; "
        f"{result.seconds:.1f} s: {result.out}",
        as_json,
    )


@lshjoin.command()
@_SIDES
@_K
@_RECALL
@_SEED
@_NEAREST_METRIC
@_VECTORS
@_KEYS
@_MEMORY
@_JSON
@FROM
def plan(queries: str, items: str | None, k: int, as_json: bool, **options: Any) -> None:
    """What `lshjoin knn` would do: pairs compared, memory, reading, writing and time.

    \b
    Example:
      lshjoin plan items.parquet -k 10 --recall 0.9 --memory-limit 4GiB

    With --json it is what `lshjoin knn --plan` takes.
    """
    given = {name: value for name, value in options.items() if value is not None}
    chosen = plan_knn_join_files(queries, items, k, **given)
    _print(chosen.as_dict(), str(chosen), as_json)


@lshjoin.group()
def index() -> None:
    """Items kept on disk for queries to come.

    \b
    Example:
      lshjoin index build items.parquet --id-column number --out items.index
    """


_INDEX = click.argument("path", metavar="INDEX", type=click.Path(path_type=Path))


@index.command()
@_ITEMS
@_NEAREST_METRIC
@_VECTORS
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    callback=_checked(local_path),
    help="Directory of the index.",
)
@_MEMORY
@_THREADS
@_JSON
@FROM
def build(items: str, as_json: bool, **options: Any) -> None:
    """An index of ITEMS, in place of one that is there. Ids are integers.

    The same command goes on where it was interrupted: what is done is kept in OUT.work.

    \b
    Example:
      lshjoin index build items.parquet --id-column number --out items.index
    """
    from lshjoin.files.indexes import build_index

    built = build_index(items, **options)
    _print(_index_info(built), str(built), as_json)


@index.command()
@_INDEX
@click.argument("queries", type=click.Path())
@_K
@_RECALL
@_PLAN
@_VECTORS
@_EXCLUDE
@_OUT
@_MEMORY
@_THREADS
@_JSON
@_PLOT
@FROM
def query(
    path: Path, queries: str, k: int, plot: Path | None, as_json: bool, **options: Any
) -> None:
    """The K nearest items of an index for every row of QUERIES.

    \b
    Example:
      lshjoin index build items.parquet --id-column number --out items.index
      lshjoin index query items.index queries.parquet -k 5 --id-column id --out found.parquet
      lshjoin index query items.index queries.parquet -k 5 --id-column id \\
          --exclude found.parquet --out next.parquet
    """
    from lshjoin.files.indexes import query_index

    if options["plan"] and options["recall"] is not None:
        raise click.UsageError("a plan has its own recall: leave out --recall")
    layout = _layout(options)
    found = query_index(path, queries, k, **options)
    _plot(options["out"], layout, plot, found.queries)
    _print(
        dataclasses.asdict(found) | {"plan": json.loads(found.plan.to_json())},
        f"{found.pairs:,} pairs of {found.queries:,} queries and {found.items:,} items in "
        f"{found.seconds:.1f} s: {found.out}",
        as_json,
    )


@index.command()
@_INDEX
@_JSON
def info(path: Path, as_json: bool) -> None:
    """What an index holds.

    \b
    Example:
      lshjoin index build items.parquet --out items.index
      lshjoin index info items.index --json
    """
    from lshjoin.index import Index

    found = _index_info(Index.load(path))
    found["bytes"] = sum(file.stat().st_size for file in path.iterdir())
    text = "\n".join(f"{name:<8} {value}" for name, value in found.items() if name != "plan")
    _print(found, text, as_json)


@index.command()
@_INDEX
@_THREADS
@_JSON
def verify(path: Path, num_threads: int | None, as_json: bool) -> None:
    """Reads every byte of an index; exit code 3 and the file's name when one is damaged.

    \b
    Example:
      lshjoin index build items.parquet --out items.index
      lshjoin index verify items.index
    """
    from lshjoin.index import Index

    Index.load(path).verify(num_threads=num_threads)
    _print({"path": path, "sound": True}, f"{path} is sound", as_json)


def _index_info(index: Any) -> dict[str, Any]:
    return {
        "items": len(index),
        "dim": index.dim,
        "metric": index.metric,
        "plan": json.loads(index.plan.to_json()),
    }


@lshjoin.command()
@_JSON
def cpu(as_json: bool) -> None:
    """The instruction sets of this machine, and the one in use.

    \b
    Example:
      lshjoin cpu
    """
    used, there, cores = (
        engine.isa(),
        engine.cpu_features(),
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    )
    _print(
        {"version": engine.__version__, "isa": used, "available": there, "cores": cores},
        f"in use     {used} (LSHJOIN_ISA chooses another)\n"
        f"available  {', '.join(there)}\n"
        f"cores      {cores}",
        as_json,
    )


def _print(result: dict[str, Any], text: str, as_json: bool) -> None:
    click.echo(json.dumps(result, default=str) if as_json else text)
