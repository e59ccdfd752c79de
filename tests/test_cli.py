"""The command line itself: suggestions, exit codes, interruption, completion."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ladseg import __version__, data
from ladseg.cli import training_commands as training
from ladseg.cli.entry import main, parse


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trian", "demo"], "unknown command 'trian'; did you mean 'train'?"),
        (["prdict"], "did you mean 'predict'?"),
        (["zzz"], "known: demo, train, compare"),
        ([], "the following arguments are required: COMMAND"),
        (["train"], "the following arguments are required: RECIPE"),
        (["train", "demo", "extra"], "unrecognized arguments: extra"),
        (["train", "demo", "--schedule.iteratons", "3"], "did you mean 'schedule.iterations'?"),
        (["compare", "demo", "--sedes", "0"], "did you mean 'seeds'?"),
        (["compare", "demo", "--seeds", "0,0"], "'0,0' names a seed twice"),
        (["compare", "demo", "--seeds", "0,x"], "'0,x' is not a list of seeds, such as 0,1,2"),
        (["compare", "demo", "--seeds", "-1"], "seeds"),
        (["compare", "demo", "--cell", "lad"], "'lad' is not METHOD:SEED, such as lad:0"),
        (["train", "demo", "--schedule.lr"], "--schedule.lr needs a value"),
        (["train", "demo", "--schedule.lr", "--seed", "3"], "--schedule.lr needs a value"),
        (
            ["export", "x.safetensors", "--to", "onx"],
            "--to is 'onx'; it must be one of onnx, openvino, torch; did you mean 'onnx'?",
        ),
        (["predict", "w", "i", "--out", "o", "--flp"], "unrecognized arguments: --flp; did you mean '--flip'?"),
        (["predict", "w", "i", "--out", "o", "--window", "0x5"], "'0x5' is not HEIGHTxWIDTH, such as 512x1024"),
        (["predict", "w", "i", "--out", "o", "--scales", "1,-1"], "is not a list of factors"),
        (["predict", "w", "i", "--out", "o", "--scales", "nan"], "is not a list of factors"),
        (["models", "--classes", "0"], "'0' is not a whole number from 2 to 65536"),
        (["models", "--classes", "1.5"], "'1.5' is not a whole number from 2 to 65536"),
        (["models", "stdc1", "--args", "width"], "'width' is not a mapping, such as '{width: 32}'"),
        (["models", "--args", "{dropout: 0.1}"], "--args are of the networks that you name"),
        (["demo", "--out", __file__], "is a file; name a folder"),
        (["train", "demo", "--schedule.optimizer", "adm"], "one of sgd, adamw; did you mean 'adamw'?"),
        (["train", "demo", "--schedule.crop", "128"], "it must be height and width, such as 128x160 or [128, 160]"),
        (["train", "demo", "--student.model", "pspnet_r19", "--data.root", "/nowhere"], "did you mean 'pspnet_r18'?"),
        (["train", "demo", "--teacher.model", "pspnet@resnet19", "--data.root", "/nowhere"], "no backbone 'resnet19'"),
        (["train", "demo", "--student.model", "no.such:Net", "--data.root", "/nowhere"], "can't import 'no.such'"),
        (["train", "demo", "--student.args.width", "24"], "write --student.args '{width: VALUE}'"),
        (["train", str(Path(__file__).parent)], "a folder, not a recipe; 'ladseg init"),
        (["train", "demo", "--data.root", __file__], "is a file; give the folder that holds the data set"),
        (["train", "demo", "--student.model", "net/my.py:Net", "--data.root", "/nowhere"], "write 'net.my:Net'"),
        (["compare", "demo", "--methods", "nonee"], "no method is called 'nonee'; did you mean 'none'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistyped_command_is_one_line_and_status_2(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(words)
    except SystemExit as stopped:
        status = stopped.code  # type: ignore[assignment]
    printed = capsys.readouterr()
    assert status == 2
    assert printed.out == ""
    assert line in printed.err
    assert printed.err.count("\n") == 1


def test_recipe_keys_may_stand_before_the_recipe() -> None:
    known, keys = parse(["train", "--schedule.lr", "0.1", "demo", "--seed=3", "--schedule.clip_grad", "-1"])
    assert known.recipe == "demo"
    assert keys == ["--schedule.lr", "0.1", "--seed", "3", "--schedule.clip_grad", "-1"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"ladseg {__version__}\n"


def raises(error: BaseException) -> object:
    def run(*_: object) -> None:
        raise error

    return run


def test_an_error_of_ladseg_is_one_line_and_status_3_and_its_trace_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(training, "_report", raises(KeyError("a\x1b[31m\nb")))
    assert main(["report", "runs/x"]) == 3
    error = capsys.readouterr().err
    assert error.startswith("ladseg: internal error: KeyError: ")
    assert error.count("\n") == 1
    assert "\x1b" not in error
    (trace,) = tmp_path.iterdir()
    assert str(trace) in error
    text = trace.read_text()
    assert f"ladseg {__version__}" in text
    assert "command: ladseg report runs/x" in text
    assert "Traceback (most recent call last)" in text


@pytest.mark.parametrize(
    ("error", "words", "line"),
    [
        (
            OSError(28, "No space left on device", "runs/x/a.pt"),
            ["report", "x"],
            "No space left on device: runs/x/a.pt",
        ),
        (OSError(30, "Read-only file system", b"runs/\xff"), ["report", "x"], "Read-only file system: runs/\\xff"),
        (
            NotADirectoryError(20, "Not a directory", "a/b"),
            ["report", "x"],
            "a/b: Not a directory; a file is",
        ),
        (OSError(36, "File name too long", "x" * 300), ["report", "x"], f"{'x' * 80}...: File name too long; give a"),
        (MemoryError(), ["report", "x"], "out of memory: MemoryError; set a smaller schedule.batch_size"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            ["report", "x"],
            "out of memory: [enforce fail]",
        ),
    ],
    ids=["full", "read-only", "in the way", "too long", "memory", "torch's memory"],
)
def test_what_the_machine_lacks_is_one_line_and_status_2(
    error: Exception,
    words: list[str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(training, "_report", raises(error))
    assert main(words) == 2
    printed = capsys.readouterr().err
    assert line in printed
    assert printed.count("\n") == 1


def test_only_a_command_that_resumes_promises_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "_report", raises(KeyboardInterrupt()))
    assert main(["report", "x"]) == 130
    assert capsys.readouterr().err == "ladseg: stopped\n"
    monkeypatch.setattr(training, "_train", raises(KeyboardInterrupt()))
    assert main(["train", "demo"]) == 130
    assert capsys.readouterr().err == "ladseg: stopped; the same command continues from the last checkpoint\n"


@pytest.mark.parametrize("module", ["rich.progress", "torch", "timm"])
def test_ctrl_c_in_the_first_seconds_is_no_traceback(module: str) -> None:
    """The signal arrives while a module is imported."""
    code = f"""
import os, signal, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == "{module}":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from ladseg.cli import main
sys.exit(main(["models"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 130, done.stderr
    assert done.stderr == "ladseg: stopped\n"


def completions(words: list[str], script: Path) -> set[str]:
    """What bash offers at the end of the words."""
    line = f"source {script}; COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}\n"
    line += f'COMP_LINE="{" ".join(words)}"; _shtab_ladseg; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "--norc", "-c", line], capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}
    )
    return set(done.stdout.split())


def test_bash_completes_commands_options_recipe_keys_and_choices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--print-completion", "bash"])
    assert stopped.value.code == 0
    script = tmp_path / "ladseg"
    script.write_text(capsys.readouterr().out)
    assert completions(["ladseg", "tr"], script) == {"train"}
    assert completions(["ladseg", "train", "--schedule.it"], script) == {"--schedule.iterations"}
    assert "--flip" in completions(["ladseg", "predict", "--f"], script)
    assert completions(["ladseg", "train", "--schedule.optimizer", ""], script) == {"sgd", "adamw"}


def test_names_are_printed_escaped_and_never_as_markup(tmp_path: Path) -> None:
    """A table has a cell with rich's markup; a path has a terminal escape sequence and a byte that is no UTF-8."""
    code = """
from rich.table import Table
from ladseg.cli.terminal import escape_what_cannot_be_encoded, print_line, print_tables
escape_what_cannot_be_encoded()
table = Table()
table.add_column("name")
table.add_row("[/x] [red]road")
print_tables([table])
print_line("written: a\\x1b[2J\\udcff/b")
print("caf\u00e9 \\udcff")
"""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert b"[/x] [red]road" in done.stdout
    assert b"written: a\\x1b[2J\\xff/b" in done.stdout
    assert b"caf\\xe9" in done.stdout
    assert b"\x1b" not in done.stdout


def test_a_line_of_the_hub_comes_once() -> None:
    code = """
import logging
from ladseg.cli import main
main(["recipes", "demo"])
import huggingface_hub.utils
logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.count("Retrying in 1s") == 1, done.stderr


def test_train_demo_draws_its_scenes_only_in_their_own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "write_demo_scenes", drawn.append)
    monkeypatch.setattr(training, "_run", lambda recipe: None)
    assert main(["train", "demo"]) == 0
    assert drawn == ["runs/demo/data"]
    assert main(["train", "demo", "--data.root", str(tmp_path)]) == 0
    assert main(["train", "camvid"]) == 0
    assert drawn == ["runs/demo/data"]


def test_paths_of_options_have_home_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell does not, in ``--out=~/runs``."""
    monkeypatch.setenv("HOME", "/home/me")
    assert parse(["predict", "w", "i", "--out=~/seen"])[0].out == "/home/me/seen"
    assert parse(["report", "$HOME/runs/x"])[0].run_folder == "/home/me/runs/x"
