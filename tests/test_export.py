"""Exported files: opened by other programs, against the network in torch."""

import json
import resource
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn

from ladseg import Segmenter, build_model, list_models
from ladseg.cli import main
from ladseg.deploy.export import export_student
from ladseg.deploy.pooling import AverageBins, average_bins
from ladseg.deploy.same_padding import plain_sizes
from ladseg.deploy.student_file import save_student
from ladseg.errors import ModelError, UserError
from ladseg.models.segmenter import shown

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

CLASSES = 5
DATA = {"class_names": list("abcde"), "colors": [[9 * i, 0, 255] for i in range(CLASSES)]}
# One network of each family, the lightest; the others differ from it in depth and width. docs/export.md has them all.
FAMILIES = [
    "fcn_r18",
    "pspnet_r18",
    "deeplabv3_r18",
    "stdc1",
    "ocrnet_w18s",
    "dinov2_s14",
    "segformer_b0",
    "fcn@test_efficientnet",
]
TINY = f"{__name__}:HalvedThrice"


class HalvedThrice(nn.Module):
    """Takes multiples of 8 only."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.down = nn.Sequential(*(nn.Conv2d(3 if i == 0 else 8, 8, 3, stride=2, padding=1) for i in range(3)))
        self.classify = nn.Conv2d(8, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.down(image)
        return self.classify(F.avg_pool2d(image, 8).mean(dim=1, keepdim=True) + x)


class PadsItself(nn.Module):
    """Asks whether there is anything to pad, so that one graph is right for multiples of 16 or for all others."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, num_classes, 16, stride=16)

    def forward(self, image: Tensor) -> Tensor:
        below, right = -image.shape[-2] % 16, -image.shape[-1] % 16
        if below or right:
            image = F.pad(image, (0, right, 0, below), value=1.0)
        return self.patches(image)


class LargeIsOther(nn.Module):
    """Two networks in one: which of them depends on the number of pixels, and no size is of a kind."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.classify = nn.Conv2d(3, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classify(image)
        return -logits if image.shape[-1] * image.shape[-2] > 20_000_000 else logits


class MaxOfBins(nn.Module):
    """Pools to bins by their maximum, which ONNX has no operation for."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.classify = nn.Conv2d(3, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(F.adaptive_max_pool2d(image, 7))


class ManyLevels(nn.Module):
    """Rounds sizes in every way that our networks do: strides, pooling that rounds up, maps that meet, a map folded."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.halve = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.deeper = nn.ModuleList(nn.Conv2d(4, 4, 3, stride=2, padding=1) for _ in range(3))
        self.average = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
        self.largest = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.classify = nn.Conv2d(8, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        first = x = self.halve(image)
        for layer in self.deeper:
            x = layer(x) + self.average(x)
        last = x + F.interpolate(x.mean(dim=(2, 3), keepdim=True), size=x.shape[2:])
        folded = last.flatten(2).softmax(dim=2).reshape(last.shape)
        x = F.interpolate(last + folded, size=first.shape[2:], mode="bilinear", align_corners=True)
        largest = F.interpolate(self.largest(first), size=first.shape[2:])
        return self.classify(torch.cat([first + x, largest], dim=1))


def deliver(name: str, folder: Path) -> tuple[Path, Segmenter]:
    network = build_model(name, CLASSES, aux=False, merged=True).eval()
    # Fresh batch norms hand everything on; trained ones don't.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.8, 1.2)  # type: ignore[union-attr]
    # OCRNet's first guess weighs positions by a softmax over logits of hundreds, while untrained: float32 in torch is
    # then as far from float64 as a thousandth.
    if hasattr(network, "guess"):
        network.guess.classifier.weight.data.mul_(0.02)
    path = folder / "student.safetensors"
    save_student(path, network, DATA)
    return path, network


@torch.no_grad()
def expected_logits(network: Segmenter, image: Tensor) -> Tensor:
    align_corners = network.align_corners
    return F.interpolate(network(image).logits, size=image.shape[-2:], mode="bilinear", align_corners=align_corners)


def run_file(path: Path, image: Tensor) -> Tensor:
    if path.suffix == ".pt2":
        return torch.export.load(path).module()(image).detach()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    return torch.from_numpy(result)


def assert_agrees(path: Path, network: Segmenter, shape: tuple[int, int, int]) -> None:
    image = torch.randn(shape[0], 3, *shape[1:])
    expected = expected_logits(network, image)
    given = run_file(path, image)
    assert given.shape == expected.shape
    assert (given - expected).abs().max() < 1e-4 * (expected.max() - expected.min())


@pytest.mark.parametrize("side", [1, 2, 5, 6, 7, 11, 12, 13, 37, 64, 129])
@pytest.mark.parametrize("bins", [1, 2, 3, 6, 7, (2, 5), (None, 4), (3, None), [1, 1]])
def test_bins_are_those_of_torch(side: int, bins: int) -> None:
    for other in (1, 4, 9, 23, 50):
        x = torch.randn(2, 3, side, other, dtype=torch.float64)
        torch.testing.assert_close(average_bins(x, bins), F.adaptive_avg_pool2d(x, bins), rtol=1e-12, atol=1e-12)


def test_pooling_is_replaced_within_only() -> None:
    seen: list[str] = []

    class Listen(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(getattr(function, "__name__", ""))
            return function(*args, **(kwargs or {}))

    layer = nn.AdaptiveAvgPool2d(3)
    for mode, inside in ((AverageBins(), True), (None, False)):
        seen.clear()
        with Listen():
            if mode:
                with mode:
                    layer(torch.randn(1, 2, 7, 8))
            else:
                layer(torch.randn(1, 2, 7, 8))
        assert ("adaptive_avg_pool2d" in seen) is not inside
        assert ("matmul" in seen or "__matmul__" in seen) is inside


@pytest.mark.parametrize("padded", [32, 64, 224])
def test_positions_that_show_the_image_are_rounded_up(padded: int) -> None:
    for positions in (1, 2, 7, 8, padded // 2, padded - 3, padded):
        for side in range(1, padded + 1):
            count = shown(side, positions, padded)
            assert (count - 1) * padded < side * positions <= count * padded


def test_every_family_is_here() -> None:
    assert {name.split("_")[0][:4] for name in list_models()} <= {name.split("_")[0][:4] for name in FAMILIES}


def assert_prepared(path: Path, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert that onnxruntime's own preparation for quantisation takes the file and keeps what it computes."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    monkeypatch.chdir(path.parent)  # it leaves a file where it fails
    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(str(path), str(prepared))
    image = torch.randn(shape[0], 3, *shape[1:])
    torch.testing.assert_close(run_file(prepared, image), run_file(path, image), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [None, (70, 91)])
def test_sizes_can_be_inferred(size: tuple[int, int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{__name__}:ManyLevels"
    weights, network = deliver(name, tmp_path)
    exported = export_student(weights, "onnx", model=name, size=size)
    shapes = (
        [(1, *size)] if size else [(batch, 64 + n, 97 - n) for batch, n in ((1, 0), (2, 1), (1, 2), (3, 6), (1, 7))]
    )
    for shape in shapes:
        assert_agrees(exported.path, network, shape)
        assert_prepared(exported.path, shape, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAMILIES, "pspnet@test_resnet"])
def test_onnx_gives_what_torch_gives(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, network = deliver(name, tmp_path)
    exported = export_student(weights, "onnx")
    assert_prepared(exported.path, (2, 75, 118), monkeypatch)
    assert exported.path == tmp_path / "student.onnx"
    assert exported.sizes.multiple == 1
    assert [m.shape[0] for m in exported.measured] == [1, 2, 1]
    assert all(m.difference < 1e-4 for m in exported.measured)
    for shape in ((3, 75, 118), (1, 192, 64)):
        assert_agrees(exported.path, network, shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dinov2_s14", "pspnet@test_resnet"])
def test_programs_give_what_torch_gives(name: str, tmp_path: Path) -> None:
    weights, network = deliver(name, tmp_path)
    exported = export_student(weights, "torch")
    assert exported.path == tmp_path / "student.pt2"
    assert exported.sizes.multiple == 1
    for shape in ((3, 75, 118), (1, 192, 64)):
        assert_agrees(exported.path, network, shape)


@pytest.mark.parametrize("to", ["onnx", "torch"])
@pytest.mark.parametrize("normalize", [True, False])
def test_normalisation_and_class_ids_inside(to: str, normalize: bool, tmp_path: Path) -> None:
    weights, network = deliver(TINY, tmp_path)
    out = tmp_path / f"deep/er.{'onnx' if to == 'onnx' else 'pt2'}"
    exported = export_student(weights, to, out, normalize, argmax=True, model=TINY)
    rgb = torch.rand(2, 3, 70, 91)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (network.input_mean, network.input_std))
    label = run_file(out, rgb if normalize else (rgb - mean) / std)
    logits = expected_logits(network, (rgb - mean) / std)
    assert label.dtype == torch.int64
    assert label.shape == (2, 70, 91)
    chosen = logits.gather(1, label.unsqueeze(1)).squeeze(1)
    assert (logits.amax(dim=1) - chosen).max() <= 1e-4 * (logits.max() - logits.min())
    assert all(m.pixels < 1e-3 for m in exported.measured)


@pytest.mark.parametrize("opset", [18, 20])
def test_opset_and_label_type_are_options(opset: int, tmp_path: Path) -> None:
    weights, _ = deliver(TINY, tmp_path)
    wide = export_student(weights, "onnx", tmp_path / "wide.onnx", argmax=True, model=TINY)
    narrow = export_student(
        weights, "onnx", tmp_path / "narrow.onnx", argmax=True, model=TINY, opset=opset, label_type="int32"
    )
    file = onnx.load(narrow.path)
    assert {entry.domain: entry.version for entry in file.opset_import}[""] == opset
    assert file.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.INT32
    image = torch.rand(2, 3, 70, 91)
    label = run_file(narrow.path, image)
    assert label.dtype == torch.int32
    assert torch.equal(label.long(), run_file(wide.path, image))
    words = ["export", str(weights), "--to", "onnx", "--model", TINY, "--argmax", "--label-type", "int32", "--opset"]
    assert main([*words, str(opset), "--out", str(tmp_path / "again.onnx")]) == 0
    assert torch.equal(run_file(tmp_path / "again.onnx", image), label)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "torch", "opset": 18}, "--to torch has none"),
        ({"to": "onnx", "opset": 7}, "opset is 7; torch writes 18 or newer"),
        ({"to": "onnx", "opset": 999}, "opset 999"),
        ({"to": "onnx", "label_type": "int32"}, "add --argmax"),
    ],
)
def test_options_without_a_meaning_are_one_line(options: dict, message: str, tmp_path: Path) -> None:
    weights, _ = deliver(TINY, tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        export_student(weights, **options, model=TINY)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["student.safetensors"]


@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_a_full_disk_is_one_line_and_no_file(to: str, tmp_path: Path) -> None:
    weights, _ = deliver(TINY, tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(
            UserError, match=r"student\.(onnx|pt2): can't be written \(File too large\); \d+ MB are free"
        ):
            export_student(weights, to, model=TINY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["student.safetensors"]


def test_an_exported_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    weights, _ = deliver(TINY, tmp_path)
    (tmp_path / "any").write_text("")
    modes = {path.stat().st_mode for path in (export_student(weights, "torch", model=TINY).path, tmp_path / "any")}
    assert len(modes | {weights.stat().st_mode}) == 1


@pytest.mark.parametrize(("argmax", "output"), [(False, "logits"), (True, "label")])
def test_onnx_tells_of_itself(argmax: bool, output: str, tmp_path: Path) -> None:
    weights, network = deliver(TINY, tmp_path)
    file = onnx.load(export_student(weights, "onnx", argmax=argmax, model=TINY).path)
    onnx.checker.check_model(file, full_check=True)
    facts = {entry.key: entry.value for entry in file.metadata_props}
    assert json.loads(facts["class_names"]) == DATA["class_names"]
    assert json.loads(facts["colors"]) == DATA["colors"]
    assert json.loads(facts["mean"]) == list(network.input_mean)
    assert json.loads(facts["std"]) == list(network.input_std)
    assert (facts["model"], facts["output"]) == (TINY, output)
    assert facts["normalization"].startswith("outside")
    assert [value.name for value in file.graph.input] == ["image"]
    assert [value.name for value in file.graph.output] == [output]
    sides = [dim.dim_param or dim.dim_value for dim in file.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", 3, "height", "width"]


@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_a_file_holds_no_paths_of_this_machine(to: str, tmp_path: Path) -> None:
    weights, _ = deliver(TINY, tmp_path)
    path = export_student(weights, to, model=TINY).path
    contents = [path.read_bytes()]
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            contents = [archive.read(name) for name in archive.namelist()]
    assert not any(
        str(Path(place).parent).encode() in content for place in (__file__, torch.__file__) for content in contents
    )


def test_a_program_tells_of_itself(tmp_path: Path) -> None:
    weights, _ = deliver(TINY, tmp_path)
    extra = {"ladseg.json": ""}
    torch.export.load(export_student(weights, "torch", normalize=True, model=TINY).path, extra_files=extra)
    facts = json.loads(extra["ladseg.json"])
    assert (facts["class_names"], facts["model"]) == (DATA["class_names"], TINY)
    assert facts["normalization"].startswith("inside")


@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_a_network_of_ones_own_whose_image_is_padded(to: str, tmp_path: Path) -> None:
    weights, network = deliver(TINY, tmp_path)
    assert network.size_divisor == 8
    exported = export_student(weights, to, model=TINY)
    assert exported.sizes.multiple == 1
    for shape in ((1, 64, 64), (2, 71, 66), (1, 65, 72)):
        assert_agrees(exported.path, network, shape)


@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_what_holds_for_multiples_only_is_said(to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"{__name__}:PadsItself"
    weights, network = deliver(name, tmp_path)
    assert main(["export", str(weights), "--to", to, "--model", name]) == 0
    assert "multiples of 32 from 64" in capsys.readouterr().out
    assert_agrees(tmp_path / f"student.{'onnx' if to == 'onnx' else 'pt2'}", network, (2, 96, 160))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("LargeIsOther", "can't be exported for images of any size, nor for multiples of 32: Runtime assertion failed"),
        ("MaxOfBins", "can't be written as ONNX .*--to torch takes heights and widths: any from 64"),
    ],
)
def test_what_cant_be_exported_is_one_line_and_no_file(network: str, message: str, tmp_path: Path) -> None:
    name = f"{__name__}:{network}"
    weights, _ = deliver(name, tmp_path)
    with pytest.raises(ModelError, match=message) as caught:
        export_student(weights, "onnx", model=name)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["student.safetensors"]


@pytest.mark.parametrize("wrong", [0.01, float("nan")])
@pytest.mark.parametrize("argmax", [True, False])
def test_a_file_that_disagrees_is_not_kept(
    wrong: float, argmax: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ladseg.deploy.export as export

    def opened(path: Path):  # type: ignore[no-untyped-def]
        program = torch.export.load(path).module()

        def run(image: Tensor) -> Tensor:
            result: Tensor = program(image)
            return (result + 1) % CLASSES if argmax else result + wrong * (result.max() - result.min())

        return run

    monkeypatch.setattr(export, "open_program", opened)
    weights, _ = deliver(TINY, tmp_path)
    with pytest.raises(ModelError, match="in torch and was not kept"):
        export_student(weights, "torch", argmax=argmax, model=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["student.safetensors"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    weights, _ = deliver(TINY, tmp_path)
    words = ["export", str(weights), "--to", "onnx", "--out", str(tmp_path / "a.onnx"), "--normalize"]
    assert main(words) == 2
    assert f"add --model {TINY}" in capsys.readouterr().err
    assert main([*words, "--model", TINY]) == 0
    printed = capsys.readouterr()
    assert "2 x 3 x 97 x 131: largest difference" in printed.out
    assert f"written: {tmp_path}/a.onnx; it takes heights and widths: any from 64" in printed.out
    assert printed.err == ""

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", str(weights), "--to", "onnx"]) == 2
    assert "pip install 'ladseg[onnx]'" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "no.safetensors"), "--to", "torch"]) == 2
    assert "no such weights file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (2, 2, 1), (3, 1, 2), (7, 4, 1), (1, 2, 1)]
)
def test_same_padding_is_that_of_timm(kernel: int, stride: int, dilation: int) -> None:
    layer = Conv2dSame(2, 3, kernel, stride=stride, dilation=dilation)
    for height, width in ((16, 17), (18, 19), (9, 31), (7, 8)):
        image = torch.randn(2, 2, height, width)
        expected = layer(image)
        with plain_sizes(layer):
            torch.testing.assert_close(layer(image), expected, rtol=0, atol=0)
        assert "forward" not in vars(layer)


def test_sizes_behind_same_padding_stay_short() -> None:
    layers = nn.Sequential(*(Conv2dSame(3, 3, 3, stride=2) for _ in range(5)))
    side = torch.export.Dim("side", min=64, max=16384)
    with plain_sizes(layers):
        program = torch.export.export(
            layers, (torch.zeros(1, 3, 131, 64),), dynamic_shapes={"input": {2: side}}, strict=False
        )
    (output,) = program.graph.find_nodes(op="output")
    height = output.args[0][0].meta["val"].shape[2]
    assert len(str(height)) < 200
    for given in (64, 65, 1000, 16384):
        assert program.module()(torch.zeros(1, 3, given, 64)).shape[2] == -(-given // 32)
