"""Work directories: whole files or none, one job, one process."""

import os

import pytest
from lshjoin import OtherJobError
from lshjoin.job import Job, replacing

WORK = {"command": "knn", "k": 10, "items": {"files": [{"path": "a", "size": 1}]}}


def test_the_same_work_goes_on(tmp_path):
    first = Job(tmp_path / "work", WORK)
    with replacing(first.path("part")) as file:
        file.write_text("done")
    first.close()
    again = Job(tmp_path / "work", WORK)
    assert again.done("part")
    assert not again.done("other")
    again.finish()
    again.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 5}, "k is 10 there but 5 here"),
        ({"command": "radius"}, 'command is "knn" there but "radius" here'),
        ({"items": {"files": [{"path": "a", "size": 2}]}}, "items files 0 size is 1 there but 2"),
        ({"items": {"files": []}}, "items files is "),
        ({"plan": "exact"}, 'plan is null there but "exact" here'),
    ],
)
def test_other_work_is_refused(change, message, tmp_path):
    Job(tmp_path, WORK).close()
    before = (tmp_path / "manifest.json").read_text()
    with pytest.raises(OtherJobError, match=message):
        Job(tmp_path, WORK | change)
    assert (tmp_path / "manifest.json").read_text() == before
    Job(tmp_path, WORK).close()


def test_a_directory_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(OtherJobError, match="is not empty and no work directory"):
        Job(tmp_path, WORK)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_one_process_at_a_time(tmp_path):
    job = Job(tmp_path, WORK)
    with pytest.raises(BlockingIOError, match="another process is at work in"):
        Job(tmp_path, WORK)
    job.close()
    Job(tmp_path, WORK).close()


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")

    def fail():
        with replacing(path) as file:
            file.write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["old"]


def test_what_a_crash_left_of_a_write_is_no_result(tmp_path):
    job = Job(tmp_path, WORK)
    writing = replacing(job.path("part"))
    writing.__enter__().write_text("half")
    assert not job.done("part")  # as after a crash here
    job.close()
    again = Job(tmp_path, WORK)
    with replacing(again.path("part")) as file:
        assert not file.exists() or file.read_text() == "half"
        file.write_text("whole")
    assert again.path("part").read_text() == "whole"
    again.finish()
    again.close()
    assert not tmp_path.exists()


@pytest.mark.parametrize("calls", range(7))
def test_what_a_crash_left_of_a_finished_job_is_begun_anew(calls, tmp_path, monkeypatch):
    """Whichever call was its last: no step is there in part."""
    work = tmp_path / "work"
    job = Job(work, WORK)
    (job.path("index")).mkdir()
    for path in ("index/manifest.json", "index/rows", "part"):
        job.path(path).write_text("done")

    class Crash(BaseException):
        pass

    left = calls

    def crashing(call):
        def counted(*args, **kwargs):
            nonlocal left
            if left == 0:
                raise Crash
            left -= 1
            return call(*args, **kwargs)

        return counted

    with monkeypatch.context() as patched:
        for name in ("replace", "unlink", "rmdir"):
            patched.setattr(os, name, crashing(getattr(os, name)))
        with pytest.raises(Crash):
            job.finish()
    job.close()
    again = Job(work, WORK)
    whole = [again.done(name) for name in ("index/manifest.json", "index/rows", "part")]
    assert whole == [calls == 0] * 3
    again.finish()
    again.close()
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_was_hardly_begun_is_begun_anew(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / ".manifest.json.unfinished").write_text('{"comm')  # as a crash leaves it
    job = Job(work, WORK)
    assert not job.resumed
    job.finish()
    job.close()
    assert list(tmp_path.iterdir()) == []
