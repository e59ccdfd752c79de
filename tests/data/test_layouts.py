"""Every layout as its publisher lays it, in miniature: pairs, mapped values, check, and a training of two steps."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from ladseg.cli import main
from ladseg.data import LAYOUTS, check_dataset, find_split, open_dataset, survey, train_loader
from ladseg.data.detect import detect
from ladseg.data.layouts.cityscapes import CITIES, PUBLISHED
from ladseg.errors import DataError
from ladseg.recipe import Data
from ladseg.recipe_files import load_recipe, recipe_names
from tests.data.miniatures import BANDS, MINIATURES, SIZE, Miniature, cityscapes, coco_stuff_10k, grey, voc


def built(name: str, root: Path) -> tuple[Miniature, Data]:
    made = MINIATURES[name](root)
    return made, Data(root=str(root / made.extra.get("below", "")), **made.data)


@pytest.mark.parametrize("name", MINIATURES)
def test_pairs_and_mapped_values(name: str, tmp_path: Path) -> None:
    made, data = built(name, tmp_path)
    dataset = open_dataset(data, "train")
    if made.images is not None and made.masks is not None:
        found = [(str(image), str(mask)) for image, mask in dataset.pairs]
        assert found == [(f"{tmp_path}/{i}", f"{tmp_path}/{m}") for i, m in zip(made.images, made.masks, strict=True)]
    assert dataset.spec.num_classes == made.num_classes == len(set(dataset.spec.class_names))
    image, label = dataset.read(0)
    assert image.shape == (3, *SIZE)
    assert image.float().std() > 50
    assert label.dtype == torch.uint8
    assert label[:, :: SIZE[1] // BANDS].tolist() == [made.labels] * SIZE[0]
    if "last" in made.extra:
        assert dataset.read(len(dataset) - 1)[1][0, :: SIZE[1] // BANDS].tolist() == made.extra["last"]
    assert len(open_dataset(data, "val")) == 1


@pytest.mark.parametrize("name", MINIATURES)
def test_the_check_passes_and_names_what_is_missing_of_the_published_split(name: str, tmp_path: Path) -> None:
    made, data = built(name, tmp_path)
    report = survey(data)
    assert [finding for finding in report.findings if finding.level == "error"] == []
    published = [f.message for f in report.findings if f.kind == "not the published split" and f.split == "train"]
    assert len(published) == (made.missing is not None)
    assert all(message.startswith(made.missing or "") for message in published)
    assert [split.pairs for split in report.splits] == [len(open_dataset(data, "train")), 1]
    # Of the first band of every training mask each class id is known.
    assert report.splits[0].class_images[made.labels[0]] == report.splits[0].pairs


@pytest.mark.parametrize("name", MINIATURES)
def test_every_layout_trains(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, data = built(name, tmp_path)
    values = {
        "data.root": data.root,
        "data.workers": 0,
        "student.model": "pspnet@test_resnet",
        "baseline": "false",
        "schedule.iterations": 2,
        "schedule.batch_size": 2,
        "schedule.crop": "[16, 16]",
        "schedule.precision": "fp32",
        "out": str(tmp_path / "run"),
    }
    if made.recipe is None:
        values |= {f"data.{key}": json.dumps(value) for key, value in made.data.items() if not isinstance(value, str)}
        values |= {f"data.{key}": value for key, value in made.data.items() if isinstance(value, str)}
    words = [word for key, value in values.items() for word in (f"--{key}", str(value))]
    (tmp_path / "plain.yaml").write_text("name: plain\n")
    assert main(["train", made.recipe or str(tmp_path / "plain.yaml"), *words]) == 0, capsys.readouterr().err
    assert len(json.loads((tmp_path / "run/results.json").read_text())["class_names"]) == made.num_classes
    # The delivered file knows how its data set lies: a folder is all that eval needs.
    assert main(["eval", str(tmp_path / "run/student.safetensors"), "--data", data.root]) == 0


@pytest.mark.parametrize(
    "name", [name for name in MINIATURES if "pair" not in name and name not in ("mask template", "rgb masks")]
)
def test_a_folder_is_recognised(name: str, tmp_path: Path) -> None:
    _, data = built(name, tmp_path)
    guess = detect(Path(data.root))
    assert guess.layout == data.layout
    # SBD's own files are only taken where the recipe asks for them.
    assert guess.augmented == (name == "voc augmented")
    if name == "yolo":  # a guess takes the class that the recipe leaves out too
        assert guess.classes == ["background", "b", "other", "c"]
        return
    label, expected = (open_dataset(each, "val").read(0)[1] for each in (guess, data))
    if name == "class_dict.csv":  # its last row is void, which a guess takes for what does not count
        expected[expected == 3] = 255
    assert torch.equal(label, expected)


def test_every_ready_recipe_with_a_layout_belongs_to_it() -> None:
    for layout in LAYOUTS.values():
        if layout.recipe is not None:
            assert layout.recipe in recipe_names()
            assert load_recipe(layout.recipe).data.layout == layout.name


def test_published_numbers_agree_with_one_another() -> None:
    for split, cities in CITIES.items():
        assert sum(cities.values()) == PUBLISHED[split]
    assert LAYOUTS["coco_stuff_164k"].published == {"train": 118287, "val": 5000}
    assert sum((LAYOUTS["coco_stuff_164k"].published or {}).values()) == 123287


def test_coco_stuff_leaves_out_the_eleven_things_that_are_never_drawn() -> None:
    """Their names and ids as the data set's own page has them."""
    names = LAYOUTS["coco_stuff_10k"].spec.class_names  # type: ignore[union-attr]
    gone = {"blender", "desk", "door", "eye glasses", "hair brush", "hat", "mirror", "plate", "shoe", "street sign"}
    gone.add("window")
    assert not gone & set(names)
    ten, hundred = (LAYOUTS[f"coco_stuff_{size}"].spec for size in ("10k", "164k"))
    assert ten is not None
    assert hundred is not None
    assert ten.mask_values().tolist() == [value + 1 for value in hundred.mask_values().tolist()]
    assert np.setdiff1d(np.arange(1, 183), ten.mask_values()).tolist() == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91]
    assert names[ten.lookup()[0][13]] == "stop sign"


def test_voc_colors_are_those_of_the_devkit() -> None:
    """The devkit's VOClabelcolormap, worked out by hand for a few ids."""
    spec = LAYOUTS["voc"].spec
    assert spec is not None
    assert [spec.colors[index] for index in (0, 1, 15, 20)] == [(0, 0, 0), (128, 0, 0), (192, 128, 128), (0, 64, 128)]


def test_torchvision_pairs_cityscapes_and_voc_as_we_do(tmp_path: Path) -> None:
    """Two of torchvision's own data sets read the same miniatures."""
    from torchvision.datasets import Cityscapes, VOCSegmentation

    cityscapes(tmp_path / "city")
    theirs = Cityscapes(str(tmp_path / "city"), split="train", mode="fine", target_type="semantic")
    names = sorted(zip(theirs.images, (targets[0] for targets in theirs.targets), strict=True))
    ours = find_split(Data(layout="cityscapes", root=str(tmp_path / "city")), "train")[0].pairs
    assert names == [(str(image), str(mask)) for image, mask in ours]
    # Their table of classes gives the training ids of the label ids.
    table = {entry.id: entry.train_id for entry in Cityscapes.classes if entry.id >= 0}
    lookup = find_split(Data(layout="cityscapes", root=str(tmp_path / "city")), "train")[1].lookup()[0]
    assert [int(lookup[value]) for value in range(34)] == [table[value] for value in range(34)]
    colors = {entry.train_id: entry.color for entry in Cityscapes.classes if 0 <= entry.train_id < 19}
    spec = LAYOUTS["cityscapes"].spec
    assert spec is not None
    assert spec.colors == tuple(colors[index] for index in range(19))

    voc(tmp_path / "voc")
    theirs = VOCSegmentation(str(tmp_path / "voc"), year="2012", image_set="train")
    ours = find_split(Data(layout="voc", root=str(tmp_path / "voc")), "train")[0].pairs
    assert list(zip(theirs.images, theirs.masks, strict=True)) == [(str(image), str(mask)) for image, mask in ours]


ADE, CITY, VOC = (
    "ADEChallengeData2016/annotations/training",
    "gtFine/val/lindau/lindau_000000_000000_gtFine",
    "VOCdevkit/VOC2012",
)
MAT = "annotations/COCO_train2014_000000000113.mat"


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        (
            "ade20k",
            lambda r: grey(r / f"{ADE}/ADE_train_00000003.png", [0, 1, 2, 151]),
            "ADE_train_00000003.png: mask has value 151 .* does not define",
        ),
        ("cityscapes", lambda r: grey(r / f"{CITY}_labelIds.png", [7, 34, 7, 7]), "labelIds.png: mask has value 34"),
        (
            "cityscapes labelTrainIds",
            lambda r: grey(r / f"{CITY}_labelTrainIds.png", [7, 33, 7, 7]),
            "mask has value 33 .* 19 classes .*did you load labelIds as labelTrainIds",
        ),
        (
            "cityscapes",
            lambda r: (r / "gtFine").rename(r / "gtCoarse"),
            "no leftImg8bit and gtFine in it; 'ladseg",
        ),
        (
            "coco_stuff_164k",
            lambda r: grey(r / "annotations/train2017/000000000009.png", [0, 11, 0, 0]),
            "000000000009.png: mask has value 11",
        ),
        (
            "coco_stuff_10k",
            lambda r: coco_stuff_10k(r, names=172),
            "COCO-Stuff 10K v1.0, .*get cocostuff-10k-v1.1",
        ),
        ("coco_stuff_10k", lambda r: (r / MAT).unlink(), "000000000113.jpg: image without mask"),
        ("coco_stuff_10k", lambda r: (r / MAT).write_bytes(b"x"), "can't be read as a Matlab file"),
        ("coco_stuff_10k", lambda r: savemat(r / MAT, {"T": 1}), "no label map in this Matlab file"),
        ("coco_stuff_10k", lambda r: savemat(r / MAT, {"S": np.full(SIZE, np.nan)}), "values up to nan"),
        ("coco_stuff_10k", lambda r: savemat(r / MAT, {"S": np.full(SIZE, 1.5)}), "values up to 1.5"),
        ("voc", lambda r: (r / f"{VOC}/JPEGImages/2007_000039.jpg").unlink(), "no such image, but the split names it"),
        ("voc", lambda r: (r / f"{VOC}/ImageSets/Segmentation/val.txt").unlink(), "val.txt: can't be read as a list"),
        ("voc sbd", lambda r: (r / "benchmark_RELEASE").rename(r / "sbd"), "data.augmented needs SegmentationClassAug"),
        ("camvid", lambda r: (r / "train/0001TP_006720.png").unlink(), "0001TP_006720.png"),
        (
            "pair lists",
            lambda r: (r / "train.txt").write_text("a b.jpg c.png"),
            "line 1 'a b.jpg c.png' is not an",
        ),
        ("pair lists", lambda r: (r / "train.txt").write_text("a.jpg c.png"), "a.jpg: no such file, but .*train.txt"),
        ("pair csv", lambda r: (r / "pairs.csv").write_text("image,mask\na,b\n"), "no column says the split"),
        (
            "pair csv",
            lambda r: (r / "pairs.csv").write_text("image,mask,split\na,b\n"),
            "row 1 'a,b' has too few",
        ),
        (
            "mask template",
            lambda r: (r / "train/a_mask.png").unlink(),
            "train/a.png: image without mask; expected .*/train/a_mask.png",
        ),
        (
            "rgb masks",
            lambda r: Image.new("RGB", SIZE[::-1], (1, 2, 3)).save(r / "masks/train/a.png"),
            r"colours that data.colors does not name \(1, such as \[1, 2, 3\]\); add",
        ),
        (
            "huggingface parquet",
            lambda r: (r / "data/train-00000-of-00001.parquet").write_bytes(b"x"),
            "neither parquet files of split 'train' nor",
        ),
    ],
)
def test_faults_of_layouts_are_one_line(name: str, spoil: object, message: str, tmp_path: Path) -> None:
    _, data = built(name, tmp_path)
    spoil(tmp_path)  # type: ignore[operator]
    with pytest.raises(DataError, match=message) as caught:
        check_dataset(data)
    assert "\n" not in str(caught.value)


CITY_IDS = {7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33}


@pytest.mark.parametrize(
    ("name", "ids", "expected"),
    [
        ("cityscapes", CITY_IDS, "berlin_000000_000019_pred_labelIds.png"),
        ("ade20k", set(range(1, 151)), "ADE_test_00000001.png"),
    ],
)
def test_predictions_go_out_as_the_servers_take_them(name: str, ids: set[int], expected: str, tmp_path: Path) -> None:
    """Cityscapes by the ids of its devkit, ADE20K by 1..150."""
    _, data = built(name, tmp_path / "data")
    values = {
        "data.root": data.root,
        "data.workers": 0,
        "student.model": "pspnet@test_resnet",
        "distill.method": "none",
        "schedule.iterations": 1,
        "schedule.batch_size": 2,
        "schedule.crop": "[16, 16]",
        "out": str(tmp_path / "run"),
    }
    assert main(["train", name, *(word for key, value in values.items() for word in (f"--{key}", str(value)))]) == 0
    out, weights = tmp_path / "predictions", str(tmp_path / "run/student.safetensors")
    assert main(["submit", weights, "--data", data.root, "--out", str(out)]) == 0
    assert [path.name for path in out.iterdir()] == [expected]
    with Image.open(out / expected) as prediction:
        assert prediction.mode == "L"
        assert prediction.size == SIZE[::-1]
        assert set(np.unique(np.array(prediction)).tolist()) <= ids


@pytest.mark.parametrize("name", ["huggingface", "huggingface parquet", "cityscapes"])
def test_loader_processes_read_what_this_one_reads(name: str, tmp_path: Path) -> None:
    _, data = built(name, tmp_path)
    options = {"crop": (16, 16), "batch_size": 2, "seed": 0, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    batches = [
        list(train_loader(open_dataset(data, "train"), start_step=0, steps=3, workers=workers, **options))  # type: ignore[arg-type]
        for workers in (0, 2)
    ]
    for ours, theirs in zip(*batches, strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
