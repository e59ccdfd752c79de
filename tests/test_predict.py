"""A delivered network at work: predict, load, eval."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

import ladseg
from ladseg.cli import main
from ladseg.commands.evaluate import data_for
from ladseg.commands.inputs import find_inputs
from ladseg.data import eval_loader, open_dataset, write_demo_scenes
from ladseg.deploy.student_file import load_student, save_student
from ladseg.errors import DataError, FileError
from ladseg.evaluation import by_argmax
from ladseg.evaluation.evaluate import evaluate
from ladseg.recipe import Data
from ladseg.recipe_files import dump_recipe, make_recipe
from ladseg.resize import resize_logits

COLORS = [(10 * c, 255 - 20 * c, 7 * c) for c in range(9)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained; its classes vary over an image all the same."""
    torch.manual_seed(3)
    network = ladseg.build_model("pspnet@test_resnet", 9).eval()
    path = tmp_path_factory.mktemp("weights") / "student.safetensors"
    names = [*"abcdefghi"]
    data = {"class_names": names, "colors": COLORS, "ignore_index": 9, "label_map": None}
    save_student(path, network, data | {"recipe": {"classes": names, "ignore_index": 9}})
    return path


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_demo_scenes(root, train=1, val=4, size=(45, 70))
    return root


def by_hand(weights: Path, image: np.ndarray) -> torch.Tensor:
    """Class ids of an RGB image, step by step."""
    network, header = load_student(weights)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (header.mean, header.std))
    normal = (torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 - mean) / std
    with torch.no_grad():
        return resize_logits(network(normal).logits, image.shape[:2]).argmax(1)[0]


def test_every_kind_of_image_gives_the_same(weights: Path, scenes: Path) -> None:
    path = next((scenes / "images/val").iterdir())
    picture = Image.open(path).convert("RGB")
    array = np.array(picture)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    student = ladseg.load(weights)
    expected = by_hand(weights, array)
    assert expected.unique().numel() > 1
    for image in (path, str(path), picture, array, tensor, tensor.float() / 255, array / 255):
        ids = student.predict(image)
        assert (ids.dtype, ids.device.type) == (torch.int64, "cpu")
        assert torch.equal(ids, expected)
    both = student.predict(torch.stack([tensor, tensor.flip(-1)]))
    assert torch.equal(both[0], expected)
    shares = student.probabilities(path)
    assert shares.shape == (9, *expected.shape)
    assert torch.equal(shares.argmax(0), expected)
    with torch.no_grad():
        logits = student(tensor[None].float() / 255)
    torch.testing.assert_close(logits.softmax(1)[0], shares)
    assert student.class_names == [*"abcdefghi"]
    assert student.colors == COLORS


def test_grey_images_and_files_turned_by_their_camera(weights: Path, tmp_path: Path) -> None:
    student = ladseg.load(weights)
    grey = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    expected = by_hand(weights, np.stack([grey] * 3, axis=-1))
    assert torch.equal(student.predict(grey), expected)
    assert torch.equal(student.predict(Image.fromarray(grey)), expected)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter to the right
    Image.fromarray(np.rot90(grey)).save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(student.predict(tmp_path / "turned.png"), expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\); expected \(H, W, 3\)"),
        (torch.zeros(1, 4, 4), r"expected \(3, H, W\)"),
        (torch.full((3, 4, 4), 2.0), r"values of 2..2; expected 0..1"),
        (torch.full((3, 4, 4), float("nan")), "expected 0..1"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "expected uint8"),
        (5, "a int; expected a path"),
    ],
)
def test_what_is_no_image_is_refused(weights: Path, image: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ladseg.load(weights).predict(image)  # type: ignore[arg-type]


def test_a_missing_file_is_named(weights: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.png"):
        ladseg.load(weights).predict("gone.png")


def test_an_image_that_is_not_there_is_said_to_be_missing(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(weights), str(tmp_path / "no.png"), "--out", str(tmp_path / "out")]) == 1
    assert (
        "no.png: can't be read as an image (no such file, or a link to none); correct its name"
        in capsys.readouterr().err
    )


def test_predict_writes_masks_overlays_and_probabilities(
    weights: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    (images / "deep").mkdir(parents=True)
    sources = sorted((scenes / "images/val").iterdir())
    Image.open(sources[0]).save(images / "a.png")
    Image.open(sources[1]).convert("RGB").save(images / "a.jpg")
    Image.open(sources[2]).save(images / "deep/b.png")
    (images / "broken.png").write_bytes(b"not an image")
    (images / "notes.txt").write_text("left alone")
    out = tmp_path / "out"
    assert main(["predict", str(weights), str(images), "--out", str(out), "--probabilities"]) == 1
    printed = capsys.readouterr()
    assert "left out" in printed.err
    assert "broken.png" in printed.err
    assert "3 predicted, 1 left out" in printed.out
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    stems = ("a.png", "a.jpg", "deep/b")  # a suffix only where two would meet
    kinds = (("masks", "png"), ("overlays", "jpg"), ("probabilities", "npz"))
    assert names == {f"{kind}/{stem}.{suffix}" for kind, suffix in kinds for stem in stems}
    with Image.open(sources[2]) as opened:
        image = np.array(opened.convert("RGB"))
    expected = by_hand(weights, image).numpy()
    with Image.open(out / "masks/deep/b.png") as mask:
        assert mask.mode == "P"
        assert np.array_equal(np.array(mask), expected)
        assert np.array_equal(np.array(mask.convert("RGB")), np.array(COLORS)[expected])
    with Image.open(out / "overlays/deep/b.jpg") as blended:
        difference = np.array(blended).astype(float) - (image / 2 + np.array(COLORS)[expected] / 2)
    assert abs(difference).mean() < 6  # JPEG
    with np.load(out / "probabilities/deep/b.npz") as arrays:
        assert arrays["probabilities"].shape == (9, 45, 70)
        chances = ladseg.load(weights).probabilities(images / "deep/b.png").numpy()
        np.testing.assert_allclose(arrays["probabilities"], chances, rtol=1e-3, atol=1e-6)  # float16
        assert arrays["class_names"].tolist() == [*"abcdefghi"]


def test_an_output_folder_that_is_a_file_is_one_line(
    weights: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").touch()
    image = str(next((scenes / "images/val").iterdir()))
    assert main(["predict", str(weights), image, "--out", str(tmp_path / "taken")]) == 2
    assert "taken/masks" in capsys.readouterr().err


def test_with_windows_an_image_may_be_as_large_as_the_memory(
    weights: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses twice as many
    image = str(next((scenes / "images/val").iterdir()))
    arguments = ["predict", str(weights), image, "--out", str(tmp_path)]
    assert main(arguments) == 1
    assert "where 2,000 are the most" in capsys.readouterr().err
    assert main([*arguments, "--window", "32x32"]) == 0
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_predict_reads_and_writes_videos(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for shade in (30, 120, 220):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    inputs = [str(clip), str(tmp_path / "broken.mp4")]
    assert main(["predict", str(weights), *inputs, "--out", str(tmp_path / "out")]) == 1
    assert "broken.mp4" in capsys.readouterr().err
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 3
    for number, frame in enumerate(frames, 1):
        with Image.open(tmp_path / f"out/masks/clip/{number:06d}.png") as mask:
            assert np.array_equal(np.array(mask), by_hand(weights, frame).numpy())
    with av.open(str(tmp_path / "out/overlays/clip.mp4")) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 5
    assert [frame.shape for frame in shown] == [(48, 64, 3)] * 3
    ids = by_hand(weights, frames[0]).numpy()
    assert abs(shown[0].astype(float) - (frames[0] / 2 + np.array(COLORS)[ids] / 2)).mean() < 12  # video
    assert not (tmp_path / "out/overlays/broken.mp4").exists()


def test_inputs_by_pattern_keep_what_tells_them_apart(tmp_path: Path) -> None:
    for place in ("x/one.png", "y/one.png", "y/two.jpg"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).touch()
    named = [str(item.name) for item in find_inputs([str(tmp_path / "*/*.png")])]
    assert named == ["x/one", "y/one"]
    assert [str(item.name) for item in find_inputs([str(tmp_path / "y/two.jpg")])] == ["two"]
    with pytest.raises(DataError, match="no file matches"):
        find_inputs([str(tmp_path / "*.bmp")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image in this folder"):
        find_inputs([str(tmp_path / "empty")])
    with pytest.raises(DataError, match="would both be predicted as"):
        find_inputs([str(tmp_path / "x"), str(tmp_path / "y")])


def test_eval_gives_every_figure(
    weights: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["eval", str(weights), "--data", str(scenes), "--data.classes", str(scenes / "classes.txt")]
    assert main([*where, "--json", "-"]) == 0
    measured = json.loads(capsys.readouterr().out)
    dataset = open_dataset(Data(root=str(scenes), classes=str(scenes / "classes.txt"), ignore_index=9), "val")
    network, header = load_student(weights)
    loader = eval_loader(dataset, mean=header.mean, std=header.std)
    expected = evaluate(by_argmax(lambda batch: network(batch["image"]).logits), loader, 9).matrix
    assert measured["confusion"] == expected.counts.tolist()
    assert measured["mean_iou"] == pytest.approx(expected.mean_iou())
    assert 0 < measured["mean_boundary_iou"] < measured["mean_iou"] + 0.5
    assert measured["images"] == 4
    assert main([*where, "--confusion", "--json", str(tmp_path / "whole.json")]) == 0
    printed = capsys.readouterr().out
    assert f"{100 * measured['mean_boundary_iou']:.2f}" in printed
    assert "Per cent of the label's pixels" in printed
    assert json.loads((tmp_path / "whole.json").read_text()) == measured
    assert main([*where, "--window", "32x32", "--scales", "1,1.5", "--flip", "--json", "-"]) == 0
    other = json.loads(capsys.readouterr().out)
    plain = {"average": "softmax", "rescale": None}
    assert other["inference"] == {"window": [32, 32], "stride": None, "scales": [1.0, 1.5], "flip": True, **plain}
    assert sum(map(sum, other["confusion"])) == sum(map(sum, measured["confusion"]))
    assert other["confusion"] != measured["confusion"]
    thin = ["--boundary", "0.005", "--rescale", "90x60", "--average", "logits", "--json", "-"]
    assert main([*where, *thin]) == 0
    narrow = json.loads(capsys.readouterr().out)
    assert (narrow["boundary"], measured["boundary"]) == (0.005, 0.02)
    assert (narrow["inference"]["rescale"], narrow["inference"]["average"]) == ([90, 60], "logits")
    assert narrow["confusion"] != measured["confusion"]
    assert narrow["mean_boundary_iou"] != measured["mean_boundary_iou"]
    with pytest.raises(SystemExit):
        main([*where, "--boundary", "2"])
    assert "'2' is not a number above 0 and up to 1" in capsys.readouterr().err
    assert main([*where, "--stride", "8x8"]) == 2
    assert "give the window too" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "words", "root"),
    [
        ("run", [], "its"),
        ("run/student.safetensors", [], "its"),
        ("run/student.int8.onnx", [], "its"),
        ("run", ["--data.root", "given"], "given"),
        ("run/student.safetensors", ["--data.root", "given"], "given"),
        ("elsewhere/student.safetensors", ["--data.root", "given"], "given"),
        ("elsewhere/student.safetensors", [], None),
        ("beside a recipe/student.safetensors", [], None),
        ("org/name", [], None),
    ],
)
def test_weights_in_their_run_know_where_the_data_are(
    place: str, words: list[str], root: str | None, weights: Path, tmp_path: Path
) -> None:
    for folder in ("run", "elsewhere", "beside a recipe"):
        (tmp_path / folder).mkdir()
    recipe = dump_recipe(make_recipe({"data": {"root": "its", "classes": [*"abcdefghi"], "workers": 3}}))
    for folder in ("run", "beside a recipe"):
        (tmp_path / folder / "recipe.yaml").write_text(recipe)
    (tmp_path / "run/results.json").write_text("{}")
    header = load_student(weights)[1]
    if root is None:
        with pytest.raises(DataError, match=f"{place}: weights outside their run do not know .*: --data DIR"):
            data_for(header, words, tmp_path / place)
    else:
        data = data_for(header, words, tmp_path / place)
        assert (data.root, data.ignore_index, data.workers) == (root, 9, 0)


@pytest.mark.parametrize("other", ["pspnet_r18", "my_package.my_net:MyNet", "x"])
@pytest.mark.parametrize(
    "words",
    [
        ["eval", "FILE", "--data", "DATA"],
        ["predict", "FILE", "x.png", "--out", "OUT"],
        ["export", "FILE", "--to", "onnx"],
        ["submit", "FILE", "--data", "DATA", "--out", "OUT"],
        ["bench", "FILE"],
    ],
    ids=lambda words: words[0],
)
def test_another_network_than_the_files_is_refused(
    words: list[str], other: str, weights: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was left aside, so that figures of one network could be taken for another's."""
    places = {"FILE": str(weights), "DATA": str(scenes), "OUT": str(tmp_path / "out")}
    assert main([*(places.get(word, word) for word in words), "--model", other]) == 2
    message = f"its network is 'pspnet@test_resnet', not '{other}'; leave --model out"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--parts", "loop"], ["--batch", "4"], ["--classes", "3"]])
def test_options_for_networks_are_not_for_files(
    words: list[str], weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(weights), *words]) == 2
    assert "--parts, --batch and --classes are options for networks" in capsys.readouterr().err
