"""What notebooks show: bars of the share that is done, and HTML of plans, reports and results."""

import re
import sys
from types import ModuleType, SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from lshjoin import (
    JoinPlan,
    knn_join,
    knn_join_files,
    plan_knn_join,
    plan_knn_join_files,
    radius_join,
)
from lshjoin.base import html
from lshjoin.base.progress import _Bar, reporter, stages
from lshjoin.files import plan as files_plan


class Tqdm:
    """Stands for a bar of tqdm with a total of 1."""

    def __init__(self):
        self.n, self.seen, self.names = 0.0, [], []

    def update(self, more):
        self.n += more
        self.seen.append(self.n)

    def set_postfix_str(self, text):
        self.names.append(text)


@pytest.mark.parametrize(
    "told",
    [
        [(0, 0), (1, 4), (2, 4), (4, 4)],
        [(0, 0), (19, 31), (71, 378), (477, 513), (638, 638)],  # of a join by lists
        [(5, 5), (5, 10), (10, 10)],  # all that was known of, and then there was more
        [(3, 4), (2, 4), (4, 4)],
        [(6, 4), (8, 8)],
    ],
)
def test_a_bar_goes_from_nothing_to_all_and_never_back(told):
    bar = Tqdm()
    report = _Bar(bar)
    for done, total in told:
        report(done, total)
        assert 0 <= bar.n <= 1 + 1e-9
    assert bar.seen == sorted(bar.seen)
    assert bar.n == pytest.approx(1)


def test_a_bar_is_in_proportion():
    bar = Tqdm()
    report = _Bar(bar)
    for done in range(0, 101, 10):
        report(done, 100)
    assert bar.seen == pytest.approx(np.arange(1, 11) / 10)
    # Twice as much as was known of: what is left is divided by it.
    bar = Tqdm()
    report = _Bar(bar)
    report(50, 100)
    report(100, 200)
    assert bar.n == pytest.approx(0.5 + 0.5 * 50 / 150)


def test_stages_are_shares_of_the_work():
    told = []
    with stages(lambda *given: told.append(given), "job", {"a": 1.0, "b": 3.0}) as begin:
        a = begin("a")
        a(5, 10)
        a(10, 10)
        b = begin("b")
        b(1, 3)
        b(0, 3)  # a chunk that begins anew takes nothing back
        b(3, 3)
    assert told == [(125, 1000), (250, 1000), (500, 1000), (500, 1000), (1000, 1000)]
    with stages(False, "job", {"a": 1.0}) as begin:
        assert begin("a") is None


@pytest.fixture
def kernel(monkeypatch):
    """As in a kernel of Jupyter: IPython, and standard error that is no terminal."""
    module = ModuleType("IPython")
    module.get_ipython = lambda: SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setattr("lshjoin.base.progress._DELAY_SECONDS", 0)
    return module


def test_bars_come_up_in_notebooks(kernel, capsys):
    with reporter(None, "in a notebook") as report:
        report(1, 2)
    assert "in a notebook:  50%" in capsys.readouterr().err


@pytest.mark.parametrize("shell", [None, SimpleNamespace(config={"TerminalIPythonApp": {}})])
def test_no_bars_in_ipython_without_a_terminal(shell, kernel, capsys):
    kernel.get_ipython = lambda: shell
    with reporter(None, "not in a notebook") as report:
        assert report is None
    assert capsys.readouterr().err == ""


def test_the_stages_of_a_join_out_of_core(kernel, capsys, tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files_plan, "_BASE", 0)
    monkeypatch.setattr(files_plan, "_BATCH", (1 << 16, 1 << 20))
    np.save("items.npy", rng.standard_normal((20_000, 16)).astype(np.float32))
    plan = JoinPlan.partitions(lists=60, probes=4)
    common = {"items": "items.npy", "k": 3, "plan": plan, "memory_limit": 4_000_000}
    told = []
    done = knn_join_files(out="a.parquet", progress=lambda *given: told.append(given), **common)
    assert done.plan.out_of_core
    assert {total for _, total in told} == {1000}
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1000
    assert len({*shares}) >= 5
    knn_join_files(out="b.parquet", **common)
    text = capsys.readouterr().err
    for stage in ("learn", "assign", "store", "plan", "join", "write"):
        assert f", {stage}" in text
    assert "100%" in text


def parsed(text):
    """Well-formed, as XML is; what is in the cells, and the bars."""
    root = ElementTree.fromstring(text)
    cells = ["".join(cell.itertext()) for cell in root.iter() if cell.tag in ("th", "td")]
    shapes = [shape for shape in root.iter() if shape.tag.endswith("rect")]
    for shape in shapes:
        assert float(shape.get("width")) >= 0
        assert float(shape.get("height")) >= 0
    return dict(zip(cells[::2], cells[1::2], strict=True)), shapes


def test_html_of_plans(rng, tmp_path, monkeypatch):
    rows = rng.standard_normal((6000, 16), dtype=np.float32)
    plan = plan_knn_join(rows, recall=0.9)
    cells, shapes = parsed(plan._repr_html_())
    assert cells["recall"] == str(plan.predicted.recall)
    assert len(shapes) == 2
    cells, shapes = parsed(
        JoinPlan.lsh(axes=4, functions=3, tables=2, probes=1, rounds=0)._repr_html_()
    )
    assert cells["tables"] == "2 of 3 sign bits each"
    assert shapes == []
    monkeypatch.chdir(tmp_path)
    np.save("items.npy", rows)
    plan = plan_knn_join_files("items.npy")
    cells, shapes = parsed(plan._repr_html_())
    assert cells["rows"].startswith("6,000 queries")
    assert len(shapes) == len(plan.resident)


def test_html_of_results(rng, tmp_path, monkeypatch):
    rows = rng.standard_normal((500, 4))
    found = knn_join(rows, k=3)
    cells, shapes = parsed(found._repr_html_())
    assert (cells["queries"], cells["k"], cells["plan"]) == ("500", "3", "JoinPlan.exact()")
    assert len(shapes) == 40
    cells, shapes = parsed(found.report._repr_html_())
    assert cells["pairs"] == f"{found.report.pairs:,}"
    assert len(shapes) == len(found.report.seconds)
    near = radius_join(rows, radius=0.5)
    cells, shapes = parsed(near._repr_html_())
    assert cells == {"queries": "500", "pairs": f"{len(near.indices):,}"}
    monkeypatch.chdir(tmp_path)
    np.save("items.npy", rows)
    done = knn_join_files("items.npy", k=3, out="<p>.parquet")
    cells, shapes = parsed(done._repr_html_())
    assert (cells["out"], cells["pairs"]) == ("<p>.parquet", "1,500")


@pytest.mark.parametrize("rows", [[], [[1.0]], [[1.0], [1.0], [1.0]]])
def test_html_of_hardly_anything(rows):
    rows = np.array(rows, dtype=np.float64).reshape(-1, 1)
    for found in (knn_join(rows, k=2), radius_join(rows, radius=0)):
        parsed(found._repr_html_())
    parsed(knn_join(rows, k=2).report._repr_html_())
    assert parsed(html.table("<t>", [("<", "&")], html.bars("<", {"<": -1.0}, 0.0)))[0] == {
        "<": "&"
    }


def test_pictures_have_titles_and_the_colour_of_text(rng):
    text = knn_join(rng.standard_normal((50, 4)), k=3)._repr_html_()
    assert re.search(r"<svg [^>]*fill='currentColor'[^>]*><title>Distances of neighbours", text)
