"""README.md and DATA_CARD.md beside the shards: front matter, what is said of models and licences, equal bytes."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import shard_factory as factory
import yaml

from vidcap.shards.card import features, size_category, write_cards
from vidcap.shards.data_card import Recipe, code, plain
from vidcap.shards.licences import front_licence, hub_licence, limits_of
from vidcap.shards.model_licences import licence_of, used_models
from vidcap.shards.statistics import Statistics, statistics_of
from vidcap.shards.writer import ShardInfo

EMBEDDED = Recipe(
    backends={"caption_video": "descriptor: descriptor@1", "fuse": "template: template@1"},
    prompts={"fuse.avs": "fuse_avs@0123456789abcdef"},
    stages={"caption_video": 1, "fuse": 2, "select": 1},
    options={"select": {"by": "primary", "min": 0.2}},
    seed=17,
    embedded=True,
)
BORROWED = Recipe(
    backends={
        "transcribe": "whisper: large-v2@abc",
        "translate": "seamless: seamless-m4t-medium@1 {}",
        "fuse": "x: y@1",
    },
    stages={"transcribe": 1, "translate": 1, "fuse": 1},
)


def cards(folder: Path, recipe: Recipe, statistics: Statistics | None = None) -> tuple[dict[str, object], str, str]:
    """Front matter, README and data card of three samples."""
    shards = factory.write_run(folder, 3)
    write_cards(folder, "demo", shards, flac=False, recipe=recipe, statistics=statistics)
    readme = (folder / "README.md").read_text()
    _, front, body = readme.split("---\n", 2)
    return yaml.safe_load(front), body, (folder / "DATA_CARD.md").read_text()


def test_front_matter_says_what_the_hub_asks(tmp_path: Path) -> None:
    front, body, _ = cards(tmp_path, EMBEDDED)
    assert front["license"] == "cc0-1.0"
    assert front["language"] == ["en"]
    assert front["size_categories"] == ["n<1K"]
    assert front["task_categories"] == ["video-text-to-text", "text-to-video"]
    assert front["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": "*.tar"}]}]
    info = front["dataset_info"]
    assert isinstance(info, dict)
    assert info["features"] == features(flac=False)
    assert info["splits"][0]["num_examples"] == 3
    assert "3 samples in 1 shard" in body
    assert "DATA_CARD.md" in body


def test_the_card_says_what_is_in_and_what_made_it(tmp_path: Path) -> None:
    _, _, card = cards(tmp_path, EMBEDDED)
    assert "| clips | 3 |" in card
    assert "| CC0-1.0 | 1 | 3 |" in card  # three clips of one source
    assert "`fuse_avs@0123456789abcdef`" in card
    assert '`{"by": "primary", "min": 0.2}`' in card
    assert "| `v` | what is seen | 3 | 3 |" in card
    assert "Embedded captions state what was measured" in card
    assert "Not for commercial use" not in card
    assert "sizes.json" in card


def test_a_non_commercial_model_is_stated_first_and_in_the_front_matter(tmp_path: Path) -> None:
    front, _, card = cards(tmp_path, BORROWED)
    assert front["license"] == ["cc-by-nc-4.0", "cc0-1.0"]
    warning = card.index("Not for commercial use as it stands")
    assert warning < card.index("## Composition")
    assert "SeamlessM4T" in card[warning : warning + 300]
    assert "Licence not known here:** `x: y@1`" in card
    assert "Embedded captions" not in card


def test_equal_samples_have_equal_cards_without_a_clock_or_a_path(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    cards(first, EMBEDDED)
    cards(second, EMBEDDED)
    for name in ("README.md", "DATA_CARD.md"):
        data = (first / name).read_bytes()
        assert data == (second / name).read_bytes()
        assert str(tmp_path).encode() not in data
        assert not re.search(rb"\b20\d\d-\d\d-\d\d|\b\d\d:\d\d:\d\d", data)


def test_no_samples_give_cards_too(tmp_path: Path) -> None:
    write_cards(tmp_path, "demo", [], flac=False, recipe=EMBEDDED)
    front = yaml.safe_load((tmp_path / "README.md").read_text().split("---\n")[1])
    assert "license" not in front
    assert "nan" not in (tmp_path / "DATA_CARD.md").read_text()


def test_a_licence_of_others_stays_text_in_its_cell(tmp_path: Path) -> None:
    statistics = statistics_of([])
    evil = "MIT | <script>alert(1)</script>\n# heading [x](javascript:y) `tick`"
    statistics.counts["source licences"][evil] = 1
    statistics.counts["sample licences"][evil] = 1
    front, _, card = cards(tmp_path, EMBEDDED, statistics)
    (line,) = (line for line in card.splitlines() if "MIT" in line and "alert" in line)
    assert "<script" not in line
    assert re.sub(r"\\.", "", line).count("|") == 4
    assert "](" not in line
    assert front["license"] == "other"
    assert front["license_link"] == "DATA_CARD.md"


def test_code_cannot_be_left() -> None:
    assert code("a`b|c\n# d") == "`a'b\\|c # d`"
    assert plain("a\u202eb\x00c") == "a b c"


@pytest.mark.parametrize(
    ("samples", "category"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (9999, "1K<n<10K"),
        (10000, "10K<n<100K"),
        (60000000, "10M<n<100M"),
        (999999999999, "100B<n<1T"),
        (10**12, "n>1T"),
        (10**15, "n>1T"),
    ],
)
def test_size_categories_are_the_hubs(samples: int, category: str) -> None:
    assert size_category(samples) == category


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("CC BY 4.0", "cc-by-4.0"),
        ("CC-BY-NC-SA-4.0", "cc-by-nc-sa-4.0"),
        ("CC0 1.0", "cc0-1.0"),
        ("cc0", "cc0-1.0"),
        ("MIT", "mit"),
        ("", "unknown"),
        ("  ", "unknown"),
        ("my own", "other"),
        ("CC BY 9.9", "other"),
        ("CC BY", "other"),
    ],
)
def test_licences_get_the_hubs_identifiers(text: str, identifier: str) -> None:
    assert hub_licence(text) == identifier


def test_several_licences_make_a_list() -> None:
    assert front_licence(Counter({"MIT": 1, "": 2}), []) == {"license": ["mit", "unknown"]}
    assert front_licence([], []) == {}


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("CC BY-NC 4.0", 1),
        ("CC-BY-NC-ND-4.0", 2),
        ("non commercial", 1),
        ("no derivatives", 1),
        ("France Ltd", 0),
        ("MIT", 0),
    ],
)
def test_a_licences_name_may_exclude_things(text: str, limits: int) -> None:
    assert len(limits_of(text)) == limits


@pytest.mark.parametrize(
    ("identity", "licence", "noncommercial"),
    [
        ("seamless: facebook/hf-seamless-m4t-medium@1/fp16", "CC-BY-NC-4.0", True),
        ("openai: lmsys/vicuna-7b-v1.5", "Llama 2 Community License", False),
        ("whisper: large-v2@81f7c96", "MIT", False),
        ("fasttext: lid.176.ftz@8f34/fasttext-predict-0.9", "CC-BY-SA-3.0", False),
        ("fasttext: facebook/fasttext-language-identification", "CC-BY-NC-4.0", True),
        ("clip: ViT-L-14/openai@x", "MIT", False),
        ("descriptor: descriptor@3", "Apache-2.0", False),
        ("mine: descriptor-like@3", "unknown", False),
    ],
)
def test_models_are_known_by_their_identity(identity: str, licence: str, noncommercial: bool) -> None:
    found = licence_of(identity)
    assert found.licence == licence
    assert found.noncommercial == noncommercial


def test_a_stage_with_two_models_has_two_licences() -> None:
    used = used_models({"translate": "seamless: m4t@1 + openai: vicuna-7b"})
    assert [model.licence.hub for model in used] == ["cc-by-nc-4.0", "llama2"]


def test_statistics_add_up_in_any_order(tmp_path: Path) -> None:
    infos: list[tuple[Path, ShardInfo]] = []
    for part, source in enumerate(("aaaa", "bbbb", "cccc")):
        folder = tmp_path / source
        infos += [(folder, info) for info in factory.write_run(folder, part + 1, part=part, source=source)]
    pieces = [statistics_of([(folder / info.name).with_suffix(".parquet")]) for folder, info in infos]
    forward, backward = Statistics(), Statistics()
    for piece in pieces:
        forward.merge(Statistics.from_bytes(piece.to_bytes()))
    for piece in reversed(pieces):
        backward.merge(piece)
    assert forward.to_bytes() == backward.to_bytes()
    assert forward.counts["samples"]["all"] == 6
    assert forward.counts["sources"]["all"] == 3
    assert forward.tally("words|s").total == 6
    assert forward.tally("words|s").quantile(0.5) == 3.0
