"""The delivered file: what it holds is checked when it is read, and any new file's permissions and faults are plain."""

import json
import os
import resource
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import ladseg
from ladseg import build_model
from ladseg.deploy.student_file import load_student, read_header, save_student
from ladseg.deploy.student_header import FORMAT, MOST_CLASSES
from ladseg.errors import ModelError, UserError
from ladseg.files import ABANDONED, remove_abandoned, write_atomically, write_text

MODEL = "fcn@test_resnet"
DATA = {"class_names": ["road", "sky", "car"], "colors": [[0, 0, 0], [1, 2, 3], [255, 255, 255]]}


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("delivered") / "student.safetensors"
    recipe = {"layout": "folders", "root": "scenes"}
    full = DATA | {"ignore_index": None, "label_map": {"7": 0, "8": 1, "9": 2, "10": 255}, "recipe": recipe}
    save_student(path, build_model(MODEL, 3).eval(), full)
    return path


def spoilt(delivered: Path, tmp_path: Path, metadata: dict[str, str]) -> Path:
    save_file(load_file(delivered), tmp_path / "spoilt.safetensors", metadata)
    return tmp_path / "spoilt.safetensors"


def header_of(delivered: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(delivered, "pt") as file:
        header: dict[str, Any] = json.loads(file.metadata()["ladseg"])
    return header


def test_what_is_written_is_read(delivered: Path) -> None:
    network, header = load_student(delivered)
    assert (header.model, header.num_classes, header.mean) == (MODEL, 3, network.input_mean)
    assert header.data.class_names == ("road", "sky", "car")
    assert header.data.colors == ((0, 0, 0), (1, 2, 3), (255, 255, 255))
    assert (header.data.ignore_index, header.data.label_map) == (None, {7: 0, 8: 1, 9: 2, 10: 255})
    assert header.data.recipe == {"layout": "folders", "root": "scenes"}
    assert read_header(delivered) == header


# A key of the header (data's with a dot) and a value that it may not have.
WRONG: list[tuple[str, Any]] = [
    *(("model", value) for value in (None, 3, "", "  ", [], {}, "nosuchnetwork", "fcn@", "fcn@nosuchbackbone", "@")),
    *(("num_classes", value) for value in (None, "3", 3.0, True, 0, -1, 2, 4, 10**9, 10**400, [3], MOST_CLASSES + 1)),
    *(("mean", value) for value in (None, 0.5, [], [0.5], [0.5] * 4, ["a", 0, 0], [None] * 3, "abc", [True] * 3)),
    *(("mean", [value, 0.5, 0.5]) for value in (float("nan"), float("inf"), -float("inf"), 10**400)),
    *(("std", value) for value in (None, [0.0] * 3, [-1.0] * 3, [1.0, 0.0, 1.0], [float("nan")] * 3, {"r": 1})),
    *(("output_stride", value) for value in ("8", 0, -8, 8.5, 7, 3, 100000, [8])),
    *(("align_corners", value) for value in (None, 1, "true", [])),
    *(("args", value) for value in (3, "width", [1], {"width": 3})),
    *(("data", value) for value in (None, [], "road", 3)),
    *(("data.class_names", value) for value in (None, [], ["road"], [*"abcd"], "abc", [1, 2, 3], [None] * 3, {"a": 1})),
    *(("data.class_names", value) for value in (["a", "b", ""], ["a", ["b"], "c"])),
    *(("data.colors", value) for value in (None, [], [[0, 0, 0]], [[0, 0]] * 3, [[0, 0, 256]] * 3, [[0, 0, -1]] * 3)),
    *(("data.colors", value) for value in ([[0.5, 0, 0]] * 3, ["red"] * 3, "rgb", [[0, 0, 0]] * 4, {"a": 1})),
    *(("data.ignore_index", value) for value in ("255", -1, 1.5, 10**9)),
    *(("data.label_map", value) for value in ([0, 1], {"a": 0}, {"0": "a"}, {"0": 10**9}, {"0": -2}, 7)),
    *(("data.recipe", value) for value in ([], "folders", 3)),
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=[f"{key}={str(value)[:30]}" for key, value in WRONG])
def test_a_malformed_entry_is_one_line(key: str, value: Any, delivered: Path, tmp_path: Path) -> None:
    header = header_of(delivered)
    place = header["data"] if "." in key else header
    place[key.split(".")[-1]] = value
    refused(spoilt(delivered, tmp_path, {"format": FORMAT, "ladseg": json.dumps(header)}))


@pytest.mark.parametrize("key", ["model", "num_classes", "mean", "std", "data", "data.class_names"])
def test_a_missing_entry_is_named(key: str, delivered: Path, tmp_path: Path) -> None:
    header = header_of(delivered)
    del (header["data"] if "." in key else header)[key.split(".")[-1]]
    message = refused(spoilt(delivered, tmp_path, {"format": FORMAT, "ladseg": json.dumps(header)}))
    assert (f"no '{key}'" in message) or (key == "data" and "has data: null, not a mapping" in message)


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "3", '"text"', "NaN", "[" * 100_000, '{"a":' * 100_000, "\x00", '{"model": "\\ud800"}'],
)
def test_metadata_that_is_no_header_is_one_line(text: str, delivered: Path, tmp_path: Path) -> None:
    refused(spoilt(delivered, tmp_path, {"format": FORMAT, "ladseg": text}))


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}, {"format": FORMAT}, {"ladseg": "{}"}])
def test_other_metadata_is_one_line(metadata: dict[str, str], delivered: Path, tmp_path: Path) -> None:
    refused(spoilt(delivered, tmp_path, metadata))


@pytest.mark.parametrize("left", [0, 1, 7, 8, 9, 100, 0.5, 0.99, -1])
def test_a_truncated_file_is_one_line(left: float, delivered: Path, tmp_path: Path) -> None:
    content = delivered.read_bytes()
    count = int(left * len(content)) if isinstance(left, float) else left
    (tmp_path / "student.safetensors").write_bytes(content[:count])
    refused(tmp_path / "student.safetensors")


@pytest.mark.parametrize("content", [b"\xff" * 8, b"\xff" * 100, b"\x02" + b"\0" * 7 + b"{}", b"PK\x03\x04", b"junk"])
def test_another_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "student.safetensors").write_bytes(content)
    refused(tmp_path / "student.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(value: float, delivered: Path, tmp_path: Path) -> None:
    state = load_file(delivered)
    state["head.classifier.weight"][1, 2] = value
    save_file(state, tmp_path / "s.safetensors", {"format": FORMAT, "ladseg": json.dumps(header_of(delivered))})
    assert "'head.classifier.weight' holds NaN or infinity" in refused(tmp_path / "s.safetensors")


@pytest.mark.parametrize("change", ["missing", "more", "shape", "type"])
def test_weights_that_do_not_fit_are_one_line(change: str, delivered: Path, tmp_path: Path) -> None:
    state = load_file(delivered)
    key = "head.classifier.weight"
    if change == "missing":
        del state[key]
    else:
        more = {"more": torch.ones(1), "shape": torch.ones(2), "type": torch.ones(state[key].shape, dtype=torch.int64)}
        state["other" if change == "more" else key] = more[change]
    save_file(state, tmp_path / "s.safetensors", {"format": FORMAT, "ladseg": json.dumps(header_of(delivered))})
    refused(tmp_path / "s.safetensors")


def test_a_folder_and_a_missing_file_are_one_line(tmp_path: Path) -> None:
    refused(tmp_path)
    refused(tmp_path / "absent.safetensors")


def refused(path: Path) -> str:
    """Any way of reading the file ends in one line that names it."""
    for read in (load_student, ladseg.load):
        with pytest.raises(ModelError) as caught:
            read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 450
    return message


def test_colors_are_the_packages_where_a_file_has_none(tmp_path: Path) -> None:
    save_student(tmp_path / "s.safetensors", build_model(MODEL, 3), {"class_names": [*"abc"]})
    assert len(set(read_header(tmp_path / "s.safetensors").data.colors)) == 3


@pytest.mark.parametrize("data", [{}, {"class_names": [*"ab"]}, DATA | {"colors": [[0, 0, 0]]}])
def test_what_could_not_be_read_is_not_written(data: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"class_names|colors"):
        save_student(tmp_path / "s.safetensors", build_model(MODEL, 3), data)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    save_student(tmp_path / "s.safetensors", build_model(MODEL, 3), DATA)
    write_atomically(tmp_path / "t.safetensors", lambda path: save_file({"a": torch.ones(1)}, path))
    write_text(tmp_path / "t.txt", "text")
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}


@pytest.fixture
def no_room() -> Iterator[None]:
    """No file may grow beyond 64 kB, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("no_room")
def test_a_full_disk_is_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"s\.safetensors: can't be written \(File too large\); \d+ MB are free there"):
        save_student(tmp_path / "s.safetensors", build_model(MODEL, 3), DATA)
    assert list(tmp_path.iterdir()) == []


def test_a_library_with_other_words_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path) -> None:
        raise RuntimeError("unexpected pos 3227904 vs 3227792")

    with pytest.raises(RuntimeError):
        write_atomically(tmp_path / "a.pt", write)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(UserError, match=r"a\.pt: can't be written \(no space left\); 0 MB are free there"):
        write_atomically(tmp_path / "a.pt", write)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=r"a\.txt: can't be written \(Permission denied\)"):
        write_text(tmp_path / "a.txt", "text")


def test_a_file_in_the_folders_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("no folder")
    with pytest.raises(UserError, match="this folder can't be made"):
        write_text(tmp_path / "a/b.txt", "text")
    (tmp_path / "c.txt").mkdir()
    with pytest.raises(UserError, match=r"c\.txt: is a folder, but a file"):
        write_text(tmp_path / "c.txt", "text")


def test_a_long_name_leaves_room_for_the_temporary_one(tmp_path: Path) -> None:
    write_text(tmp_path / f"{'ä' * 120}.txt", "text")
    assert [path.stem for path in tmp_path.iterdir()] == ["ä" * 120]


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    names = [".a.12-0123abcd.tmp.pt", ".b.12-0123abcd.tmp", ".c.99-ffffffff.tmp.pt", ".hidden.tmp", "d.tmp.pt"]
    for name in names:
        (tmp_path / name).write_text("")
        if not name.startswith(".c"):
            os.utime(tmp_path / name, (time.time() - ABANDONED - 5,) * 2)
    remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".c.99-ffffffff.tmp.pt", ".hidden.tmp", "d.tmp.pt"]
