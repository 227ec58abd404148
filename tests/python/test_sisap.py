"""Our entry for the SISAP challenges writes what their evaluator reads."""

import json
import subprocess
import sys

import numpy as np
import pytest

from benches.engine import sisap

h5py = pytest.importorskip("h5py")


def test_the_entry_writes_the_challenges_format(tmp_path, rng):
    rows = rng.standard_normal((600, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with h5py.File(tmp_path / "vectors.h5", "w") as file:
        file["train"] = rows
    task = {"task": "task1", "data": "train", "k": 15, "dataset_name": "some"}
    (tmp_path / "config.json").write_text(json.dumps(task))
    paths = {"input": "vectors.h5", "task-description": "config.json", "output": "out/results"}
    command = [sys.executable, str(sisap.ENTRY), "--recall", "1.0"]
    for option, name in paths.items():
        command += [f"--{option}", str(tmp_path / name)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    [path] = (tmp_path / "out/results").glob("**/*.h5")
    assert [point["path"] for point in told] == [str(path)]
    with h5py.File(path) as file:
        about, knns, dists = dict(file.attrs), file["knns"][:], file["dists"][:]
    assert set(about) == {"algo", "dataset", "task", "buildtime", "querytime", "params"}
    assert (about["algo"], about["dataset"], about["task"]) == ("lshjoin", "some", "task1")
    assert isinstance(about["params"], str)
    assert knns.dtype == np.int32
    assert dists.dtype == np.float32
    products = rows @ rows.T
    np.fill_diagonal(products, -2)
    # From 1, and never the row itself.
    np.testing.assert_allclose(np.take_along_axis(products, knns - 1, axis=1), dists, atol=1e-5)
    np.testing.assert_allclose(dists, -np.sort(-products)[:, :15], atol=1e-5)
    np.testing.assert_array_equal(sisap.neighbors(path, 600, 15), knns - 1)


@pytest.mark.parametrize(
    ("name", "broken"),
    [("knns", np.zeros((3, 2), np.int32)), ("dists", np.zeros((3, 2))), ("algo", None)],
)
def test_what_the_evaluator_would_not_read_is_refused(tmp_path, name, broken):
    path = tmp_path / "results.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update(algo="a", task="task1", buildtime=1.0, querytime=0.0, params="")
        file["knns"], file["dists"] = np.ones((3, 2), np.int32), np.ones((3, 2), np.float32)
        if broken is None:
            del file.attrs[name]
        else:
            del file[name]
            file[name] = broken
    with pytest.raises(ValueError, match=r"results\.h5"):
        sisap.neighbors(path, 3, 2)
