"""`vidcap doctor`: it sees what is missing, names the line that mends it, and tells no secret."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vidcap.backends import needs, registry
from vidcap.cli.doctor import doctor
from vidcap.cli.main import main
from vidcap.doctor import endpoints, machine
from vidcap.doctor.machine import Gpu, Gpus
from vidcap.doctor.pipeline import check

STAGES = [
    "{stage: decode}",
    "{stage: detect_shots, backend: adaptive}",
    "{stage: trim}",
    "{stage: caption_video, backend: descriptor}",
]
ENCODERS = {"libx264": True, "aac": True, "flac": False}


def write(path: Path, *stages: str) -> Path:
    """A pipeline of these stages, packed in the end."""
    lines = "\n".join(f"  - {stage}" for stage in (*stages, "{stage: pack}"))
    path.write_text(f"name: mine\ninput: {{manifest: x}}\nstages:\n{lines}\noutput: {{path: {path.parent}/out}}\n")
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(doctor, [str(a) for a in arguments], catch_exceptions=False)


def unmet(path: Path, gpus: Gpus | None = None) -> dict[str, tuple[str, str]]:
    return {n.what: (n.detail, n.mend) for n in check(path, gpus or Gpus(), ENCODERS) if not n.ok}


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes modules and distributions look as if they were not installed."""
    real = importlib.metadata.version

    def forget(*names: str) -> None:
        there = needs._is_there
        monkeypatch.setattr(needs, "_is_there", lambda module: module not in names and there(module))

        def version(name: str) -> str:
            if name in names:
                raise importlib.metadata.PackageNotFoundError(name)
            return real(name)

        monkeypatch.setattr(importlib.metadata, "version", version)
        needs.extras.cache_clear()
        needs.core_libraries.cache_clear()

    yield forget
    needs.extras.cache_clear()
    needs.core_libraries.cache_clear()


@pytest.fixture
def backend_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Puts a backend's file where the transcribers are: a function from its text to its name."""
    package = registry.importlib.import_module("vidcap.backends.transcriber")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    real = needs._file

    def put(text: str) -> str:
        (tmp_path / "mine.py").write_text(text)
        monkeypatch.setattr(needs, "_file", lambda m: tmp_path / "mine.py" if m.endswith(".mine") else real(m))
        sys.modules.pop("vidcap.backends.transcriber.mine", None)
        return "mine"

    yield put
    sys.modules.pop("vidcap.backends.transcriber.mine", None)


def test_the_demo_can_run_here_and_it_reads_well_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = run()
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "it can run here"
    assert "\x1b" not in result.stdout
    copyable = [line for line in result.stdout.splitlines() if len(line) > 80]
    assert not copyable


def test_json_holds_the_same_and_torch_stays_out(repository: Path) -> None:
    code = (
        "import sys; from vidcap.cli.main import main; code = main(['doctor', '--json']);"
        "heavy = [m for m in ('torch', 'transformers', 'onnxruntime', 'cv2', 'distributed') if m in sys.modules];"
        "print(heavy, file=sys.stderr); sys.exit(code)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == "[]"
    facts = json.loads(ran.stdout)
    assert facts["ok"] is True
    assert {row["role"] for row in facts["backends"]} == set(registry.ROLES)
    assert all(row["ready"] or row["mend"] or row["note"] for row in facts["backends"])
    assert {name for name, has in facts["media"]["encoders"].items() if has} == {"libx264", "aac", "flac"}
    assert facts["machine"]["memory"] > 1e8 and facts["machine"]["cores"] > 0
    assert facts["pipeline"]["path"].endswith("demo.yaml")


def test_a_backend_that_says_nothing_is_read(backend_file: Any, without: Any) -> None:
    without("torch", "whisper")
    name = backend_file(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import absent_types\n"
        "try:\n    import absent_luxury\nexcept ImportError:\n    absent_luxury = None\n"
        "class Backend:\n"
        "    def load(self, device):\n"
        "        try:\n            import whisper\n"
        "        except ImportError as error:\n            raise RuntimeError from error\n"
    )
    lack = needs.lacking("transcriber", name)
    assert lack == needs.Lack(("whisper",), "pip install 'vidcap[whisper]'")
    backend_file("import at_once.inner\nclass Backend:\n    def load(self, device):\n        import torch\n")
    assert needs.lacking("transcriber", name) == needs.Lack(("at_once", "torch"), "pip install at-once torch")
    backend_file("class Backend:\n    def load(self, device):\n        import quite_absent, json\n")
    assert needs.lacking("transcriber", name) == needs.Lack(("quite_absent",), "pip install quite-absent")


def test_a_backend_that_names_its_extra_is_believed(backend_file: Any, without: Any) -> None:
    without("openai-whisper")
    name = backend_file("class Backend:\n    extra = 'whisper'\n    def load(self, device):\n        import absent\n")
    lack = needs.lacking("transcriber", name)
    assert lack is not None and lack.mend == "pip install 'vidcap[whisper]'"
    # Without the torch extras the libraries below it are lacking too.
    assert "openai-whisper" in lack.names and "absent" not in lack.names
    backend_file("class Backend:\n    extra = 'ffmpeg'\n")
    installed = importlib.util.find_spec("ffmpeg") is not None
    assert needs.lacking("transcriber", name) == (
        None if installed else needs.Lack(("ffmpeg-python",), "pip install 'vidcap[ffmpeg]'")
    )


def test_extras_that_backends_name_exist() -> None:
    import tomllib

    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for role in registry.ROLES:
        for name in registry.names(role):
            assert getattr(registry.get(role, name), "extra", "torch") in declared["optional-dependencies"]


def test_a_core_library_that_is_missing_or_old_fails_the_check(without: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    without("fsspec")
    result = run()
    assert result.exit_code == 2
    assert "fsspec: nothing where >=" in result.stdout and "pip install 'fsspec>=" in result.stdout
    assert not needs.Library("av", "<19,>=18.1", "17.0").fits
    assert needs.Library("av", "<19,>=18.1", "18.2").fits


def test_every_need_of_a_pipeline_is_told_with_its_mend(tmp_path: Path, without: Any) -> None:
    without("pocketsphinx")
    path = write(
        tmp_path / "mine.yaml",
        "{stage: decode}",
        "{stage: detect_shots, backend: {name: adaptive, thresold: 1}, device: 'cuda:1'}",
        "{stage: trim}",
        "{stage: transcribe, backend: pocketsphinx}",
        "{stage: caption_video, backend: descripter}",
        "{stage: fuse, backend: {name: template, weights: ./absent.pt}, prompts: {av: nothere}}",
    )
    path.write_text(path.read_text().replace("{stage: pack}", "{stage: pack, options: {audio: flac}}"))
    found = unmet(path, Gpus((Gpu("H100", 1 << 36, "570"),), usable=True))
    assert found["transcribe: pocketsphinx"] == ("lacks pocketsphinx", "pip install 'pocketsphinx<6,>=5.1.1'")
    assert "thresold" in found["detect_shots: adaptive"][0]
    assert found["detect_shots: cuda:1"][0] == "1 cards here"
    assert "did you mean `descriptor`" in found["caption_video: descripter"][1]
    assert "`./absent.pt`" in found["fuse: template: weights"][0]
    assert "nothere" in found["fuse: prompts"][0]
    assert found["encoder flac"][1].startswith("pip install")
    assert len(found) == 8 and all(mend for _, mend in found.values())
    result = run(path)
    assert result.exit_code == 2 and "8 of its needs" in " ".join(result.stdout.split())


def test_stages_in_a_wrong_order_hide_no_other_need(tmp_path: Path) -> None:
    found = unmet(write(tmp_path / "p.yaml", *STAGES[:3], "{stage: fuse, backend: nosuch}"))
    assert set(found) == {"pipeline", "fuse: nosuch"}
    assert "caption_v" in found["pipeline"][0]


def test_a_yaml_that_cannot_be_read_is_a_need(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: x\nstagess: []\n")
    for path in (tmp_path / "bad.yaml", tmp_path / "absent.yaml"):
        (told,) = unmet(path).items()
        assert told[0] == "pipeline" and path.name in told[1][0] and told[1][1]
    assert main(["doctor", str(tmp_path / "absent.yaml")]) == 2


def test_a_card_that_torch_cannot_use_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "p.yaml", STAGES[0], "{stage: detect_shots, backend: adaptive, device: cuda}", *STAGES[2:])
    card = (Gpu("H100", 1 << 36, "570"),)
    assert unmet(path, Gpus(card, usable=False, note="torch 2 cannot use them"))["detect_shots: cuda"][0] == (
        "torch 2 cannot use them"
    )
    assert not unmet(path, Gpus(card, usable=True))


def test_cards_are_listed_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    smi = "NVIDIA H100 80GB HBM3, 81559, 570.86.10\nrubbish\nNVIDIA, [N/A], 570\n"
    said = {"nvidia-smi": smi, sys.executable: "warning\n" + json.dumps({"torch": "2.14.0+cpu", "gpus": []})}
    monkeypatch.setattr(machine, "_output", lambda program, *rest, **named: said[program])
    assert machine.gpus(False) == Gpus(
        (Gpu("NVIDIA H100 80GB HBM3", 81559 << 20, "570.86.10"),), None, "torch is not installed"
    )
    assert machine.gpus(True).usable is False and "2.14.0+cpu" in machine.gpus(True).note
    said[sys.executable] = json.dumps({"torch": "2.14.0", "gpus": [["H100", 5]]})
    assert machine.gpus(True).usable is True
    said[sys.executable] = "Traceback"
    assert machine.gpus(True).note == "torch cannot be imported"
    said["nvidia-smi"] = ""
    monkeypatch.setattr(machine, "CARD_NODES", ())
    assert machine.gpus(True) == Gpus(), "where no card can be, torch is not even asked"


def test_scarce_resources_are_told() -> None:
    found = machine.facts() | {"open_files": 256, "temp_free": 10}
    assert [mend for _, mend in machine.warnings(found)] == ["ulimit -n 4096", "export TMPDIR=/a/larger/disk"]
    assert machine.warnings(found | {"open_files": -1, "temp_free": -1}) == []


class Server(BaseHTTPRequestHandler):
    asked: list[tuple[str, dict[str, str]]]

    def do_GET(self) -> None:
        Server.asked.append((self.path, dict(self.headers)))
        code, body = {
            "/v1/models": (200, b'{"data": [{"id": "small"}, {"id": "large\\u001b[31m"}]}'),
            "/locked/v1/models": (401, b""),
            "/moved/v1/models": (302, b""),
            "/page/v1/models": (200, b"<html>"),
            "/deep/v1/models": (200, b"[" * 100_000),
            "/none/v1/models": (200, b'{"data": []}'),
        }.get(self.path, (404, b""))
        self.send_response(code)
        self.send_header("Location", "/v1/models")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Nothing on stderr."""


@pytest.fixture
def server() -> Iterator[str]:
    Server.asked = []
    http = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    thread.join()
    http.server_close()


def test_model_servers_are_asked(server: str) -> None:
    for address in (server, f"{server}/v1", f"{server}/v1/", f"{server}/v1/chat/completions"):
        assert endpoints.ask(address).models[0] == "small", address
    assert endpoints.ask(f"{server}/locked/v1").ok
    expected = {"moved": "302", "page": "not with a list", "deep": "not with a list", "none": "no model", "x": "404"}
    for path, words in expected.items():
        answer = endpoints.ask(f"{server}/{path}/v1")
        assert not answer.ok and words in answer.detail, path
    assert [path for path, _ in Server.asked].count("/v1/models") == 4, "no redirection was followed"
    assert not endpoints.ask("http://127.0.0.1:1/v1").ok
    for address in ("file:///etc/passwd", "ftp://127.0.0.1/v1", "http://[::1", "http://host:port/"):
        assert endpoints.ask(address) == endpoints.Answer(False, "no http or https address")


def test_no_secret_is_told_or_sent(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-SECRET-env")
    host = server.removeprefix("http://")
    path = write(
        tmp_path / "p.yaml",
        *STAGES,
        f"{{stage: fuse, backend: {{name: template, url: 'http://me:SECRET@{host}/v1?key=SECRET', api_key: /SECRET}}}}",
    )
    for more in ((), ("--json",)):
        result = run(path, *more)
        assert result.exit_code == 2
        assert "SECRET" not in result.output and f"llm at {server}/v1" in result.stdout
        assert "\x1b" not in result.stdout
    assert Server.asked and all("SECRET" not in str(asked) for asked in Server.asked)


def test_a_model_that_the_server_does_not_serve(server: str, tmp_path: Path) -> None:
    for model, ok in (("small", True), ("huge", False)):
        fuse = f"{{stage: fuse, backend: {{name: template, endpoint: '{server}', model: {model}}}}}"
        found = unmet(write(tmp_path / "p.yaml", *STAGES, fuse))
        assert (f"llm at {server}" not in found) == ok
