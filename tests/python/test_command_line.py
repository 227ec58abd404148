"""The command lshjoin: its examples, its exit codes, what it prints for scripts."""

import json
import re
import shlex
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frames import arrow_vectors
from lshjoin import Dataset, JoinPlan, command_line, knn_join, radius_join
from lshjoin.files import stored_ids


def commands(command=command_line.lshjoin, path=("lshjoin",)):
    """Every command with the words that call it."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands())


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command in a directory of its own; its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = command_line.run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def files(rng, run, tmp_path):
    """items.parquet and queries.parquet: the vectors in them."""
    vectors = {}
    for name, rows in (("items", 300), ("queries", 20)):
        vectors[name] = rng.standard_normal((rows, 8)).astype(np.float32)
        ids = [f"{name}-{row}" for row in range(rows)]
        columns = {"id": ids, "number": range(rows), "embedding": arrow_vectors(vectors[name])}
        columns |= {"country": rng.choice(["at", "de"], rows), "document": rng.integers(0, 9, rows)}
        table = pa.table({name: pa.array(values) for name, values in columns.items()})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=77)
    return vectors


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_example_of_every_help_runs(path, run, files, capsys):
    code, text, _ = run(*path[1:], "--help")
    assert code == 0
    example = re.search(r"Examples?:\n((?: {4,}\S.*\n)+)", text)
    assert example, f"{' '.join(path)} --help has no example"
    lines = example[1].replace("\\\n", " ").splitlines()
    assert lines[-1].split()[: len(path)] == list(path) or path == ("lshjoin",)
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "lshjoin"
        code, out, error = run(*words[1:])
        assert (code, error) == (0, "")
        assert out


def test_the_commands_of_the_readme_run(run, files, tmp_path):
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
             for line in block.splitlines()]  # fmt: skip
    assert len(lines) >= 4
    (tmp_path / "items").mkdir()
    (tmp_path / "items" / "a.parquet").symlink_to(tmp_path / "items.parquet")
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "lshjoin"
        assert run(*words[1:])[0] == 0


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_and_command_is_explained(path):
    command = COMMANDS[path]
    assert command.help
    unexplained = {"--metric", "-k"}  # which say it all
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not set(parameter.opts) & unexplained:
            assert parameter.help, parameter.opts


def pairs(path):
    columns = pq.read_table(path).to_pydict()
    return list(zip(columns["query"], columns["item"], columns["distance"], strict=True))


def test_knn(run, files):
    code, out, _ = run(
        "knn", "queries.parquet", "items.parquet", "-k", 3, "--id-column", "id", "--out", "p.pq"
    )
    assert (code, out.split(" in ")[0]) == (0, "60 pairs of 20 queries and 300 items")
    expected = knn_join(files["queries"], files["items"], 3)
    assert pairs("p.pq") == [
        (f"queries-{query}", f"items-{item}", distance)
        for query in range(20)
        for item, distance in zip(
            expected.indices[query], expected.distances[query].tolist(), strict=True
        )
    ]


def edges(found):
    left, right, _ = found.to_edges()
    return list(zip(left.tolist(), right.tolist(), strict=True))


def test_keys_and_known_pairs(run, files):
    keys = {
        name: pq.read_table(f"{name}.parquet", columns=["country", "document"]).to_pydict()
        for name in ("queries", "items")
    }
    within, apart = (
        tuple(keys[name][column] for name in ("queries", "items"))
        for column in ("country", "document")
    )
    both = ["queries.parquet", "items.parquet"]
    vectors = files["queries"], files["items"]
    assert run("knn", *both, "-k", "2", "--out", "known.parquet")[0] == 0
    options = ["--within", "country", "--apart", "document", "--exclude", "known.parquet"]
    assert run("knn", *both, "-k", "3", *options, "--out", "knn.parquet")[0] == 0
    known = knn_join(*vectors, 2).to_edges()
    common = {"within": within, "apart": apart, "exclude": known}
    found = knn_join(*vectors, 3, **common)
    assert [pair[:2] for pair in pairs("knn.parquet")] == edges(found)
    radius = ["--radius", "2.2", "--max-neighbors", "2"]
    assert run("radius", *both, *radius, *options, "--out", "near.parquet")[0] == 0
    near = radius_join(*vectors, 2.2, max_neighbors=2, **common)
    assert sorted(pair[:2] for pair in pairs("near.parquet")) == sorted(edges(near))
    assert 10 < len(near.indices) < 40
    code, plan, _ = run("plan", *both, "--within", "country", "--json")
    assert (code, json.loads(plan)["pieces"]) == (0, None)
    code, _, error = run("knn", *both, "--within", "county", "--out", "no.parquet")
    assert code == command_line.INPUT
    assert "has no column county; its columns are id," in error


def test_radius(run, files):
    code, out, _ = run("radius", "items.parquet", "--radius", 2, "--out", "p.parquet", "--json")
    lims, distances, indices = radius_join(items=files["items"], radius=2.0)
    queries = np.repeat(np.arange(300), np.diff(lims))
    expected = sorted(zip(queries.tolist(), indices.tolist(), distances.tolist(), strict=True))
    assert len(expected) > 50
    assert sorted(pairs("p.parquet")) == expected
    result = json.loads(out)
    assert (code, result["pairs"], result["out"]) == (0, len(expected), "p.parquet")
    assert (result["queries"], result["items"]) == (300, 300)


def test_dedup(run, rng, tmp_path):
    # Chains: 0, 2, 4 and 1, 3, and 5 alone.
    rows = np.array([[0, 0], [9, 9], [0.4, 0], [9, 9], [0.8, 0], [5, 5]], np.float64)
    table = pa.table({"key": [10, 11, 12, 13, 14, 15], "v": arrow_vectors(rows)})
    pq.write_table(table, tmp_path / "items.parquet")
    command = (
        "dedup",
        "items.parquet",
        "--radius",
        0.5,
        "--id-column",
        "key",
        "--out",
        "groups.parquet",
    )
    code, out, _ = run(*command, "--json")
    assert code == 0
    result = json.loads(out)
    assert (result["rows"], result["kept"], result["groups"]) == (6, 3, 2)
    assert pq.read_table("groups.parquet").to_pydict() == {
        "id": [10, 11, 12, 13, 14, 15],
        "group": [10, 11, 10, 11, 10, 15],
        "keep": [True, True, False, False, False, True],
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["groups.parquet", "items.parquet"]


def test_index(run, files, tmp_path):
    code, out, _ = run(
        "index", "build", "items.parquet", "--id-column", "number", "--out", "i", "--json"
    )
    assert (code, json.loads(out)["items"]) == (0, 300)
    code, out, _ = run("index", "info", "i", "--json")
    assert (code, json.loads(out)["dim"], json.loads(out)["metric"]) == (0, 8, "euclidean")
    query = ("index", "query", "i", "queries.parquet", "-k", 3, "--id-column", "id")
    code, out, _ = run(*query, "--out", "p.parquet", "--json")
    assert (code, json.loads(out)["pairs"]) == (0, 60)
    expected = knn_join(files["queries"], files["items"], 3)
    columns = pq.read_table("p.parquet").to_pydict()
    assert columns["query"] == [f"queries-{row}" for row in range(20) for _ in range(3)]
    assert columns["item"] == expected.indices.ravel().tolist()
    assert columns["distance"] == expected.distances.ravel().tolist()
    assert run("index", "verify", "i")[:2] == (0, "i is sound\n")

    rows = next((tmp_path / "i").glob("rows*"))
    content = bytearray(rows.read_bytes())
    content[-5] ^= 1
    rows.write_bytes(content)
    code, _, error = run("index", "verify", "i")
    assert code == command_line.INPUT
    assert rows.name in error
    assert run("index", "info", "nothing")[0] == command_line.INPUT
    assert run("index", "build", "items.parquet", "--id-column", "id", "--out", "j")[0] == 3


def test_an_index_that_was_interrupted_goes_on(run, files, tmp_path, monkeypatch):
    build = ("index", "build", "items.parquet", "--id-column", "number", "--out", "i", "--json")
    read, starts = Dataset.batches, []

    def interrupted(dataset, rows=None, start=0, stop=None):
        starts.append(start)
        if len(starts) == 2:
            raise KeyboardInterrupt
        return read(dataset, rows, start, stop)

    monkeypatch.setattr(Dataset, "batches", interrupted)
    assert run(*build)[0] == command_line.INTERRUPTED
    assert not (tmp_path / "i").exists()
    code, _, error = run(*build, "--metric", "cosine")
    assert code == command_line.REFUSED
    assert '"euclidean"' in error
    code, out, _ = run(*build)
    assert (code, json.loads(out)["items"]) == (0, 300)
    assert len(starts) == 3  # the last of two passes once more
    assert run("index", "verify", "i")[0] == 0
    assert not (tmp_path / "i.work").exists()
    # Once more, in place of it.
    code, out, _ = run(*build, "--metric", "cosine")
    assert (code, json.loads(out)["metric"]) == (0, "cosine")
    (tmp_path / "i" / "foreign").touch()
    for path in (tmp_path / "i").glob("*.json"):
        path.unlink()
    code, _, error = run(*build)
    assert code == command_line.INPUT
    assert not (tmp_path / "i.work").exists()


def test_cpu(run):
    code, out, _ = run("cpu", "--json")
    assert code == 0
    assert json.loads(out)["isa"] in json.loads(out)["available"]


@pytest.mark.parametrize("picture", ["p.png", "p.svg"])
def test_plot(picture, run, files, tmp_path):
    code, _, _ = run("knn", "items.parquet", "--out", "p.parquet", "--plot", picture)
    assert code == 0
    starts = {"p.png": b"\x89PNG", "p.svg": b"<?xml"}
    assert (tmp_path / picture).read_bytes().startswith(starts[picture])


def test_plots_of_no_pairs(run, files, tmp_path):
    command = ("radius", "items.parquet", "--radius", 0, "--out", "p.parquet", "--plot", "p.svg")
    assert run(*command)[0] == 0
    assert (tmp_path / "p.svg").stat().st_size > 0


@pytest.mark.parametrize(
    ("code", "message", "arguments"),
    [
        (2, "No such command", ["knm"]),
        (2, "Missing option '--out'", ["knn", "items.parquet"]),
        (2, "0 is not in the range", ["knn", "items.parquet", "--out", "p.pq", "-k", "0"]),
        (2, "must end with .png or .svg",
         ["knn", "items.parquet", "--out", "p.pq", "--plot", "p.g"]),
        (3, "no file, folder or match of the pattern no.pq", ["knn", "no.pq", "--out", "p.pq"]),
        (3, "of no kind that is read here", ["knn", "notes.txt", "--out", "p.pq"]),
        (3, "no column vec; its columns are id, number, embedding, country, document",
         ["knn", "items.parquet", "--out", "p.pq", "--column", "vec"]),
        (2, "memory_limit must be", ["plan", "items.parquet", "--memory-limit", "much"]),
        (4, "queries.parquet exists already", ["knn", "items.parquet", "--out", "queries.parquet"]),
    ],
)  # fmt: skip
def test_exit_codes(code, message, arguments, run, files, tmp_path):
    (tmp_path / "notes.txt").write_text("no vectors")
    before = sorted(tmp_path.iterdir())
    got, out, error = run(*arguments)
    assert (got, out) == (code, "")
    assert message in error
    assert sorted(tmp_path.iterdir()) == before


def test_exit_codes_are_documented(run):
    _, text, _ = run("--help")
    for code in (0, 1, command_line.USAGE, command_line.INPUT, command_line.REFUSED, 130):
        assert re.search(rf"^ +{code}  ", text, re.MULTILINE)


LONG = "9" * 400


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("memory_limit must be bytes", ["knn", "--memory-limit", "lots"]),
        ("memory_limit must be below", ["knn", "--memory-limit", LONG]),
        ("memory_limit must be below", ["plan", "--memory-limit", f"{LONG}GiB"]),
        ("memory_limit must be bytes", ["dedup", "--radius", "1", "--memory-limit", "-1"]),
        ("must be below 2**63", ["knn", "-k", LONG]),
        ("recall must be above 0", ["knn", "--recall", "nan"]),
        ("radius must not be", ["radius", "--radius", "nan"]),
        ("can't be written by a join", ["knn", "--out", "https://host/k.parquet"]),
        ("k.txt does not say in which format", ["knn", "--out", "k.txt"]),
        ("k.json does not say in which format", ["radius", "--radius", "1", "--out", "k.json"]),
        ("k does not say in which format", ["dedup", "--radius", "1", "--out", "k"]),
        ("k.tsv does not say in which format", ["index", "query", "i", "--out", "k.tsv"]),
        ("is named as parquet, but format is csv", ["knn", "--format", "csv"]),
        ("which CSV has not", ["knn", "--nested", "--out", "k.csv"]),
        ("not in the range", ["knn", "--max-rows-per-file", "0"]),
        ("'json' is not one of", ["knn", "--format", "json"]),
        ("seed must be 0 to 2**64 - 1, not -1", ["knn", "--seed", "-1"]),
        ("is a URL", ["knn", "--work-dir", "s3://bucket/work"]),
        ("is a URL", ["knn", "--plot", "s3://bucket/k.png"]),
        ("is a URL", ["index", "build", "--out", "s3://bucket/i"]),
    ],
)
def test_options_that_will_not_do(message, arguments, run, files, tmp_path):
    before = sorted(tmp_path.iterdir())
    words = [*arguments, "items.parquet"]
    if "--out" not in words and "plan" not in words:
        words += ["--out", "k.parquet"]
    code, out, error = run(*words)
    assert (code, out) == (command_line.USAGE, "")
    assert message in error
    assert len(error) < 1000
    assert sorted(tmp_path.iterdir()) == before


def test_sources_that_are_urls(run):
    code, _, error = run("knn", "nosuch://bucket/items.parquet", "--out", "k.parquet")
    assert code in (command_line.INPUT, 1)  # fsspec does not know it, or is not there
    assert "nosuch://bucket/items.parquet" in error


@pytest.mark.parametrize("keys", [[1, 2, 1, 3, 1], ["a", "b", "a", "c", "a"]])
def test_dedup_wants_ids_of_their_own(keys, run, tmp_path):
    rows = np.array([[0, 0], [1, 0], [5, 5], [5, 6], [50, 50]], np.float32)
    for column in (pa.array(keys), pa.array(keys).dictionary_encode()):
        pq.write_table(pa.table({"key": column, "v": arrow_vectors(rows)}), "items.parquet")
        dedup = ("dedup", "items.parquet", "--radius", 1.5, "--out", "groups.parquet", "--json")
        code, _, error = run(*dedup, "--id-column", "key")
        assert code == command_line.INPUT
        assert f"id {keys[0]} is that of rows 0 and 2" in error
        assert [path.name for path in tmp_path.iterdir()] == ["items.parquet"]
    code, out, _ = run(*dedup)
    assert (code, json.loads(out)["kept"], json.loads(out)["groups"]) == (0, 3, 2)
    groups = pq.read_table("groups.parquet").to_pydict()
    assert groups["group"] == [0, 0, 2, 2, 4]
    assert sum(groups["keep"]) == 3


def test_many_distinct_ids(monkeypatch, rng):
    monkeypatch.setattr(stored_ids, "ROW_GROUP", 7)
    for numbers in (np.arange(50), rng.permutation(50) - 25, np.arange(0), np.arange(1)):
        for column in (pa.array(numbers), pa.array(numbers.astype(str))):
            stored_ids.check_distinct(column)
            for row in range(1, len(numbers), 6):
                twice = pa.concat_arrays([column, column[row - 1 : row]])
                with pytest.raises(ValueError, match=f"of rows {row - 1} and {len(numbers)};"):
                    stored_ids.check_distinct(twice)


def test_an_index_of_any_integers(run, files, tmp_path):
    """Ids below 0, and of types without sign, as of any other numbers."""
    items, queries = files["items"], files["queries"]
    expected = knn_join(queries, items, 3)
    for number, column in enumerate((
        pa.array(range(-150, 150)),
        pa.array(range(300), pa.uint64()),
        pa.array(range(300), pa.uint16()),
        pa.array(range(-150, 150)).dictionary_encode(),
    )):  # fmt: skip
        table = pa.table({"n": column, "v": arrow_vectors(items)})
        pq.write_table(table, "numbered.parquet", row_group_size=77)
        build = ("index", "build", "numbered.parquet", "--id-column", "n", "--out", f"i{number}")
        assert run(*build)[0] == 0
        out = f"found{number}.parquet"
        query = ("index", "query", f"i{number}", "queries.parquet", "-k", 3, "--out", out)
        assert run(*query)[:1] == (0,)
        columns = pq.read_table(out).to_pydict()
        assert columns["query"] == [row for row in range(20) for _ in range(3)]
        assert columns["item"] == [column[row].as_py() for row in expected.indices.ravel().tolist()]
        assert columns["distance"] == expected.distances.ravel().tolist()
    pq.write_table(table.set_column(0, "n", pa.array([2**63] * 300, pa.uint64())), "large.parquet")
    code, _, error = run("index", "build", "large.parquet", "--id-column", "n", "--out", "large")
    assert code == command_line.INPUT
    assert f"id {2**63} is beyond 2**63 - 1" in error


def test_fewer_items_than_neighbours_in_an_index(run, files):
    numbers = [-5, -1, -3, 7, 0]
    table = pa.table({"n": numbers, "v": arrow_vectors(files["items"][:5])})
    pq.write_table(table, "few.parquet")
    assert run("index", "build", "few.parquet", "--id-column", "n", "--out", "i")[0] == 0
    for k, pairs_of_query in ((2, 2), (5, 5), (9, 5)):
        out = f"{k}.parquet"
        query = ("index", "query", "i", "few.parquet", "-k", k, "--out", out)
        assert run(*query)[0] == 0
        columns = pq.read_table(out).to_pydict()
        assert len(columns["item"]) == 5 * pairs_of_query
        assert set(columns["item"]) == set(numbers)
        assert np.isfinite(columns["distance"]).all()


def test_queries_with_ids_but_no_rows(run, files):
    assert run("index", "build", "items.parquet", "--out", "i")[0] == 0
    nothing = pq.read_table("queries.parquet")[:0]
    pq.write_table(nothing, "none.parquet")
    query = ("index", "query", "i", "none.parquet", "--id-column", "id", "--out", "p.parquet")
    assert run(*query)[0] == 0
    assert pq.read_metadata("p.parquet").num_rows == 0


def test_a_plan_that_was_printed_is_followed(run, files, tmp_path):
    plan = ("plan", "items.parquet", "-k", 3, "--recall", 0.9, "--seed", 5, "--json")
    code, printed, _ = run(*plan)
    assert code == 0
    (tmp_path / "plan.json").write_text(printed)
    knn = ("knn", "items.parquet", "-k", 3, "--json")
    code, result, _ = run(*knn, "--plan", "plan.json", "--out", "a.parquet")
    assert code == 0
    join = json.loads(printed)["join"]
    assert json.loads(result)["plan"]["join"] == join
    # What a join prints, and JoinPlan.to_json(), are plans as well.
    (tmp_path / "result.json").write_text(result)
    (tmp_path / "join.json").write_text(json.dumps(join))
    for number, file in enumerate(("result.json", "join.json")):
        assert run(*knn, "--plan", file, "--out", f"{number}.parquet")[0] == 0
        assert pairs(f"{number}.parquet") == pairs("a.parquet")


def test_a_plan_of_lists_is_followed(run, files, tmp_path):
    plan = JoinPlan.ivf(lists=20, probes=2, seed=3)
    (tmp_path / "plan.json").write_text(plan.to_json())
    knn = ("knn", "items.parquet", "-k", 3, "--plan", "plan.json", "--out", "p.pq", "--json")
    code, out, _ = run(*knn)
    assert (code, json.loads(out)["plan"]["join"]) == (0, json.loads(plan.to_json()))
    expected = knn_join(files["items"], k=3, plan=plan)
    assert [item for _, item, _ in pairs("p.pq")] == expected.indices.ravel().tolist()


def test_a_plan_is_followed_in_an_index(run, rng, tmp_path):
    # Of fewer all pairs are compared, whatever the plan.
    items, queries = rng.standard_normal((2, 4096, 4)).astype(np.float32)
    np.save(tmp_path / "items.npy", items)
    np.save(tmp_path / "queries.npy", queries)
    assert run("index", "build", "items.npy", "--out", "i")[0] == 0
    own = json.loads(run("index", "info", "i", "--json")[1])["plan"]
    query = ("index", "query", "i", "queries.npy", "-k", 3, "--json")

    def found(plan, *more):
        """Its exit code, what it said, and the pairs."""
        (tmp_path / "plan.json").write_text(plan)
        (tmp_path / "p.parquet").unlink(missing_ok=True)
        code, out, error = run(*query, "--plan", "plan.json", "--out", "p.parquet", *more)
        return code, out or error, code or pairs("p.parquet")

    one_list = json.dumps(own | {"probes": 1, "until_recall": None})
    code, printed, few = found(one_list)
    assert (code, json.loads(printed)["plan"]) == (0, json.loads(one_list))
    assert found(printed)[::2] == (0, few)  # what --json printed is a plan
    # One of all pairs finds others, and one of other lists is refused.
    _, _, exact = found(JoinPlan.exact().to_json())
    assert exact != few
    nearest = knn_join(queries, items, 3, recall=1.0).indices
    assert [item for _, item, _ in exact] == nearest.ravel().tolist()
    code, error, _ = found(json.dumps(own | {"lists": 7}))
    assert (code, "of seed 0 and 7 lists" in error) == (command_line.INPUT, True), error
    code, error, _ = found(one_list, "--recall", 0.8)
    assert (code, "leave out --recall" in error) == (command_line.USAGE, True), error


@pytest.mark.parametrize(
    ("code", "message", "text", "more"),
    [
        (2, "leave out --recall and --seed", '{"plan": "exact"}', ["--recall", "0.9"]),
        (2, "leave out --recall and --seed", '{"plan": "exact"}', ["--seed", "0"]),
        (3, "p.json holds no plan", "no JSON", []),
        (3, "p.json holds no plan", '{"plan": "guess"}', []),
        (3, "p.json holds no plan", '{"join": {"rows": 3}}', []),
        (3, "No such file", None, []),
    ],
)
def test_plans_that_will_not_do(code, message, text, more, run, files, tmp_path):
    if text is not None:
        (tmp_path / "p.json").write_text(text)
    before = sorted(tmp_path.iterdir())
    got, _, error = run("knn", "items.parquet", "--plan", "p.json", "--out", "k.parquet", *more)
    assert (got, message in error) == (code, True), error
    assert sorted(tmp_path.iterdir()) == before


def test_the_seed_is_passed_on(run, files, monkeypatch):
    given = []

    def stop(*_, **options):
        given.append(options["seed"])
        raise KeyboardInterrupt

    for name in ("knn_join_files", "plan_knn_join_files"):
        monkeypatch.setattr(command_line, name, stop)
    assert run("plan", "items.parquet", "--seed", 2**64 - 1)[0] == command_line.INTERRUPTED
    assert run("knn", "items.parquet", "--seed", 7, "--out", "o.pq")[0] == command_line.INTERRUPTED
    assert given == [2**64 - 1, 7]


JOB = """
queries = "queries.parquet"
items = "items.parquet"
k = 4
metric = "cosine"
id-column = "id"
memory-limit = "1GiB"
nested = true
out = "from-file.parquet"
"""


def test_options_from_a_file(run, files, tmp_path):
    (tmp_path / "job.toml").write_text(JOB)
    assert run("knn", "--from", "job.toml")[0] == 0
    options = ("-k", 4, "--metric", "cosine", "--id-column", "id", "--nested", "--out", "o.parquet")
    assert run("knn", "queries.parquet", "items.parquet", *options)[0] == 0
    found = pq.read_table("from-file.parquet")
    assert found.equals(pq.read_table("o.parquet"))
    assert len(found["neighbors"][0]) == 4
    # What is on the command line goes first.
    assert run("knn", "items.parquet", "--from", "job.toml", "-k", 2, "--out", "p.parquet")[0] == 0
    again = pq.read_table("p.parquet")
    assert len(again) == 300
    assert len(again["neighbors"][0]) == 2


@pytest.mark.parametrize(
    ("code", "message", "text"),
    [
        (2, "has 'memory_limit', but lshjoin knn has no such option; it has", "memory_limit = 1"),
        (2, "k of job.toml must be a text or a number, not True", "k = true"),
        (2, "queries of job.toml must be a text or a number", 'queries = ["a", "b"]'),
        (2, "nested of job.toml must be true or false, not 1", "nested = 1"),
        (2, "'l2' is not one of", 'queries = "items.parquet"\nmetric = "l2"'),
        (2, "has 'from'", 'from = "job.toml"'),
        (2, "has 'help'", "help = true"),
        (2, "0 is not in the range", 'queries = "items.parquet"\nk = 0'),
        (2, "Missing argument 'QUERIES'", "k = 3"),
        (3, "job.toml is not a readable TOML file", "k : 3"),
        (3, "job.toml is not a readable TOML file", "\udcff"),
        (3, "No such file", None),
    ],
)
def test_files_of_options_that_will_not_do(code, message, text, run, files, tmp_path):
    if text is not None:
        (tmp_path / "job.toml").write_text(text, errors="surrogateescape")
    before = sorted(tmp_path.iterdir())
    got, _, error = run("knn", "--from", "job.toml", "--out", "k.parquet")
    assert (got, message in error) == (code, True), error
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_one_name_a_thing(path):
    """In files names are those of the options, and no argument has the name of an option."""
    command = COMMANDS[path]
    names = [name for option in command.params for name in option.opts]
    assert len({name.lstrip("-").lower() for name in names}) == len(names)
    assert all(len(option.opts) == 1 or "-h" in option.opts for option in command.params)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("lshjoin kn", ["plain,knn"]),
        ("lshjoin index ", ["plain,build", "plain,info", "plain,query", "plain,verify"]),
        ("lshjoin knn items.parquet --metric ", ["plain,cosine", "plain,inner_product"]),
        ("lshjoin knn items.parquet --max", ["plain,--max-rows-per-file"]),
        ("lshjoin knn ", ["file,"]),
        ("lshjoin knn items.parquet --out ", ["file,"]),
    ],
)
def test_completion(words, expected, monkeypatch, capsys):
    monkeypatch.setenv("_LSHJOIN_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    with pytest.raises(SystemExit):
        command_line.run([])
    found = capsys.readouterr().out.splitlines()
    assert {*expected} <= {*found}
