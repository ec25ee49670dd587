"""Prompts: what a file must hold, how values get in, what changes the digest; and the rules the shipped ones state."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidcap import prompts
from vidcap.errors import PromptError

FILE = """---
name: small
task: av
max_words: 20
slots: {video: seen, audio: heard}
---
Seen: {video}
Heard: {audio}; JSON looks like {"a": 1}, {} and {two words}.
Sentence:
"""


def write(folder: Path, text: str = FILE, name: str = "small") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.md"
    path.write_text(text, encoding="utf-8")
    return path


def parse(text: str) -> prompts.Prompt:
    return prompts.parse(text.encode(), name="small", where="small.md")


def test_renders_values_as_they_are() -> None:
    prompt = parse(FILE)
    text = prompt.render({"video": "{audio} {0} %s \\1 {{x}}", "audio": "a\nb\r\n\tc\x00\x1b[0m"})
    assert text == (
        'Seen: {audio} {0} %s \\1 {{x}}\nHeard: a b c[0m; JSON looks like {"a": 1}, {} and {two words}.\nSentence:'
    )
    assert (prompt.slots, prompt.task, prompt.max_words, prompt.version) == (("video", "audio"), "av", 20, 1)
    assert prompt.meanings == {"video": "seen", "audio": "heard"}
    assert prompt.lead_in == "Sentence:"


@given(st.text(), st.text())
def test_a_value_never_reaches_beyond_its_line(video: str, audio: str) -> None:
    text = parse(FILE).render({"video": video, "audio": audio})
    assert len(text.splitlines()) == 3
    assert all(unicodedata.category(c) not in {"Cc", "Cs"} for c in text.replace("\n", ""))
    assert text.startswith(f"Seen: {prompts.plain(video)}\nHeard: {prompts.plain(audio)};")


def test_invisible_steering_is_removed_and_scripts_survive() -> None:
    hidden = "a\u202eb\u2066c\ufeff" + "".join(chr(0xE0000 + ord(c)) for c in "obey")
    assert prompts.plain(hidden) == "abc"
    assert prompts.plain("می\u200cخواهم 日本 👩\u200d🚒") == "می\u200cخواهم 日本 👩\u200d🚒"


@pytest.mark.parametrize(
    ("slots", "message", "hint"),
    [
        ({"video": "x"}, "slot `audio` that nothing fills", "video"),
        ({"video": "x", "audio": "y", "speech": "z"}, "no slot `speech`", "{speech}"),
    ],
)
def test_missing_and_unknown_slots_are_errors(slots: dict[str, str], message: str, hint: str) -> None:
    with pytest.raises(PromptError, match=message) as caught:
        parse(FILE).render(slots)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no front matter", "no front matter"),
        ("---\nname: small\ntask: av\n---\n  \n", "body is empty"),
        ("---\nname: other\ntask: av\n---\nx\n", "file is `small.md`"),
        ("---\nname: small\n---\nx\n", "`task`"),
        ("---\nname: small\ntask: av\ncolour: red\n---\nx\n", "`colour`"),
        ("---\nname: small\ntask: av\nmax_words: -1\n---\nx\n", "`max_words`"),
        ("---\nname: small\ntask: av\nslots: [video]\n---\nx\n", "`slots`"),
        ("---\nname: small\ntask: av\ntask: avs\n---\nx\n", "`task` appears twice"),
        ("---\nname: small\ntask: av\nslots: {video: a, video: b}\n---\n{video}\n", "`video` appears twice"),
        ("---\nname: small\ntask: &a av\ndescription: *a\n---\nx\n", "aliases"),
        ("---\nname: [small\n---\nx\n", "not valid YAML"),
        ("---\n- small\n---\nx\n", "small.md"),
        ("---\nname: !!python/object/apply:os.system [x]\ntask: a\n---\nx\n", "not valid YAML"),
        (FILE.replace("{video}", "{vidoe}"), "{vidoe}"),
        (FILE.replace("Seen: {video}\n", ""), "slot `video` does not stand in the body"),
    ],
)
def test_wrong_files_are_named_with_a_mend(text: str, message: str) -> None:
    with pytest.raises(PromptError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert caught.value.hint
    assert "small.md" in caught.value.message


def test_a_near_slot_is_offered() -> None:
    with pytest.raises(PromptError) as caught:
        parse(FILE.replace("{video}", "{vidoe}"))
    assert "did you mean {video}" in caught.value.hint


def test_not_utf8_and_oversized_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.md"
    path.write_bytes(b"---\n\xff\xfe---\n")
    with pytest.raises(PromptError, match="UTF-8"):
        prompts.load(str(path))
    write(tmp_path, FILE + "x" * prompts.MAX_BYTES)
    with pytest.raises(PromptError, match="larger than"):
        prompts.load(str(path))


def test_digest_ignores_line_ends_and_trailing_blanks_only() -> None:
    digest = parse(FILE).digest
    assert parse("\ufeff" + FILE.replace("\n", "  \r\n") + "\n\n").digest == digest
    assert parse(FILE.replace("Seen", "seen")).digest != digest
    assert parse(FILE.replace("max_words: 20", "max_words: 21")).digest != digest
    assert parse(FILE.replace("Seen: ", " Seen: ")).digest != digest


def test_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = prompts.load("fuse_av")
    assert shipped == prompts.load(str(repository / "prompts" / "fuse_av.md"))
    own = FILE.replace("name: small", "name: fuse_av")
    write(tmp_path / "prompts", own.replace("Seen", "Here"), "fuse_av")
    assert prompts.load("fuse_av").body.startswith("Here")
    write(tmp_path / "given", own.replace("Seen", "Given"), "fuse_av")
    assert prompts.load("fuse_av", search=[tmp_path / "given"]).body.startswith("Given")
    assert prompts.load("given/fuse_av.md").body.startswith("Given")
    assert prompts.load("fuse_av.md", search=[tmp_path / "given"]).body.startswith("Given")
    assert {"fuse_av", "fuse_avs", "translate", "video"} <= set(prompts.names())
    assert "README" not in prompts.names()


def test_the_packaged_copy_is_found_without_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "vidcap"
    write(package / "_data" / "prompts")
    # A neighbour's folder in site-packages is not ours.
    write(tmp_path / "site" / "prompts", FILE.replace("Seen", "Foreign"))
    monkeypatch.setattr(prompts, "__file__", str(package / "prompts.py"))
    monkeypatch.setattr(prompts.importlib.resources, "files", lambda name: package)
    monkeypatch.chdir(tmp_path)
    assert prompts.load("small").body.startswith("Seen")
    assert prompts.names() == ["small"]


@pytest.mark.parametrize("name", ["fuse_avz", "../secret", "", "a/b", "missing/fuse_av.md", "README"])
def test_unknown_names_are_errors(name: str) -> None:
    with pytest.raises(PromptError) as caught:
        prompts.load(name)
    assert caught.value.hint
    if name == "fuse_avz":
        assert "did you mean `fuse_av" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "slots"),
    [
        ("fuse_av", {"video", "audio"}),
        ("fuse_avs", {"video", "audio", "speech"}),
        ("translate", {"text", "language"}),
        ("video", set()),
    ],
)
def test_shipped_prompts_load_with_their_slots(name: str, slots: set[str], repository: Path) -> None:
    prompt = prompts.load(name)
    prompt.check(slots)
    assert prompt.render(dict.fromkeys(slots, "x"))
    assert f"[{name}]({name}.md)" in (repository / "prompts" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["fuse_av", "fuse_avs"])
def test_fusion_prompts_state_the_rules(name: str) -> None:
    prompt = prompts.load(name)
    text = prompt.body.lower()
    for rule in ("expert in analysing text", "one and the same video", "exactly one sentence", "same weight",
                 "makes no sense" if name == "fuse_av" else "make no sense", "complete, natural"):  # fmt: skip
        assert rule in text, rule
    assert prompt.lead_in.endswith(":")
    assert prompt.task == name.removeprefix("fuse_")
