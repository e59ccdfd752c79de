"""The files that ship: measured by the code that measures weights, against onnxruntime and Pillow by hand."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import ladseg
from ladseg.cli import main
from ladseg.commands.evaluate import measure
from ladseg.data import write_demo_scenes
from ladseg.deploy.export import export_student
from ladseg.deploy.export_graph import ATTEMPTS, FixedSize, read_sizes
from ladseg.deploy.exported_file import SUFFIX, open_exported
from ladseg.deploy.quantize import search
from ladseg.deploy.student_file import load_student, save_student
from ladseg.errors import ModelError, UserError
from ladseg.results import EvaluationResults

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SIZE = (64, 96)
IGNORED = 9


class Tiny(nn.Module):
    """Predicts from colours, at half of the image's size."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)
        )
        self.classify = nn.Conv2d(16, num_classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classify(F.relu6(self.layers(image)))


TINY = f"{__name__}:Tiny"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_demo_scenes(root, train=8, val=3, size=SIZE)
    return root


def pixels(scenes: Path, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images ``(3, H, W)`` in 0..1 and masks, read by Pillow alone."""
    found = []
    for path in sorted((scenes / "images" / split).iterdir()):
        with Image.open(path) as image, Image.open(scenes / "masks" / split / path.name) as mask:
            found.append((np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1) / 255, np.asarray(mask)))
    return found


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the student of a short training by bare torch."""
    torch.manual_seed(0)
    classes = (scenes / "classes.txt").read_text().split()
    network = ladseg.build_model(TINY, len(classes), aux=False, merged=True)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (network.input_mean, network.input_std))
    pairs = pixels(scenes, "train")
    images = (torch.stack([torch.tensor(image) for image, _ in pairs]) - mean) / std
    labels = torch.stack([torch.tensor(mask).long() for _, mask in pairs])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(40):
        logits = F.interpolate(network(images).logits, size=SIZE, mode="bilinear", align_corners=True)
        optimizer.zero_grad()
        F.cross_entropy(logits, labels, ignore_index=IGNORED).backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("run")
    save_student(folder / "student.safetensors", network.eval(), {"class_names": classes, "ignore_index": IGNORED})
    return folder


def measured(file: Path, scenes: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    assert main(["eval", str(file), "--data", str(scenes), "--json", "-", *words]) == 0
    return json.loads(capsys.readouterr().out)


def require(to: str) -> None:
    """Skip the test where the runtime is not installed."""
    if to == "openvino":
        pytest.importorskip("openvino")


def runner(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Open an exported file as its users do, without ladseg."""
    if file.suffix == ".onnx":
        session = onnxruntime.InferenceSession(str(file))
        return lambda image: session.run(None, {"image": image})[0]
    import openvino

    network = openvino.compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda image: network({"image": image})[0]


@pytest.mark.parametrize(
    ("to", "normalize", "argmax"),
    [
        ("onnx", True, True),
        ("onnx", False, False),
        ("torch", True, False),
        ("torch", False, True),
        ("openvino", True, True),
        ("openvino", False, False),
    ],
)
def test_eval_of_the_file_that_ships_is_that_of_the_weights(
    to: str, normalize: bool, argmax: bool, run: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require(to)
    file = export_student(run, to, tmp_path / f"s{SUFFIX[to]}", normalize, argmax, TINY).path
    ours, theirs = measured(file, scenes, capsys), measured(run, scenes, capsys, "--model", TINY)
    assert ours["images"] == theirs["images"] == 3
    assert ours["mean_iou"] > 0.1
    for figure in ("mean_iou", "mean_boundary_iou", "pixel_accuracy"):
        assert ours[figure] == pytest.approx(theirs[figure], abs=2e-3)
    if to == "torch":
        return
    run_file, right, counted = runner(file), 0, 0
    network = ladseg.build_model(TINY, 3)
    for image, mask in pixels(scenes, "val"):
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (network.input_mean, network.input_std))
        given = run_file((image if normalize else (image - mean) / std)[None])
        ids = given[0] if argmax else given[0].argmax(0)
        right += int(((ids == mask) & (mask != IGNORED)).sum())
        counted += int((mask != IGNORED).sum())
    assert ours["pixel_accuracy"] == pytest.approx(right / counted, abs=1e-9)


def test_sizes_are_read_as_they_are_printed() -> None:
    for sizes in (*ATTEMPTS, FixedSize(64, 96)):
        assert read_sizes(str(sizes)) == sizes
    assert read_sizes("any") is None
    multiples = ATTEMPTS[2]
    assert [multiples.take(*side) for side in ((64, 96), (64, 97), (32, 64), (64, 32768))] == [
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("to", ["onnx", "torch", "openvino"])
def test_a_file_of_one_size_takes_that_and_names_it(
    to: str, run: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require(to)
    file = tmp_path / f"s{SUFFIX[to]}"
    words = ["export", str(run), "--to", to, "--model", TINY, "--out", str(file), "--size"]
    assert main([*words, "64x96"]) == 0
    assert "heights and widths: 64x96 only" in capsys.readouterr().out
    if to == "onnx":
        assert onnxruntime.InferenceSession(str(file)).get_inputs()[0].shape == [1, 3, 64, 96]
    whole = measured(run, scenes, capsys, "--model", TINY)
    assert measured(file, scenes, capsys)["mean_iou"] == pytest.approx(whole["mean_iou"], abs=2e-3)
    assert main([*words, "32x48"]) == 0
    assert main(["eval", str(file), "--data", str(scenes)]) == 2
    assert "takes heights and widths: 32x48 only; the image is 64x96; give --window" in capsys.readouterr().err
    assert measured(file, scenes, capsys, "--window", "32x48")["pixel_accuracy"] > 0.3


def test_a_file_that_cant_be_measured_is_one_line(run: Path, scenes: Path, tmp_path: Path) -> None:
    ids = export_student(run, "onnx", tmp_path / "ids.onnx", argmax=True, model=TINY).path
    with pytest.raises(ModelError, match="returns class ids, so windows"):
        open_exported(ids).class_ids(torch.zeros(1, 3, *SIZE), ladseg.Inference(flip=True))
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    (tmp_path / "bad.pt2").write_bytes(b"no network")
    cases = [("bad.onnx", "can't be opened"), ("bad.pt2", "can't be opened"), ("none.onnx", "no such file")]
    if importlib.util.find_spec("openvino"):
        (tmp_path / "bad.xml").write_bytes(b"no network")
        lone = export_student(run, "openvino", tmp_path / "lone.xml", model=TINY).path
        lone.with_suffix(".bin").unlink()
        cases += [("bad.xml", "can't be opened"), ("lone.xml", "keep its .bin file beside it")]
    for name, words in cases:
        with pytest.raises(ModelError, match=words) as caught:
            open_exported(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_openvino_tells_of_itself_and_leaves_two_files(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("openvino")
    out = tmp_path / "deep" / "s.xml"
    for argmax in (False, True):
        export_student(run, "openvino", out, argmax=argmax, model=TINY)
        assert sorted(path.name for path in out.parent.iterdir()) == ["s.bin", "s.xml"]
        assert open_exported(out).bytes == sum(path.stat().st_size for path in out.parent.iterdir())
        facts = json.loads(openvino.Core().read_model(out).get_rt_info(["ladseg"]).astype(str))
        assert (facts["model"], facts["output"]) == (TINY, "label" if argmax else "logits")
    (tmp_path / "any").write_text("")
    assert len({path.stat().st_mode for path in (out, out.with_suffix(".bin"), tmp_path / "any")}) == 1
    with pytest.raises(UserError, match=r"ends in \.xml"):
        export_student(run, "openvino", tmp_path / "s.bin", model=TINY)
    monkeypatch.setattr("ladseg.bench.delivered.ROUNDS", 3)
    capsys.readouterr()
    assert main(["bench", str(out), "--threads", "1", "--size", "64x96", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["latency"]
    assert (row["images"], row["bytes"]) == (3, open_exported(out).bytes)


def test_a_runtime_that_is_not_installed_is_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"pip install 'ladseg\[openvino\]'"):
        export_student(run, "openvino", tmp_path / "s.xml", model=TINY)
    (tmp_path / "s.xml").write_text("")
    with pytest.raises(UserError, match=r"pip install 'ladseg\[openvino\]'"):
        open_exported(tmp_path / "s.xml")


def test_a_folder_names_its_student(
    run: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(next((scenes / "images/val").iterdir()))
    for weights, out in ((run, "a"), (run / "student.safetensors", "b")):
        assert main(["predict", str(weights), image, "--model", TINY, "--out", str(tmp_path / out)]) == 0
    (first,), (second,) = ((tmp_path / out / "masks").iterdir() for out in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert main(["predict", str(scenes), image, "--out", str(tmp_path / "c")]) == 2
    assert "a folder without student.safetensors" in capsys.readouterr().err


@pytest.fixture(scope="module")
def spoilt(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network, one layer of which int8 can't hold: a channel a million times as large as the others."""
    network, header = load_student(run, TINY)
    first, _, _, second = network.core.layers  # type: ignore[union-attr]
    with torch.no_grad():
        first.bias[0], first.weight[0] = 1e6, 0.0
        second.weight[:, 0] = 0.0
        network.core.layers[1].running_mean[0], network.core.layers[1].running_var[0] = 0.0, 1.0  # type: ignore
        network.core.layers[1].weight[0], network.core.layers[1].bias[0] = 1.0, 0.0  # type: ignore[union-attr]
    folder = tmp_path_factory.mktemp("spoilt")
    data = {"class_names": list(header.data.class_names), "ignore_index": IGNORED}
    save_student(folder / "student.safetensors", network, data)
    return folder


def test_int8_is_measured_small_and_within_its_loss(
    run: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(run), "--to", "onnx", "--int8", "--model", TINY, "--data", str(scenes), "--max-loss", "2"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "mIoU %" in printed
    assert "ms per image" in printed
    file = run / "student.int8.onnx"
    model = onnx.load(file)
    onnx.checker.check_model(model)
    kinds = {value.data_type for value in model.graph.initializer if "weight_quantized" in value.name}
    assert kinds == {onnx.TensorProto.INT8}
    # They are in the ranges: 8 bits for what an activation cuts off would leave few for the rest.
    assert {"Relu", "Clip"}.isdisjoint(node.op_type for node in model.graph.node)
    scales = {value.name: value for value in model.graph.initializer if value.name.endswith("weight_scale")}
    assert len(scales) == 3
    assert all(
        list(scale.dims) in ([16], [len(open_exported(file).header.data.class_names)]) for scale in scales.values()
    )
    facts = {
        entry.key: json.loads(entry.value)
        for entry in model.metadata_props
        if entry.key in ("precision", "float_layers")
    }
    assert facts == {"precision": "int8", "float_layers": []}
    whole = measured(run, scenes, capsys, "--model", TINY)
    assert measured(file, scenes, capsys)["mean_iou"] > whole["mean_iou"] - 0.02


def test_int8_leaves_out_the_layer_that_costs_it_and_measures_no_file_twice(
    spoilt: Path, scenes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ladseg.commands.reduce as reduce

    contents: list[bytes] = []

    def listen(file: str, *arguments: object) -> EvaluationResults:
        contents.append(Path(file).read_bytes())
        return measure(file, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(reduce, "measure", listen)
    words = ["export", str(spoilt), "--to", "onnx", "--int8", "--model", TINY, "--data", str(scenes)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "of 3 layers stay in floating point" in printed
    assert len(contents) == len(set(contents)) > 2
    assert (spoilt / "student.int8.onnx").read_bytes() in contents
    facts = {entry.key: entry.value for entry in onnx.load(spoilt / "student.int8.onnx").metadata_props}
    assert any("layers.3" in layer for layer in json.loads(facts["float_layers"]))
    assert len(json.loads(facts["float_layers"])) < 3
    whole = measured(spoilt, scenes, capsys, "--model", TINY)
    assert measured(spoilt / "student.int8.onnx", scenes, capsys)["mean_iou"] > whole["mean_iou"] - 0.01


@pytest.mark.parametrize("needed", range(1, 7))
def test_the_search_leaves_out_no_more_than_it_must(needed: int) -> None:
    layers = list("abcdefg")
    tried: list[int] = []

    def is_good(left_out: list[str]) -> bool:
        tried.append(len(left_out))
        return len(left_out) >= needed

    assert search(layers, is_good) == layers[:needed]
    assert len(tried) == len(set(tried))
    assert 0 not in tried
    assert [count for count in tried if count >= needed][-1] == needed
    for no_way in (layers, layers[:1]):
        with pytest.raises(ModelError, match=f"not even {len(no_way) - 1} of .*allow more with --max-loss"):
            search(no_way, lambda left_out: False)


def test_fp16_halves_the_file(run: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "half.onnx"
    words = ["export", str(run), "--to", "onnx", "--fp16", "--model", TINY, "--data", str(scenes), "--out", str(out)]
    assert main(words) == 0
    kinds = {value.data_type for value in onnx.load(out).graph.initializer if value.name.endswith("weight")}
    assert kinds == {onnx.TensorProto.FLOAT16}
    whole = measured(run, scenes, capsys, "--model", TINY)
    assert measured(out, scenes, capsys)["mean_iou"] == pytest.approx(whole["mean_iou"], abs=0.01)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "torch", "--int8"], "--int8 writes ONNX"),
        (["--to", "onnx", "--max-loss", "1"], "--max-loss are options of --int8 and --fp16"),
        (["--to", "onnx", "--int8"], "--data DIR"),
        (["--to", "onnx", "--int8", "--max-loss", "-1"], "not a number from 0"),
    ],
)
def test_what_int8_cant_do_is_one_line(
    words: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["export", str(run), "--model", TINY, *words])
    except SystemExit as ended:
        code = int(ended.code or 0)
    assert code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["--int8", "--fp16"])
def test_reducing_for_a_size_that_no_image_has_is_one_line(
    kind: str, run: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--to", "onnx", kind, "--size", "32x32", "--data", str(scenes)]
    assert main(["export", str(run), "--model", TINY, *words]) == 2
    message = capsys.readouterr().err
    assert "images of val are" in message
    assert "give theirs" in message
    assert "float.onnx" not in message  # a file of ours, in a temporary folder


def test_bench_of_files_times_each_beside_torch(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ladseg.bench.delivered.ROUNDS", 5)
    weights = tmp_path / "student.safetensors"
    weights.write_bytes((run / "student.safetensors").read_bytes())
    file = export_student(weights, "onnx", argmax=True, model=TINY).path
    small = export_student(weights, "onnx", tmp_path / "small.onnx", model=TINY, size=(64, 96)).path
    words = ["bench", str(file), str(small), "--model", TINY, "--threads", "1", "--size", "64x96,128x128"]
    before = torch.get_num_threads()
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    rows = {(Path(row["file"]).name, *row["size"]): row for row in json.loads(capsys.readouterr().out)["latency"]}
    assert len(rows) == 6
    missing = rows.pop(("small.onnx", 128, 128))
    assert (missing["p50"], missing["images"]) == (None, 0)
    for (name, *_), row in rows.items():
        assert 0 < row["p50"] <= row["p95"] < 10_000
        assert (row["images"], row["bytes"]) == (5, (tmp_path / name).stat().st_size)
    assert torch.get_num_threads() == before
    assert main(words) == 0
    printed = capsys.readouterr().out
    for part in ("p50", "p95", "128x128", "threads: 1"):
        assert part in printed
    assert main(["bench", str(small), "--model", TINY, "--markdown"]) == 0  # its own size
    assert "64x96" in capsys.readouterr().out
    cases = ((["stdc1", str(file)], "'stdc1' is not a file"), (["stdc1", "--threads", "2"], "options for files"))
    for wrong, message in cases:
        assert main(["bench", *wrong]) == 2
        assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def published(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a network that was trained on data at a secret place."""
    network, header = load_student(run, TINY)
    source = tmp_path_factory.mktemp("source") / "student.safetensors"
    recipe = {"root": "/home/someone/secret", "ignore_index": IGNORED}
    save_student(source, network, {"class_names": list(header.data.class_names), "recipe": recipe})
    folder = tmp_path_factory.mktemp("published")
    ladseg.load(source, TINY).save_pretrained(folder, {"mIoU % on val": 61.5}, license="mit", dataset="drawn scenes")
    return folder


def test_a_published_folder_predicts_and_has_a_card_that_the_hub_reads(run: Path, published: Path) -> None:
    from huggingface_hub import ModelCard

    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    again, first = ladseg.load(published, TINY), ladseg.load(run / "student.safetensors", TINY)
    assert torch.equal(again.predict(image), first.predict(image))
    assert again.header.data.recipe == {"ignore_index": IGNORED}
    assert b"secret" not in (published / "student.safetensors").read_bytes()
    card = ModelCard.load(published / "README.md")
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == (
        "mit",
        "ladseg",
        "image-segmentation",
    )
    (figure,) = card.data.eval_results
    assert (figure.metric_name, figure.metric_value, figure.dataset_name) == ("mIoU % on val", 61.5, "drawn scenes")
    assert (figure.task_type, figure.metric_type) == ("image-segmentation", "miou_on_val")
    for words in ("| mIoU % on val | 61.5 |", "drawn scenes", *first.class_names):
        assert words in card.text


def test_a_name_that_is_no_path_is_of_the_hub(
    run: Path, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.chdir(tmp_path)
    asked: list[tuple[str, str]] = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(published / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert ladseg.load("org/name", TINY).class_names == ladseg.load(run, TINY).class_names
    assert asked == [("org/name", "student.safetensors")]
    (tmp_path / "runs").mkdir()
    for path in ("runs/slip", "org/student.safetensors", "a/b/c", "nothing"):
        with pytest.raises(ModelError, match="no such weights file"):
            ladseg.load(path)
    assert len(asked) == 1


def test_a_hub_that_does_not_answer_is_one_line(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    student = ladseg.load(run, TINY)
    for ask in (lambda: ladseg.load("org/no-such-name"), lambda: student.push_to_hub("org/no-such-name")):
        with pytest.raises(ModelError, match=r"org/no-such-name: .*Hub .*check the name") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_what_is_pushed_is_the_folder(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, object] = {}

    class Api:
        def __init__(self, token: str | None) -> None:
            sent["token"] = token

        def create_repo(self, repository: str, private: bool, exist_ok: bool) -> None:
            sent.update(repository=repository, private=private, exist_ok=exist_ok)

        def upload_folder(self, repo_id: str, folder_path: str, commit_message: str) -> str:
            sent["files"] = sorted(path.name for path in Path(folder_path).iterdir())
            sent["card"] = (Path(folder_path) / "README.md").read_text()
            return f"https://hub/{repo_id}/commit/1"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    address = ladseg.load(run, TINY).push_to_hub("org/name", {"mIoU": 0.5}, token="t")
    assert address == "https://hub/org/name/commit/1"
    card = str(sent.pop("card"))
    assert f'ladseg.load("org/name", model="{TINY}")' in card
    assert sent == {
        "token": "t",
        "repository": "org/name",
        "private": True,
        "exist_ok": True,
        "files": ["README.md", "student.safetensors"],
    }
