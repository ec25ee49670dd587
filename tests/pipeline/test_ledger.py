"""Records, the run lock, the in-flight file and the journal: what a crash leaves behind is understood."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vidcap.errors import RunLockedError, StoreError, TransientError
from vidcap.pipeline.inflight import DEATHS, InFlight
from vidcap.pipeline.journal import Entry, Journal
from vidcap.pipeline.ledger import Ledger, Record
from vidcap.pipeline.part_lock import alone_in
from vidcap.pipeline.run_lock import RunLock, is_held_by
from vidcap.store import PosixStore, append_line, read_lines, replacing, replacing_all, sweep


def test_a_record_counts_only_while_its_outputs_are_there(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    (tmp_path / "out.bin").write_bytes(b"x")
    record = Record(3, "fuse", 1, "f", {"trim": "t"}, {"out.bin": "d"})
    ledger.commit(record)
    assert ledger.get(3, "fuse") == record
    assert ledger.get(3, "score") is None
    (tmp_path / "out.bin").unlink()
    assert ledger.get(3, "fuse") is None


def test_a_rerun_asks_for_fingerprints_and_outputs(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.parts() == set()
    (tmp_path / "out.bin").write_bytes(b"x")
    ledger.commit(*(Record(3, stage, 1, f"of {stage}", {}, {"out.bin": "d"}) for stage in ("trim", "fuse")))
    assert ledger.parts() == {3}
    assert ledger.holds(3, "trim", "of trim")
    assert not ledger.holds(3, "trim", "of fuse")
    assert not ledger.holds(3, "score", "of score")
    ledger.forget(3, "fuse", "score")
    assert ledger.get(3, "fuse") is None
    (tmp_path / "out.bin").unlink()
    assert not ledger.holds(3, "trim", "of trim")
    assert ledger.parts() == {3}


def test_files_of_a_folder_are_replaced_with_one_sync_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}")) or real(handle)
    )
    with replacing_all(tmp_path) as temporary_of:
        for name in ("a", "b", "c"):
            temporary_of(tmp_path / name).write_text(name)
            assert not (tmp_path / name).exists(), "none is there before all are written"
    assert [(tmp_path / name).read_text() for name in "abc"] == ["a", "b", "c"]
    assert len(synced) == 4
    assert synced[-1] == str(tmp_path), "the folder last"
    with pytest.raises(RuntimeError), replacing_all(tmp_path) as temporary_of:
        temporary_of(tmp_path / "a").write_text("new")
        raise RuntimeError
    assert (tmp_path / "a").read_text() == "a"
    assert len(list(tmp_path.iterdir())) == 3


def test_the_mark_of_a_source_in_work_needs_no_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: pytest.fail("it speaks of this process only"))
    with InFlight(tmp_path, "t").working_on("a", timeout=None):
        assert json.loads((tmp_path / "inflight.json").read_text()) == {"item": "a", "token": "t"}
    assert not (tmp_path / "inflight.json").exists()


def test_a_torn_record_is_no_record(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.store.write("000000.fuse.json", b'{"schema": "vidcap-led')
    assert ledger.get(0, "fuse") is None


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    store = PosixStore(tmp_path)
    store.write("a.txt", b"old")
    with pytest.raises(RuntimeError), replacing(store.path("a.txt")) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert store.read("a.txt") == b"old"
    assert store.names(".") == ["a.txt"]


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    append_line(path, "one")
    with path.open("ab") as handle:
        handle.write(b"tw")
    assert read_lines(path) == ["one"]


def test_the_lock_refuses_a_second_run_and_names_the_first(tmp_path: Path) -> None:
    with RunLock(tmp_path), pytest.raises(RunLockedError, match=str(os.getpid())), RunLock(tmp_path):
        pass
    with RunLock(tmp_path):
        pass


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from vidcap.pipeline.run_lock import RunLock;"
        "RunLock(Path(sys.argv[1])).__enter__(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=300)
    assert (tmp_path / "_vidcap" / "lock.json").exists()
    with RunLock(tmp_path):
        pass


def test_a_silent_holder_elsewhere_loses_its_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunLock, "WATCH_SECONDS", 0.2)
    path = tmp_path / "_vidcap" / "lock.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "1"}))
    with pytest.raises(RunLockedError, match="elsewhere"), RunLock(tmp_path):
        pass
    old = time.time() - RunLock.LEASE_SECONDS - 1
    os.utime(path, (old, old))
    with RunLock(tmp_path):
        pass


def test_a_clock_that_stepped_does_not_take_a_living_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunLock, "WATCH_SECONDS", 60.0)
    path = tmp_path / "_vidcap" / "lock.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "1"}))
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(0.05):
            path.touch()

    holder = threading.Thread(target=renew)
    holder.start()
    now = time.time()
    try:
        for step in (86_400, -86_400):
            monkeypatch.setattr(time, "time", lambda step=step: now + step)
            with pytest.raises(RunLockedError, match="elsewhere"), RunLock(tmp_path):
                pass
    finally:
        stop.set()
        holder.join()


def test_a_lock_that_went_to_another_run_is_left_alone(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        lock.check()
        lock.path.unlink()
        lock.check()
        assert is_held_by(tmp_path, lock.run), "taken again where nobody else has it"
        lock.path.unlink()
        other = RunLock(tmp_path)
        with other:
            with pytest.raises(RunLockedError, match="has taken"):
                lock.check()
            lock.__exit__()
            assert is_held_by(tmp_path, other.run)


def test_a_lock_judged_dead_is_not_taken_from_its_next_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "_vidcap" / "lock.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "1"}))

    def silent(self: RunLock, status: os.stat_result) -> bool:
        path.write_text('{"run": "quicker"}')
        return True

    monkeypatch.setattr(RunLock, "_is_silent", silent)
    RunLock(tmp_path)._take_over()
    assert is_held_by(tmp_path, "quicker")


def test_one_worker_at_a_time_in_a_part(tmp_path: Path) -> None:
    with alone_in(tmp_path), pytest.raises(TransientError, match="another worker"), alone_in(tmp_path, patience=0.3):
        pass
    with alone_in(tmp_path):
        pass


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "make space"), (errno.EROFS, "make it writable")])
def test_what_the_disk_refuses_names_the_disk_and_the_mend(tmp_path: Path, number: int, said: str) -> None:
    with pytest.raises(StoreError, match=str(tmp_path)) as caught, replacing(tmp_path / "a"):
        raise OSError(number, os.strerror(number))
    assert said in caught.value.hint and caught.value.exit_code == 2
    with pytest.raises(IsADirectoryError), replacing(tmp_path / "a"):
        raise IsADirectoryError(errno.EISDIR, "not the disk")


def test_what_the_dead_have_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".a.json.7.tmp").touch()
    (tmp_path / ".lock").touch()
    (tmp_path / ".b.7.tmp").mkdir()
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.7.tmp", ".lock"]
    sweep(tmp_path / "nothing")


def died(folder: Path, token: str, *, blame: str = "") -> None:
    """A process that dies while working on `poison`."""
    code = (
        "import os, sys; from pathlib import Path; from vidcap.pipeline.inflight import InFlight\n"
        "flight = InFlight(Path(sys.argv[1]), sys.argv[2], blame=sys.argv[3])\n"
        "with flight.working_on('poison', timeout=None): os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder), token, blame], check=False, timeout=300)


def test_two_deaths_on_an_item_make_it_poison(tmp_path: Path) -> None:
    died(tmp_path, "t0")
    died(tmp_path, "t1", blame="t0")
    flight = InFlight(tmp_path, "t2", blame="t1")
    verdict = flight.verdict("poison")
    assert verdict is not None
    assert (verdict.kind, verdict.reason) == ("quarantined", "worker_died")
    assert flight.verdict("other") is None
    assert DEATHS == 2


def test_a_run_stopped_from_outside_blames_nobody(tmp_path: Path) -> None:
    for token in ("t0", "t1", "t2", "t3"):
        died(tmp_path, token)
    assert InFlight(tmp_path, "t4").verdict("poison") is None


def test_the_watchdog_ends_a_process_that_hangs(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from vidcap.pipeline.inflight import InFlight\n"
        "flight = InFlight(Path(sys.argv[1]), sys.argv[2], blame=sys.argv[3])\n"
        "with flight.working_on('slow', timeout=0.3): time.sleep(600)"
    )
    blame = ""
    for token in ("t0", "t1"):
        ran = subprocess.run([sys.executable, "-c", code, str(tmp_path), token, blame], check=False, timeout=300)
        assert ran.returncode != 0
        blame = token
    verdict = InFlight(tmp_path, "t2", blame=blame).verdict("slow")
    assert verdict is not None
    assert verdict.reason == "worker_timeout"


def test_a_journal_is_valid_only_for_its_fingerprints(tmp_path: Path) -> None:
    entry = Entry("a", {"id": "a"}, {"trim": [{"start": 0.1 + 0.2, "value": math.nan, "words": []}]})
    Journal(tmp_path / "j", {"trim": "1"}).append(entry)
    found = Journal(tmp_path / "j", {"trim": "1"}).entries()
    assert found["a"].added["trim"][0]["start"] == 0.1 + 0.2
    assert math.isnan(found["a"].added["trim"][0]["value"])
    assert Journal(tmp_path / "j", {"trim": "2"}).entries() == {}
