"""The ffmpeg program beside PyAV: the same evidence, clips that pass the same checks, refusals that say what to do."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import pytest
from media_factory import read_barcode, render
from pydantic import ValidationError

from vidcap.errors import ConfigError, MediaError, TransientError
from vidcap.media import ffmpeg_program, program_decoding, program_encoding
from vidcap.media.cut import CutOptions, Cutter
from vidcap.media.decode import DecodeOptions, decode_source
from vidcap.media.facts import SourceFacts
from vidcap.media.ffmpeg_program import ProgramError, Run
from vidcap.media.program_encoding import Encoding
from vidcap.stages.base import Context
from vidcap.stages.decode import Decode
from vidcap.stages.pack import Pack, PackOptions

SIZE = (192, 108)

needs_program = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the ffmpeg program is not installed")


@pytest.fixture(autouse=True)
def library() -> None:
    pytest.importorskip("ffmpeg", reason="the extra `ffmpeg` is not installed")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Puts a program called ffmpeg in front of all others: a function from its version and what it does when run."""
    ffmpeg_program._asked.cache_clear()
    program_decoding.try_decoding.cache_clear()

    def put(version: str = "7.1", *, does: str = "exit 1", knows: str = "libx264") -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        path = folder / "ffmpeg"
        encoders = "".join(f" V....D {name}  an encoder\\n" for name in knows.split())
        path.write_text(
            f'#!/bin/sh\ncase "$*" in\n'
            f'*-version) echo "ffmpeg version {version} Copyright (c) people";;\n'
            f'*-hwaccels) printf "Hardware acceleration methods:\\nvdpau\\n";;\n'
            f'*-encoders) printf "Encoders:\\n ------\\n{encoders}";;\n'
            f"*) {does};;\nesac\n"
        )
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        ffmpeg_program._asked.cache_clear()
        return path

    yield put
    ffmpeg_program._asked.cache_clear()
    program_decoding.try_decoding.cache_clear()


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


SAME: dict[str, dict[str, Any]] = {
    "x264": {"bframes": 3, "audio": "sine"},
    "pyramid.mkv": {"bframes": 3, "options": {"preset": "veryfast"}, "container": "matroska"},
    "one start": {"gop": 1000},
    "vfr.mkv": {"vfr": True, "container": "matroska"},
    "late.ts": {"video_offset": 1.0, "container": "mpegts", "audio": "sine"},
    "fragments": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "turned": {"rotation": 90},
    "wide": {"sar": Fraction(4, 3)},
    "full range": {"pix_fmt": "yuvj420p"},
    "4:4:4": {"pix_fmt": "yuv444p"},
    "interlaced": {"options": {"x264-params": "tff=1", "flags": "+ildct+ilme"}},
    "hevc 10 bit": {"codec": "libx265", "pix_fmt": "yuv420p10le"},
    "odd.webm": {"codec": "libvpx-vp9", "container": "webm", "size": (191, 107)},
    "av1.mkv": {"codec": "libsvtav1", "container": "matroska"},
}


@needs_program
@pytest.mark.parametrize("kind", SAME)
def test_the_evidence_is_the_same_to_the_byte(tmp_path: Path, kind: str) -> None:
    path = render(tmp_path / kind, **{"frames": 40, "size": SIZE, "container": "mp4", **SAME[kind]})
    kept = {}
    for through in ("pyav", "ffmpeg"):
        options = DecodeOptions(through=through, frames_per_second=10, frame_height=64)
        found = decode_source(str(path), tmp_path / through, options)
        assert found.facts.passed_over == "" and found.facts.frames == 40
        kept[through] = digests(tmp_path / through)
    assert kept["ffmpeg"] == kept["pyav"]


@pytest.mark.data
@needs_program
@pytest.mark.parametrize(
    "name", ["exo_dolbyvision.mov", "exo_hdr10.mp4", "fmt_nonzero_start.ts", "fmt_vfr.mkv", "exo_fragmented_sei.mp4"]
)
def test_the_evidence_of_real_videos_is_the_same_to_the_byte(tmp_path: Path, real_videos: Path, name: str) -> None:
    for through in ("pyav", "ffmpeg"):
        found = decode_source(str(real_videos / name), tmp_path / through, DecodeOptions(through=through))
        assert not found.facts.passed_over
    assert digests(tmp_path / "ffmpeg") == digests(tmp_path / "pyav")


def decoded_both(path: Path, folder: Path) -> tuple[SourceFacts, bool]:
    """The facts of the way through the program, and whether tables, thumbnails and candidates are those of PyAV."""
    for through in ("pyav", "ffmpeg"):
        facts = decode_source(str(path), folder / through, DecodeOptions(through=through)).facts
    mine, own = digests(folder / "ffmpeg"), digests(folder / "pyav")
    return facts, {**mine, "facts.json": ""} == {**own, "facts.json": ""}


@needs_program
def test_what_the_program_would_decode_differently_pyav_decodes_and_says_so(tmp_path: Path) -> None:
    path = render(tmp_path / "a.avi", frames=20, size=SIZE, codec="mpeg4")
    facts, same = decoded_both(path, tmp_path)
    assert same and facts.passed_over == "two decoders need not agree about mpeg4"
    assert facts.note == f"decoded by PyAV, not the ffmpeg program: {facts.passed_over}"
    # Where a GOP begins without a clean start, decoders tell which frames are keys by what they decoded before.
    for params in ("open-gop=1", "intra-refresh=1"):
        path = render(tmp_path / "a.mp4", frames=60, size=SIZE, options={"x264-params": params})
        facts, same = decoded_both(path, tmp_path)
        assert same and facts.passed_over == "it has key packets that are no clean starts"
    # A picture that changes its size inside the video: nothing is scaled behind our back.
    parts = [render(tmp_path / f"{n}.h264", frames=20, size=size) for n, size in enumerate([SIZE, SIZE[::-1]])]
    (tmp_path / "b.h264").write_bytes(b"".join(part.read_bytes() for part in parts))
    with av.open(str(tmp_path / "b.ts"), "w") as out, av.open(str(tmp_path / "b.h264")) as source:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size:
                packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 25), number, number
                out.mux(packet)
    facts, same = decoded_both(tmp_path / "b.ts", tmp_path)
    assert same and facts.sizes == 2 and facts.frames == 40 and facts.passed_over


@needs_program
def test_damage_is_left_to_pyav(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mp4", frames=60, size=SIZE)
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + 4 + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 400] = bytes(400)
    path.write_bytes(data)
    facts, same = decoded_both(path, tmp_path)
    assert same and facts.passed_over and (facts.corrupt_frames or facts.lost_packets)


def test_a_program_that_fails_costs_no_source(tmp_path: Path, fake: Callable[..., Path]) -> None:
    path = render(tmp_path / "a.mp4", frames=20, size=SIZE)
    for does, words in (
        ("echo 'no such card' >&2; exit 1", "no such card"),
        ("printf 'nut/multimedia container\\0rubbish'", "the ffmpeg program"),
        ("kill -9 $$", "the ffmpeg program"),
    ):
        fake(does=does)
        facts = decode_source(str(path), tmp_path / "e", DecodeOptions(through="ffmpeg")).facts
        assert words in facts.passed_over and facts.frames == 20


def test_a_program_that_hangs_is_ended(tmp_path: Path, fake: Callable[..., Path], monkeypatch: Any) -> None:
    monkeypatch.setattr(ffmpeg_program, "STALL", 0.3)
    fake(does="exec sleep 60")
    started = time.monotonic()
    path = render(tmp_path / "a.mp4", frames=5, size=SIZE)
    facts = decode_source(str(path), tmp_path / "e", DecodeOptions(through="ffmpeg")).facts
    assert "moved no byte" in facts.passed_over and time.monotonic() - started < 20
    with pytest.raises(TransientError, match="moved no byte"), Cutting(path, tmp_path / "e2") as cut:
        cut(0, 4, Encoding("ffmpeg"))


class Cutting:
    """A decoded source, cut by encoding."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.clip = path, folder.with_suffix(".mp4")
        self.found = decode_source(str(path), folder, DecodeOptions())

    def __enter__(self) -> Callable[[int, int, Encoding], Any]:
        return self._cut

    def __exit__(self, *_: object) -> None:
        """Nothing stays open."""

    def _cut(self, first: int, last: int, encoding: Encoding) -> Any:
        options = CutOptions(method="reencode", encoding=encoding)
        with Cutter(str(self.path), self.found.tables, self.found.facts, options=options) as cutter:
            return cutter.cut(first, last, self.clip)


@cache
def has_encoder(name: str) -> bool:
    return shutil.which("ffmpeg") is not None and name in ffmpeg_program.program().encoders


CUTS: dict[str, dict[str, Any]] = {
    "x264": {"audio": "sine"},
    "vfr.mkv": {"vfr": True, "container": "matroska", "audio": "sine"},
    "turned": {"rotation": 90},
    "hdr": {
        "codec": "libx265",
        "pix_fmt": "yuv420p10le",
        "options": {"x265-params": "log-level=none:transfer=16"},
    },
    "interlaced": {"options": {"x264-params": "tff=1", "flags": "+ildct+ilme"}},
}


@needs_program
@pytest.mark.parametrize("encoder", ["libx264", "libx265"])
@pytest.mark.parametrize("kind", CUTS)
def test_clips_through_the_program_pass_every_check_twice_alike(tmp_path: Path, kind: str, encoder: Any) -> None:
    if not has_encoder(encoder):
        pytest.skip(f"this ffmpeg has no {encoder}")
    path = render(tmp_path / kind, **{"frames": 50, "size": SIZE, "container": "mp4", **CUTS[kind]})
    made = []
    cutting = Cutting(path, tmp_path / "e")
    with cutting as cut:
        for _ in range(2):
            result = cut(7, 40, Encoding("ffmpeg", encoder, 23, "veryfast"))
            made.append(cutting.clip.read_bytes())
    assert made[0] == made[1]
    assert (result.method, result.check, result.frames) == ("reencode", "aligned", 34)
    assert result.codec == {"libx264": "h264", "libx265": "hevc"}[encoder]
    frames = cutting.found.tables.frames
    with av.open(str(cutting.clip)) as clip:
        shown = [(frame.pts * frame.time_base, frame.to_ndarray(format="rgb24")) for frame in clip.decode(video=0)]
        context = clip.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == (result.codec, "yuv420p")
        assert clip.streams.video[0].frames == 34
    assert [time for time, _ in shown] == [(frames.pts[i] - frames.pts[7]) * frames.time_base for i in range(7, 41)]
    if kind not in ("turned", "hdr"):
        assert [read_barcode(picture) for _, picture in shown] == list(range(7, 41))
    assert b"x264" not in made[0] and b"x265" not in made[0], "the encoder's name and settings are no part of a clip"


def test_an_encoder_that_refuses_one_clip_condemns_it_and_one_that_gives_out_condemns_none(
    tmp_path: Path, fake: Callable[..., Path]
) -> None:
    cutting = Cutting(render(tmp_path / "a.mp4", frames=12, size=SIZE), tmp_path / "e")
    # It takes the trial's 256×256 and nothing else.
    fake(does='case "$*" in *256x256*) cat >/dev/null; echo packet;; *) echo "too narrow" >&2; exit 1;; esac')
    with cutting as cut, pytest.raises(MediaError, match=r"pack.cut_failed.*too narrow"):
        cut(0, 11, Encoding("ffmpeg"))
    fake(does='echo "out of sessions" >&2; exit 1')
    with cutting as cut, pytest.raises(TransientError, match="out of sessions"):
        cut(0, 11, Encoding("ffmpeg"))
    fake(does="cat >/dev/null; printf 'nut/multimedia container\\0rubbish'")
    with cutting as cut, pytest.raises(MediaError):
        cut(0, 11, Encoding("ffmpeg"))
    assert not cutting.clip.exists()


def test_options_that_cannot_go_together_are_refused() -> None:
    for options, words in (
        ({"encoder": "h264_nvenc"}, "through: ffmpeg"),
        ({"encoder": "hevc_nvenc", "through": "ffmpeg"}, "video: keep"),
        ({"encoder": "h264_nvenc", "through": "ffmpeg", "preset": "veryfast"}, "no preset `veryfast`"),
        ({"preset": "p3"}, "no preset `p3`"),
    ):
        with pytest.raises(ValidationError, match=words):
            PackOptions.model_validate(options)
    with pytest.raises(ValidationError, match="through: ffmpeg"):
        DecodeOptions(hwaccel="cuda")
    assert PackOptions().encoding == Encoding("pyav", "libx264", 20, "veryfast")
    assert PackOptions(through="ffmpeg", encoder="h264_nvenc").encoding.preset == "p4"


CARD = {"through": "ffmpeg", "encoder": "h264_nvenc"}


def test_what_is_absent_is_refused_with_its_mend(
    tmp_path: Path, fake: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(call: Callable[[], object]) -> str:
        with pytest.raises(ConfigError) as caught:
            call()
        assert caught.value.hint
        return str(caught.value)

    asked = DecodeOptions(through="ffmpeg")
    fake("4.4.2")
    assert "is ffmpeg 4.4.2" in refused(lambda: Decode.libraries(asked))
    fake("N-118000-gabcdef", knows="libx264")
    assert Decode.libraries(asked).endswith(" + ffmpeg N-118000-gabcdef")
    assert "no hwaccel `cuda`" in refused(lambda: Decode.libraries(DecodeOptions(through="ffmpeg", hwaccel="cuda")))
    assert "no encoder `h264_nvenc`" in refused(lambda: Pack.libraries(PackOptions.model_validate(CARD)))
    # Built in, but no card: seen where the stage is made ready, in the worker.
    fake("7.1", knows="libx264 h264_nvenc", does='echo "Cannot load libcuda.so.1" >&2; exit 1')
    told = refused(lambda: Pack(PackOptions.model_validate(CARD), Context()))
    assert "Cannot load libcuda.so.1" in told and "nvidia-smi" in told
    assert "7.1" in Pack.libraries(PackOptions.model_validate(CARD))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "not on the PATH" in refused(lambda: Decode(asked))
    assert "+" not in Decode.libraries(DecodeOptions()), "nothing is asked where nothing is wanted"
    monkeypatch.setitem(sys.modules, "ffmpeg", None)
    assert "vidcap[ffmpeg]" in refused(lambda: Decode(asked))


def test_a_plan_is_refused_and_its_fingerprints_change_with_the_program(
    tmp_path: Path, fake: Callable[..., Path]
) -> None:
    from vidcap.pipeline.config import load_config
    from vidcap.pipeline.plan import Part, Plan
    from vidcap.records import Source

    def fingerprint(options: str) -> dict[str, str]:
        path = tmp_path / "p.yaml"
        path.write_text(
            "name: p\ninput: {manifest: x}\nstages:\n"
            f"  - {{stage: decode, options: {options}}}\n"
            "  - {stage: detect_shots, backend: adaptive}\n  - {stage: trim}\n"
            "  - {stage: caption_video, backend: descriptor}\n  - {stage: pack}\noutput: {path: out}\n"
        )
        part = Part(0, (Source("a" * 16, "a.mp4", "a.mp4", 0, 1),))
        return Plan(load_config(path)).fingerprints(part)

    fake("7.1")
    own, first = fingerprint("{}"), fingerprint("{through: ffmpeg}")
    fake("7.2")
    second = fingerprint("{through: ffmpeg}")
    assert len({own["decode"], first["decode"], second["decode"]}) == 3
    assert len({own["trim"], first["trim"], second["trim"]}) == 3, "what is built on it changes too"
    with pytest.raises(ConfigError, match="no hwaccel `cuda`"):
        fingerprint("{through: ffmpeg, hwaccel: cuda}")


def test_doctor_says_what_is_wrong_with_the_program(tmp_path: Path, fake: Callable[..., Path]) -> None:
    from vidcap.doctor.machine import Gpus
    from vidcap.doctor.pipeline import check

    path = tmp_path / "p.yaml"
    path.write_text(
        "name: p\ninput: {manifest: x}\nstages:\n"
        "  - {stage: decode, options: {through: ffmpeg}}\n  - {stage: detect_shots, backend: adaptive}\n"
        "  - {stage: trim}\n  - {stage: caption_video, backend: descriptor}\n"
        "  - {stage: pack, options: {through: ffmpeg, encoder: h264_nvenc}}\n"
        f"output: {{path: {tmp_path}/out}}\n"
    )
    fake("7.1", knows="libx264")
    needs = {need.what: need for need in check(path, Gpus(), {})}
    assert needs["decode: the ffmpeg program"].ok and "ffmpeg 7.1" in needs["decode: the ffmpeg program"].detail
    assert not needs["pack: the ffmpeg program"].ok and "h264_nvenc" in needs["pack: the ffmpeg program"].detail


def test_no_shell_and_nothing_but_the_file_is_read(tmp_path: Path, fake: Callable[..., Path]) -> None:
    arguments = tmp_path / "arguments"
    fake(does=f'for word in "$@"; do printf "%s\\n" "$word"; done > {arguments}; exit 1')
    name = tmp_path / "a; touch owned `x` -f lavfi.mp4"
    decode_source(str(render(name, frames=5, size=SIZE)), tmp_path / "e", DecodeOptions(through="ffmpeg"))
    told = arguments.read_text().splitlines()
    assert told[told.index("-i") + 1] == f"file:{name}"
    before = told[: told.index("-i")]
    assert before[before.index("-protocol_whitelist") + 1] == "file"
    assert before[before.index("-f") + 1] == "mov" and "-format_whitelist" in before
    assert "-nostdin" in told and told[told.index("-pix_fmt") + 1] == "yuv420p"


@needs_program
def test_the_program_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mp4", frames=250, size=(640, 360))
    code = (
        "import sys, time\n"
        "from vidcap.media.ffmpeg_program import Run, library\n"
        f"run = Run(library().input({str(path)!r}).output('pipe:1', f='rawvideo'))\n"
        "run.__enter__(); run.read(10); print(run._process.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.send_signal(signal.SIGKILL)
    finally:
        parent.wait(10)
        if parent.stdout is not None:
            parent.stdout.close()
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    raise AssertionError("the program outlived its worker")


@needs_program
def test_a_run_that_is_left_is_killed(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mp4", frames=250, size=(640, 360))
    with Run(ffmpeg_program.library().input(str(path)).output("pipe:1", f="rawvideo")) as run:
        assert len(run.read(100)) == 100
    assert run._process.returncode is not None
    with (
        Run(ffmpeg_program.library().input("file:/nowhere").output("pipe:1", f="null")) as run,
        pytest.raises(ProgramError, match="No such file"),
    ):
        run.finish()


@pytest.mark.gpu
@needs_program
def test_a_card_decodes_and_encodes(tmp_path: Path) -> None:
    program_decoding.try_decoding("cuda")
    path = render(tmp_path / "a.mp4", frames=50, size=(640, 360), audio="sine")
    for through in ({}, {"through": "ffmpeg", "hwaccel": "cuda"}):
        found = decode_source(str(path), tmp_path / f"e{len(through)}", DecodeOptions(**through))
        assert not found.facts.passed_over
    assert digests(tmp_path / "e0") == digests(tmp_path / "e2")
    ten = render(tmp_path / "b.mp4", frames=50, size=(640, 360), codec="libx265", pix_fmt="yuv420p10le")
    for through in ({}, {"through": "ffmpeg", "hwaccel": "cuda"}):
        decode_source(str(ten), tmp_path / f"f{len(through)}", DecodeOptions(**through))
    assert digests(tmp_path / "f0") == digests(tmp_path / "f2")
    for encoder in ("h264_nvenc", "hevc_nvenc"):
        encoding = Encoding("ffmpeg", encoder, 23, "p4")  # type: ignore[arg-type]
        program_encoding.try_encoding(encoding)
        with Cutting(path, tmp_path / "c") as cut:
            assert cut(5, 40, encoding).check == "aligned"
