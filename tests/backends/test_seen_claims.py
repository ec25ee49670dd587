"""What is measured and said of the camera, of faces and of writing, and what of their absence is not."""

from __future__ import annotations

import numpy as np
import pytest
from clip_views import clip
from seen_things import HEIGHT, WIDTH, Picture, clutter, face, fence, filmed, written

from vidcap.backends import registry
from vidcap.backends.embedded.claim_parser import parse
from vidcap.backends.embedded.claims import Claim, stated
from vidcap.backends.embedded.measure_camera import CAMERA_FIELDS, measure_camera
from vidcap.backends.embedded.measure_faces import FACE_FIELDS, measure_faces
from vidcap.backends.embedded.measure_picture import VIDEO_FIELDS, measure_picture
from vidcap.backends.embedded.measure_text import TEXT_FIELDS, lines, logit_of, measure_text


def claimed(frames: list[Picture], *types: str) -> set[str]:
    """The values of these types that are stated of the frames."""
    vector = measure_picture(frames, [0.5 * i for i in range(len(frames))])
    measures = dict(zip(VIDEO_FIELDS, map(float, vector), strict=True))
    return {claim.value for claim in stated(measures, "video") if claim.type in types}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (lambda u: (0.6 * u, 0, 0), {"pan right", "moving"}),
        (lambda u: (-0.6 * u, 0, 0), {"pan left", "moving"}),
        (lambda u: (0, 0.6 * u, 0), {"tilt up", "moving"}),
        (lambda u: (0, -0.6 * u, 0), {"tilt down", "moving"}),
        (lambda u: (0, 0, 0.5 * u), {"zoom in", "moving"}),
        (lambda u: (0, 0, -0.5 * u), {"zoom out", "moving"}),
        (lambda u: (0, 0, 0), {"static"}),
        (lambda u: (0.3 * np.sin(6.28 * u), 0, 0), {"moving"}),
        (lambda u: (0.5 * u, 0.9 * u, 0), {"moving"}),
    ],
    ids=["right", "left", "up", "down", "in", "out", "stands", "sways", "aslant"],
)
def test_the_way_of_the_camera_is_said(where: object, expected: set[str]) -> None:
    assert claimed(filmed(where), "camera") == expected  # type: ignore[arg-type]  # lambdas of the table above


def test_what_moves_before_a_standing_camera_is_not_the_camera() -> None:
    frames = filmed(lambda u: (0, 0, 0))
    patch = clutter(5)[:90, :100].astype(np.uint8)
    for i, frame in enumerate(frames):
        frame[40:130, 20 + 24 * i : 120 + 24 * i] = patch
    assert claimed(frames, "camera") == {"static"}


def test_an_actor_before_a_plain_wall_is_not_the_camera() -> None:
    patch = clutter(5)[:150, :130].astype(np.uint8)
    frames = [np.full((HEIGHT, WIDTH, 3), 150, np.uint8) for _ in range(8)]
    for i, frame in enumerate(frames):
        frame[30:, 60 + 8 * i : 190 + 8 * i] = patch
    assert claimed(frames, "camera") == set()


def test_a_camera_too_slow_for_neighbouring_frames_is_not_static() -> None:
    frames = filmed(lambda u: (0.018 * u, 0, 0), count=16)
    assert "static" not in claimed(frames, "camera")


def test_a_caption_laid_over_does_not_hold_the_camera() -> None:
    frames = [written("words that stand still", 0.92, frame) for frame in filmed(lambda u: (0.6 * u, 0, 0))]
    assert claimed(frames, "camera") == {"pan right", "moving"}


@pytest.mark.parametrize(
    "frames",
    [
        [np.random.default_rng(i).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8) for i in range(6)],
        [np.full((HEIGHT, WIDTH, 3), 90 + i, np.uint8) for i in range(6)],
        filmed(lambda u: (0.6 * u, 0, 0), count=2),
    ],
    ids=["other pictures", "nothing to see", "two glances"],
)
def test_an_unknown_camera_is_left_open(frames: list[Picture]) -> None:
    assert np.isnan(measure_camera(frames)).all()
    assert claimed(frames, "camera") == set()


def test_a_face_is_counted_placed_and_measured() -> None:
    for across, place in ((0.25, "left"), (0.5, "middle"), (0.75, "right")):
        found = dict(zip(FACE_FIELDS, measure_faces([face(across, 0.6)] * 3), strict=True))
        assert found["faces_1"] == 1 and found["faces_2"] == 0, across
        assert found["face_across"] == pytest.approx(across, abs=0.05)
        assert claimed([face(across, 0.6)] * 3, "faces", "face place") == {"one", place}
    assert "close-up" in claimed([face(0.5, 0.95)] * 3, "shot scale")
    assert "medium" in claimed([face(0.5, 0.32)] * 3, "shot scale")


def test_two_faces_are_two() -> None:
    both = face(0.25, 0.6)
    both[:, WIDTH // 2 :] = face(0.75, 0.6)[:, WIDTH // 2 :]
    assert claimed([both] * 3, "faces") == {"one", "two"}
    (text,) = registry.create("video_captioner", "descriptor").caption([clip([both] * 8)], prompt="", seeds=[1])
    assert "two faces" in text.lower() and Claim("faces", "two") in parse(text)


def test_no_face_is_claimed_without_certainty() -> None:
    frames = [face(0.5, 0.6)] * 3
    assert claimed([face(0.5, 0.6, upside_down=True)] * 3, "faces") == set()
    assert claimed(filmed(lambda u: (0.3 * u, 0, 0)), "faces") == set()
    assert claimed([frames[0], frames[0], fence()], "faces", "face place") == set()  # not in every frame
    assert claimed(frames[:1], "faces") == set()  # a single glance


def test_writing_is_found_and_placed() -> None:
    for down, place in ((0.12, {"top"}), (0.52, set()), (0.92, {"bottom"})):
        frames = [written("Nobody knew the road", down)] * 3
        assert claimed(frames, "text", "text place") == {"present", *place}, down


@pytest.mark.parametrize("picture", [fence(), filmed(lambda u: (0, 0, 0), count=1)[0], face()], ids=str.lower("ABC"))
def test_rows_of_other_things_are_no_writing(picture: Picture) -> None:
    found = dict(zip(TEXT_FIELDS, measure_text([picture] * 3), strict=True))
    assert found["text"] < 2 and np.isnan(found["text_down"])
    assert claimed([picture] * 3, "text") == set()


def test_a_line_stands_where_it_was_written() -> None:
    (features, box), *_ = sorted(lines(written("Nobody knew", 0.5)), key=lambda line: -logit_of(line[0]))
    assert logit_of(features) > 5
    assert box[0] == pytest.approx(22 / WIDTH, abs=0.04) and (box[1] + box[3]) / 2 == pytest.approx(0.47, abs=0.05)


@pytest.mark.parametrize("shape", [(16, 16), (17, 300), (336, 597), (300, 20), (1, 1)])
def test_frames_of_any_shape_are_measured(shape: tuple[int, int]) -> None:
    frames = [np.random.default_rng(i).integers(0, 256, (*shape, 3)).astype(np.uint8) for i in range(4)]
    vector = measure_picture(frames, [0.0, 0.5, 1.0, 1.5])
    assert vector.shape == (len(VIDEO_FIELDS),) and vector.dtype == np.float32
    assert {*CAMERA_FIELDS, *FACE_FIELDS, *TEXT_FIELDS} <= set(VIDEO_FIELDS)


def test_a_true_caption_of_camera_face_or_writing_beats_a_false_one() -> None:
    backend = registry.create("similarity", "descriptor")

    def score(frames: list[Picture], text: str) -> float:
        return backend.score(backend.embed([clip(frames)]), [text], kinds=["v"])[0]

    panned = filmed(lambda u: (0.6 * u, 0, 0), count=10)
    assert score(panned, "The camera pans right.") > 0.3 > 0 > score(panned, "The camera pans left.")
    assert score(panned, "A static camera.") < 0 < score(panned, "Filmed with a moving camera.")
    heads = [face(0.25, 0.6)] * 8
    assert score(heads, "A face on the left.") > score(heads, "A face on the right.") < 0.3
    assert score(heads, "A face.") > 0.3 > score(heads, "Two faces.")
    # What the detectors miss is doubted, not denied.
    assert -0.4 < score(panned, "A face.") < 0 and -0.5 < score(panned, "Text.") < 0
    signs = [written("Nobody knew the road", 0.92)] * 8
    assert score(signs, "Text at the bottom.") > 0.3 + max(0.0, score(signs, "Text at the top."))


def test_what_was_not_measured_counts_for_nothing() -> None:
    backend = registry.create("similarity", "descriptor")
    vector = backend.embed([clip([face()] * 2)])
    assert backend.score(vector, ["The camera pans left."], kinds=["v"]) == [0.0]
