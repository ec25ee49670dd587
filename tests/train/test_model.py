"""All losses of a model against references of the samples they are of; what learns, what does not, what it embeds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tiny_models.stage2 import batch_of, config_of, model_of

from vidcap.errors import UsageError
from vidcap.seeds import seed_of

pytestmark = pytest.mark.full
EVERYTHING = [{"media": "v", "text": "v"}, {"media": "a", "text": "avs"}, {"media": "av", "text": "avs"}]
NAMES = {"vtc", "vtm", "mlm", "atc", "atm", "amlm", "avtc", "avtm", "avmlm", "avc"}


@pytest.fixture(scope="module", autouse=True)
def torch() -> Iterator[Any]:
    module = pytest.importorskip("torch")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


def spec_of(pairs: Any = EVERYTHING, **more: Any) -> Any:
    from vidcap.train.losses import LossSpec

    return LossSpec.model_validate({"pairs": pairs, "avc": 1.0, **more})


def losses_of(torch: Any, model: Any, batch: Any, spec: Any, **more: Any) -> dict[str, float]:
    found = model.losses(batch, spec, generator=torch.Generator().manual_seed(5), **more)
    return {name: float(value.detach()) for name, value in found.items()}


def half_silent(torch: Any, batch: Any) -> Any:
    """Every other sample loses its sound, as batches have it: zeros."""
    sounding = torch.arange(len(batch.index)) % 2 == 0
    return replace(batch, has_audio=sounding, fbank=torch.where(sounding[:, None, None], batch.fbank, 0.0))


def double(model: Any, batch: Any) -> tuple[Any, Any]:
    fbank = None if batch.fbank is None else batch.fbank.double()
    return model.double(), replace(batch, frames=batch.frames.double(), fbank=fbank)


class Reference:
    """Each loss by itself, in loops over the samples that it is of, which are encoded one by one."""

    def __init__(self, torch: Any, model: Any, batch: Any) -> None:
        self.torch, self.model, self.batch = torch, model, batch
        self.begin = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(5)))

    def stream(self, name: str) -> Any:
        return self.torch.Generator().manual_seed(seed_of(self.begin, name, "loss"))

    def media(self, row: int, media: str) -> tuple[Any, Any]:
        model, torch, features, tokens = self.model, self.torch, [], []
        for letter in sorted(media, key="asv".index):
            if letter == "a":
                heard = model.audio_encoder(self.batch.fbank[row : row + 1])
                features.append(model.audio_proj(heard[0].mean(0)))
                tokens.append(model.av_concat_audio_proj(heard[0]))
            elif letter == "v":
                seen = model.vision_encoder(self.batch.frames[row : row + 1])
                features.append(model.vision_proj(seen.pooled[0]))
                tokens.append(model.av_concat_vision_proj(seen.tokens[0]) if "av_concat_vision_proj.0.weight"
                              in model.state_dict() else seen.tokens[0])  # fmt: skip
            else:
                hidden = self.text(row, "s")
                features.append(model.text_proj(hidden[0]))
                tokens.append(model.av_concat_subtitle_proj(hidden))
        if len(media) > 1:
            features = [getattr(model, f"{media}_fusion")(torch.cat(features))]
        return features[0], torch.cat(tokens)

    def text(self, row: int, kind: str, ids: Any = None) -> Any:
        """Without its filling."""
        length = int(self.batch.text_masks[kind][row].sum())
        ids = self.batch.texts[kind][row] if ids is None else ids
        return self.model.text_encoder(ids[None, :length], self.torch.ones(1, length, dtype=self.torch.bool))[0]

    def fused(self, hidden: Any, tokens: Any) -> Any:
        mask = self.torch.ones(1, len(hidden), dtype=self.torch.bool)
        return self.model.text_encoder(hidden[None], mask, tokens[None], mode="fusion")[0]

    def contrast(self, ones: list[Any], others: list[Any], rows: list[int]) -> float:
        def unit(value: Any) -> Any:
            return value / value.square().sum().sqrt()

        total, index = 0.0, self.batch.index.tolist()
        for asked, answers in ((ones, others), (others, ones)):
            for at, row in enumerate(rows):
                logits = [float(unit(asked[at]) @ unit(each) / self.model.temp) for each in answers]
                top = math.log(sum(math.exp(each) for each in logits))
                same = [k for k, other in enumerate(rows) if index[other] == index[row]]
                total -= sum(logits[k] - top for k in same) / len(same)
        return total / len(rows) / 2

    def tc(self, media: str, kind: str, rows: list[int]) -> float:
        features = [self.model.text_proj(self.text(row, kind)[0]) for row in rows]
        return self.contrast([self.media(row, media)[0] for row in rows], features, rows)

    def tm(self, name: str, media: str, kind: str, rows: list[int], head: str) -> float:
        torch, index = self.torch, self.batch.index.tolist()
        draws = torch.rand(2, len(index), generator=self.stream(name), dtype=torch.float64)
        seen, read = {row: self.media(row, media) for row in rows}, {row: self.text(row, kind) for row in rows}
        told = {row: self.model.text_proj(read[row][0]) for row in rows}

        def alike(medium: int, text: int) -> float:
            cosine = torch.nn.functional.cosine_similarity(seen[medium][0], told[text], dim=0)
            return float(cosine / self.model.temp)

        def wrong(row: int, scores: dict[int, float], draw: float) -> int:
            every = sum(math.exp(each) for each in scores.values())
            weights = {o: math.exp(each) / every + 1e-4 for o, each in scores.items() if index[o] != index[row]}
            left = draw * sum(weights.values())
            for other, weight in weights.items():
                if left < weight:
                    return other
                left -= weight
            return other

        total, count = 0.0, 0
        for row in rows:
            if all(index[other] == index[row] for other in rows):
                continue
            medium = wrong(row, {other: alike(other, row) for other in rows}, float(draws[0, row]))
            text = wrong(row, {other: alike(row, other) for other in rows}, float(draws[1, row]))
            for m, t, label in ((row, row, 1), (medium, row, 0), (row, text, 0)):
                logits = getattr(self.model, head)(self.fused(read[t], seen[m][1])[0])
                total -= float(logits.log_softmax(0)[label])
                count += 1
        return total / count

    def mlm(self, name: str, media: str, kind: str, rows: list[int]) -> float:
        from vidcap.train.losses import hidden_words

        ids, chosen = hidden_words(
            self.batch.texts[kind], 0.5, self.stream(name), mask_id=4, vocabulary=60, spared=(0, 2)
        )
        total, count = 0.0, 0
        for row in rows:
            fused = self.fused(self.text(row, kind, ids[row]), self.media(row, media)[1])
            logits = self.model.text_encoder.words(fused).log_softmax(-1)
            for at in chosen[row].nonzero().flatten().tolist():
                total -= float(logits[at, self.batch.texts[kind][row, at]])
                count += 1
        return total / count


@pytest.mark.parametrize("silent", [False, True])
def test_each_loss_is_that_of_the_samples_it_is_of(torch: Any, silent: bool) -> None:
    model, batch = double(model_of(matching_heads=("v", "a", "av")), batch_of())
    batch.text_valid["avs"][5] = False
    batch.text_valid["v"][1] = False
    if silent:
        batch = half_silent(torch, batch)
    with torch.no_grad():
        found = losses_of(torch, model, batch, spec_of())
        plain = Reference(torch, model, batch)
        sounding = [row for row in range(6) if batch.has_audio[row]]
        told = [row for row in sounding if batch.text_valid["avs"][row]]
        seen = [row for row in range(6) if batch.text_valid["v"][row]]
        expected = {
            "vtc": plain.tc("v", "v", seen),
            "vtm": plain.tm("vtm", "v", "v", seen, "itm_head"),
            "mlm": plain.mlm("mlm", "v", "v", seen),
            "atc": plain.tc("a", "avs", told),
            "atm": plain.tm("atm", "a", "avs", told, "atm_head"),
            "amlm": plain.mlm("amlm", "a", "avs", told),
            "avtc": plain.tc("av", "avs", told),
            "avtm": plain.tm("avtm", "av", "avs", told, "avtm_head"),
            "avmlm": plain.mlm("avmlm", "av", "avs", told),
            "avc": plain.contrast(
                [plain.media(row, "a")[0] for row in sounding], [plain.media(row, "v")[0] for row in sounding], sounding
            ),
        }
    assert set(found) == NAMES
    assert found == pytest.approx(expected, rel=1e-5)


def test_sound_that_is_missing_changes_nothing_of_picture_and_text(torch: Any) -> None:
    model, batch = model_of(matching_heads=("v", "a", "av")), batch_of()
    whole, half = (losses_of(torch, model, each, spec_of()) for each in (batch, half_silent(torch, batch)))
    for name in ("vtc", "vtm", "mlm"):
        assert whole[name] == half[name]
    for name in NAMES - {"vtc", "vtm", "mlm"}:
        assert whole[name] != half[name]


def test_what_stands_in_place_of_missing_sound_or_text_counts_for_nothing(torch: Any) -> None:
    model, batch = model_of(), half_silent(torch, batch_of())
    batch.text_valid["avs"][0] = False
    noise = torch.where(batch.has_audio[:, None, None], batch.fbank, 100.0)
    ids = batch.texts["avs"].clone()
    ids[0, 1:] = 7
    other = replace(batch, fbank=noise, texts=batch.texts | {"avs": ids})
    pairs = [{"media": "av", "text": "avs"}]
    assert losses_of(torch, model, batch, spec_of(pairs)) == losses_of(torch, model, other, spec_of(pairs))


def test_losses_without_a_sample_are_absent(torch: Any) -> None:
    model, batch = model_of(matching_heads=("v", "a", "av")), batch_of()
    silent = replace(batch, has_audio=torch.zeros(6, dtype=torch.bool))
    assert set(losses_of(torch, model, silent, spec_of())) == {"vtc", "vtm", "mlm"}
    batch.text_valid["avs"][:] = False
    assert set(losses_of(torch, model, batch, spec_of())) == {"vtc", "vtm", "mlm", "avc"}
    alike = replace(batch_of(), index=torch.zeros(6, dtype=torch.long))
    assert set(losses_of(torch, model, alike, spec_of())) == NAMES - {"vtm", "atm", "avtm"}
    assert set(losses_of(torch, model, batch_of(3, "video"), spec_of())) == {"vtc", "vtm", "mlm"}
    assert set(losses_of(torch, model, batch_of(3, "audio"), spec_of())) == {"atc", "atm", "amlm"}
    assert set(losses_of(torch, model, batch_of(3, "image"), spec_of())) == {"vtc", "vtm", "mlm"}
    empty = batch_of(3, "video", kinds="s")
    assert losses_of(torch, model, empty, spec_of()) == {}


def test_an_unreadable_row_makes_no_number_worthless(torch: Any) -> None:
    model, batch = model_of(), batch_of()
    for kind in batch.texts:
        batch.texts[kind][1], batch.text_masks[kind][1], batch.text_valid[kind][1] = 0, False, False
    batch.has_audio[1] = False
    mask = model.embed_text(batch.texts["avs"], batch.text_masks["avs"])["mask"]
    assert mask[1].tolist() == [True] + [False] * 7  # attention always has something to look at
    model.train()
    found = model.losses(batch, spec_of([{"media": "av", "text": "avs"}]), generator=torch.Generator())
    sum(found.values()).backward()
    assert all(bool(value.isfinite()) for value in found.values())
    assert all(bool(value.grad.isfinite().all()) for value in model.parameters() if value.grad is not None)


def test_what_is_drawn_for_one_loss_depends_on_no_other(torch: Any) -> None:
    from vidcap.models.masking import MaskSpec

    model, batch = model_of(matching_heads=("v", "a", "av")), batch_of()
    every = losses_of(torch, model, batch, spec_of(), vision_mask=MaskSpec())
    assert every == losses_of(torch, model, batch, spec_of(), vision_mask=MaskSpec())
    alone = losses_of(torch, model, batch, spec_of(EVERYTHING[2:], avc=0), vision_mask=MaskSpec())
    assert alone == {name: every[name] for name in ("avtc", "avtm", "avmlm")}
    assert every["vtc"] != losses_of(torch, model, batch, spec_of())["vtc"]


def test_speech_as_a_medium(torch: Any) -> None:
    model, batch = double(model_of(speech=True), batch_of())
    batch.text_valid["s"][[1, 3]] = False
    pairs = [{"media": "vs", "text": "v"}, {"media": "avs", "text": "avs"}]
    rows = [0, 2, 4, 5]
    with torch.no_grad():
        found = losses_of(torch, model, batch, spec_of(pairs, avc=0))
        plain = Reference(torch, model, batch)
        expected = {}
        for media, kind in (("vs", "v"), ("avs", "avs")):
            expected[f"{media}tc"] = plain.tc(media, kind, rows)
            expected[f"{media}tm"] = plain.tm(f"{media}tm", media, kind, rows, f"{media}tm_head")
            expected[f"{media}mlm"] = plain.mlm(f"{media}mlm", media, kind, rows)
    assert found == pytest.approx(expected, rel=1e-5)


def test_picture_and_text_alone(torch: Any) -> None:
    model, batch = double(model_of(fuse_audio=False), batch_of(4, "video"))
    with torch.no_grad():
        found = losses_of(torch, model, batch, spec_of([{"media": "v", "text": "v"}], avc=0))
        plain = Reference(torch, model, batch)
        assert found["vtc"] == pytest.approx(plain.tc("v", "v", [0, 1, 2, 3]), rel=1e-6)
        assert found["vtm"] == pytest.approx(plain.tm("vtm", "v", "v", [0, 1, 2, 3], "itm_head"), rel=1e-6)
        assert found["mlm"] == pytest.approx(plain.mlm("mlm", "v", "v", [0, 1, 2, 3]), rel=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_a_teacher_is_followed_at_what_is_seen(torch: Any, masked: bool) -> None:
    from vidcap.models.masking import MaskSpec
    from vidcap.train.model import Teacher

    heads = {"teacher_layers": 2, "teacher_width": 10, "teacher_pooled": 6}
    model, batch = model_of(vision=heads), batch_of(4, "video")
    batch.text_valid["v"][1] = batch.text_valid["avs"][1] = batch.text_valid["s"][1] = False
    generator = torch.Generator().manual_seed(9)
    teacher = Teacher(torch.randn(2, 4, 28, 10, generator=generator), torch.randn(4, 6, generator=generator))
    mask = MaskSpec() if masked else None
    spec = spec_of([{"media": "v", "text": "v"}], avc=0, uta=1.0)
    found = losses_of(torch, model, batch, spec, vision_mask=mask, teacher=teacher)
    begin = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(5)))
    keep = None
    if masked:
        from vidcap.models.masking import kept

        keep = kept(4, 3, 9, MaskSpec(), torch.Generator().manual_seed(seed_of(begin, "vision", "mask")))
        assert keep.shape == (4, 6)
    with torch.no_grad():
        seen = model.vision_encoder(batch.frames, keep, for_teacher=True)
    middle = last = 0.0
    cosine = torch.nn.functional.cosine_similarity
    for row in (0, 2, 3):
        places = [0, *(1 + p for p in (keep[row].tolist() if masked else range(27)))]
        for layer in range(2):
            pairs = zip(seen.compared[layer][row], teacher.layers[layer, row, places], strict=True)
            middle += sum(2 - 2 * float(cosine(s, t, dim=0)) for s, t in pairs) / len(places) / 6
        last += (2 - 2 * float(cosine(seen.compared_pooled[row], teacher.pooled[row], dim=0))) / 3
    assert found["uta"] == pytest.approx(middle + last, rel=1e-5)
    with pytest.raises(UsageError, match="teacher"):
        losses_of(torch, model, batch, spec)


def gradients(torch: Any, model: Any, name: str, spec: Any) -> set[str]:
    """Parts of the model that the loss moves."""
    model.zero_grad(set_to_none=True)
    model.losses(batch_of(), spec, generator=torch.Generator().manual_seed(5))[name].backward()
    moved = set()
    for key, value in model.named_parameters():
        if value.grad is not None and bool(value.grad.any()):
            layer = key.split(".layer.")
            fusion = len(layer) > 1 and int(layer[1].split(".")[0]) >= 2
            moved.add("fusion" if fusion else "cls" if ".cls." in key else key.split(".")[0])
    return moved


def test_gradients_flow_where_they_should(torch: Any) -> None:
    model, spec = model_of(matching_heads=("v", "a", "av")), spec_of()
    picture, sound, text = "vision_encoder", "audio_encoder", "text_encoder"
    seen, heard = {picture, "av_concat_vision_proj"}, {sound, "av_concat_audio_proj"}
    expected = {
        "vtc": {picture, "vision_proj", text, "text_proj", "temp"},
        "atc": {sound, "audio_proj", text, "text_proj", "temp"},
        "avtc": {picture, "vision_proj", sound, "audio_proj", "av_fusion", text, "text_proj", "temp"},
        "avc": {picture, "vision_proj", sound, "audio_proj", "temp"},
        "vtm": {*seen, text, "fusion", "itm_head"},
        "atm": {*heard, text, "fusion", "atm_head"},
        "avtm": {*seen, *heard, text, "fusion", "avtm_head"},
        "mlm": {*seen, text, "fusion", "cls"},
        "amlm": {*heard, text, "fusion", "cls"},
        "avmlm": {*seen, *heard, text, "fusion", "cls"},
    }
    assert {name: gradients(torch, model, name, spec) for name in expected} == expected


class TestFreezing:
    def one_step(self, torch: Any, model: Any) -> set[str]:
        """Names of the parameters that are not bit for bit as before."""
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        optimiser = torch.optim.AdamW([v for v in model.parameters() if v.requires_grad], lr=0.01, weight_decay=0.1)
        sum(model(batch_of(), spec_of(), generator=torch.Generator()).values()).backward()
        optimiser.step()
        return {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}

    def test_frozen_parts_stay_bit_for_bit(self, torch: Any) -> None:
        for part, attribute in (("audio", "audio_encoder"), ("vision", "vision_encoder")):
            model = model_of(matching_heads=("v", "a", "av"))
            model.freeze([part])
            with torch.random.fork_rng(devices=[]):
                changed = self.one_step(torch, model.train())
            assert not [name for name in changed if name.startswith(f"{attribute}.")]
            others = {"vision_encoder", "audio_encoder", "text_encoder", "temp", "av_fusion"} - {attribute}
            assert others <= {name.split(".")[0] for name in changed}

    def test_keys_inside_may_learn(self, torch: Any) -> None:
        model = model_of(matching_heads=("v", "a", "av"))
        model.freeze(["vision"], ["vision_encoder.clip_projector"])
        changed = {name for name in self.one_step(torch, model.train()) if name.startswith("vision_encoder.")}
        assert changed and all(name.startswith("vision_encoder.clip_projector.") for name in changed)

    def test_frozen_parts_drop_nothing(self, torch: Any) -> None:
        model = model_of(vision={"drop_path": 0.5})
        model.freeze(["vision_encoder"])
        model.train()
        assert not model.vision_encoder.blocks[1].training and model.text_encoder.training

    def test_names_that_are_none(self, torch: Any) -> None:
        model = model_of(fuse_audio=False)
        with pytest.raises(UsageError, match="no part `audio`"):
            model.freeze(["audio"])
        with pytest.raises(UsageError, match=r"`vision_encoder\.clip`"):
            model.freeze(["vision"], ["vision_encoder.clip"])


def test_the_temperature_is_kept_in_its_bounds(torch: Any) -> None:
    model, spec = model_of(), spec_of([{"media": "v", "text": "v"}], avc=0)
    assert model.temp.item() == pytest.approx(0.07) and model.temp.shape == ()
    for value, kept in ((-1.0, 0.001), (3.0, 0.5), (0.2, 0.2)):
        with torch.no_grad():
            model.temp.fill_(value)
        found = losses_of(torch, model, batch_of(3, "video"), spec)
        assert model.temp.item() == pytest.approx(kept) and math.isfinite(found["vtc"])


def test_losses_a_model_cannot_have_are_refused(torch: Any) -> None:
    batch = batch_of(3, "video")
    for model, spec, message in (
        (model_of(fuse_audio=False), spec_of(EVERYTHING[2:], avc=0), "`avtc`.*does not know"),
        (model_of(fuse_audio=False), spec_of(EVERYTHING[:1]), "`avc`"),
        (model_of(), spec_of([{"media": "vs"}]), "`vstc`"),
        (model_of(), spec_of(), "`atm` needs a head"),
        (model_of(), spec_of(EVERYTHING[:1], uta=1), "`uta`"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            losses_of(torch, model, batch, spec)
        assert caught.value.hint


class TestEmbedding:
    def test_what_is_fused_and_matched_is_what_is_trained(self, torch: Any) -> None:
        model, batch = double(model_of(), batch_of(4))
        with torch.no_grad():
            plain = Reference(torch, model, batch)
            media, text = model.embed_media(batch), model.embed_text(batch.texts["avs"], batch.text_masks["avs"])
            assert media["media"] == "av"
            answers = model.match(text["hidden"], text["mask"], media["tokens"], "av", media["mask"])
            for row in range(4):
                features, tokens = plain.media(row, "av")
                hidden = plain.text(row, "avs")
                assert torch.allclose(media["features"][row], torch.nn.functional.normalize(features, dim=0))
                told = torch.nn.functional.normalize(model.text_proj(hidden[0]), dim=0)
                assert torch.allclose(text["features"][row], told)
                logits = model.avtm_head(plain.fused(hidden, tokens)[0])
                assert float(answers[row]) == pytest.approx(float(logits[1]), rel=1e-5)

    def test_a_clip_without_sound_is_its_picture(self, torch: Any) -> None:
        model, batch = model_of(), half_silent(torch, batch_of(4))
        with torch.no_grad():
            both, picture = model.embed_media(batch), model.embed_media(batch, "v")
            ids, mask = batch.texts["v"], batch.text_masks["v"]
            text = model.embed_text(ids, mask)
            fused = model.match_both(text["hidden"], text["mask"], both["tokens"], "av", both["mask"])
            alone = model.match_both(text["hidden"], text["mask"], picture["tokens"], "av", picture["mask"])
        same = [torch.allclose(one, other) for one, other in zip(both["features"], picture["features"], strict=True)]
        assert same == [False, True, False, True]
        assert [torch.allclose(one, other, atol=1e-5) for one, other in zip(fused, alone, strict=True)] == same

    def test_the_medium_follows_the_batch(self, torch: Any) -> None:
        model = model_of()
        for media_type, media in (("image", "v"), ("video", "v"), ("audio", "a"), ("audio_video", "av")):
            with torch.no_grad():
                found = model.embed_media(batch_of(2, media_type))
            assert found["media"] == media
            assert found["features"].norm(dim=1).tolist() == pytest.approx([1.0, 1.0], rel=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"vision": {"wide": 3}}, "wide"),
        ({"vision": {"width": 40}}, "40 wide"),
        ({"image_size": 15}, "15 pixels"),
        ({"text": {"fusion_layer": 3}}, "fusion_layer"),
        ({"max_text": 17}, "max_text"),
        ({"matching_heads": ("v", "vs")}, "vs needs"),
        ({"vocab_size": 10, "mask_id": 30}, "vocab_size"),
        ({"sise": "B"}, "sise"),
    ],
)
def test_sizes_that_fit_nothing_are_refused(torch: Any, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_of(**changed)
