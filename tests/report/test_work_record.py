"""Seconds of work outlive a crash, and stand where no shard or fingerprint can see them."""

from __future__ import annotations

import json
from pathlib import Path

from vidcap.pipeline.journal import Entry, Journal
from vidcap.pipeline.ledger import Ledger, Record


def test_the_journal_keeps_the_work_of_each_source(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", {"decode": "f"})
    journal.append(Entry("a", {"id": "a"}, {}, {"decode": (1.5, 1.25)}))
    assert tuple(journal.entries()["a"].work["decode"]) == (1.5, 1.25)


def test_a_journal_of_before_has_no_work(tmp_path: Path) -> None:
    line = {"source": "a", "fingerprints": {"decode": "f"}, "row": None, "added": {}}
    (tmp_path / "journal.jsonl").write_text(json.dumps(line) + "\n")
    assert Journal(tmp_path / "journal.jsonl", {"decode": "f"}).entries()["a"].work == {}


def test_a_record_of_before_has_no_processor_time(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.commit(Record(0, "decode", 1, "f", {}, {}, seconds=2.0, cpu_seconds=1.0))
    path = tmp_path / "_vidcap" / "ledger" / "000000.decode.json"
    old = json.loads(path.read_text())
    assert old.pop("cpu_seconds") == 1.0
    path.write_text(json.dumps(old))
    record = ledger.get(0, "decode")
    assert record is not None
    assert (record.seconds, record.cpu_seconds) == (2.0, 0.0)
