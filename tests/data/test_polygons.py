"""Polygons and run lengths become the masks that COCO's own tool and a test of every pixel's centre give."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as rle

from ladseg.commands.init import propose_recipe
from ladseg.data import check_dataset, find_split, fingerprint, open_dataset, survey
from ladseg.data.pairs import Labels
from ladseg.data.regions import Region, draw_regions
from ladseg.errors import DataError, FileError
from ladseg.recipe import Data
from ladseg.recipe_files import make_recipe
from tests.data.miniatures import MINIATURES, coco_json, image, labelme, yolo

SIZE = (40, 60)
LABELS = Labels({"a": 1, "b": 2}, 0)
SOURCE = Path("f.json")


def drawn(regions: list[Region], by_area: bool = True, labels: Labels = LABELS) -> np.ndarray:
    return draw_regions(regions, SIZE, labels, SOURCE, by_area)[0]


def star(seed: int, corners: int = 9) -> list[float]:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(9, 19, corners)
    return np.stack([30 + radii * np.cos(angles), 20 + radii * np.sin(angles)], 1).ravel().tolist()


def centres_inside(polygon: list[float]) -> np.ndarray:
    """Whether each pixel's centre is inside, by the crossings of a ray with the edges."""
    corners = np.reshape(polygon, (-1, 2))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = np.zeros(SIZE, bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
        crosses = (y0 > y) != (y1 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


@pytest.mark.parametrize("seed", range(5))
def test_a_polygon_covers_the_pixels_whose_centres_are_inside(seed: int) -> None:
    """The API of COCO, whose fill this is, moves an edge by less than a pixel."""
    mask, truth = drawn([Region("", "a", [star(seed)])]) == 1, centres_inside(star(seed))
    edge = np.zeros(SIZE, bool)
    for axis in (0, 1):
        for step in (1, -1):
            edge |= truth != np.roll(truth, step, axis)
    assert not (mask != truth)[~edge].any()
    assert (mask & truth).sum() > 0.9 * (mask | truth).sum()


def ann_to_mask(segmentation: Any) -> np.ndarray:
    """As COCO.annToMask has it."""
    if isinstance(segmentation, list):
        segmentation = rle.merge(rle.frPyObjects(segmentation, *SIZE))
    elif isinstance(segmentation["counts"], list):
        segmentation = rle.frPyObjects(segmentation, *SIZE)
    return rle.decode(segmentation)


def compressed(mask: np.ndarray) -> dict[str, Any]:
    runs = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": runs["size"], "counts": runs["counts"].decode()}


def plain(mask: np.ndarray) -> dict[str, Any]:
    flat = mask.T.ravel().astype(int)
    ends = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *ends, flat.size]).tolist()
    return {"size": list(SIZE), "counts": ([0] if flat[0] else []) + counts}


NOISE = np.random.default_rng(1).random(SIZE) < 0.3
SEGMENTATIONS = {
    "polygon": [star(1)],
    "two polygons that overlap": [star(2), [5, 5, 50, 6, 20, 39]],
    "over the edge": [[-10, -10, 70, 5, 30, 50]],
    "compressed": compressed(NOISE),
    "compressed, of long runs": compressed(centres_inside(star(3))),
    "compressed, all": compressed(np.ones(SIZE)),
    "runs": plain(NOISE),
    "runs from the first pixel on": plain(~centres_inside(star(3))),
    "nothing": compressed(np.zeros(SIZE)),
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", SEGMENTATIONS)
def test_segmentations_are_drawn_as_by_pycocotools(name: str) -> None:
    assert np.array_equal(drawn([Region("", "a", SEGMENTATIONS[name])]), ann_to_mask(SEGMENTATIONS[name]))


LARGE, SMALL = [[0, 0, 60, 0, 60, 40, 0, 40]], [[20, 10, 40, 10, 40, 30, 20, 30]]


def test_which_of_two_regions_wins() -> None:
    small, large = Region("", "a", SMALL), Region("", "b", LARGE)
    crowd = Region("", "b", LARGE, ignored=True)
    inside, outside = (20, 30), (2, 2)
    for regions, by_area, expected in (
        ([small, large], True, (1, 2)),
        ([large, small], True, (1, 2)),
        ([small, large], False, (2, 2)),
        ([large, small], False, (1, 2)),
        ([small, crowd], True, (1, 255)),
        ([small, crowd], False, (1, 255)),
        ([Region("", "other", LARGE), small], False, (1, 255)),
    ):
        mask = drawn(regions, by_area)
        assert (mask[inside], mask[outside]) == expected


FAULTS = {
    "no polygon": ([], "has no polygon; it may be a box alone"),
    "none": (None, "has no polygon"),
    "flat": ([1, 2, 3, 4, 5, 6], "no list of numbers"),
    "a box": ([[1, 2, 3, 4]], "a polygon of 4 numbers"),
    "odd": ([[1, 2, 3, 4, 5, 6, 7]], "a polygon of 7 numbers"),
    "words": ([[1, 2, 3, "4", 5, 6]], "no list of numbers"),
    "not finite": ([[1, 2, 3, float("nan"), 5, 6]], "no list of numbers"),
    "a huge whole number": ([[1, 2, 3, 10**400, 5, 6]], "corners far outside"),
    "far away": ([[1, 2, 3, 4, 5000, 6]], "corners far outside its image of 60x40"),
    "another size": ({"size": [60, 40], "counts": [2400]}, r"size \[60, 40\] where its image has \[40, 60\]"),
    "a size that is no list": ({"size": 40, "counts": [2400]}, "run lengths of size 40"),
    "short runs": ({"size": [40, 60], "counts": [7, 8]}, "run lengths of 15 pixels"),
    "negative": ({"size": [40, 60], "counts": [2408, -8]}, "no run lengths"),
    "spoilt text": ({"size": [40, 60], "counts": "garbage!"}, "run lengths"),
    "no text": ({"size": [40, 60], "counts": ""}, "run lengths of 0 pixels"),
    "cut text": ({"size": [40, 60], "counts": compressed(NOISE)["counts"][:-1]}, "run lengths"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_name_file_and_annotation(name: str) -> None:
    segmentation, words = FAULTS[name]
    with pytest.raises(FileError, match=rf"f\.json: annotation 7 \('a'\) has .*{words.removeprefix('has ')}") as caught:
        drawn([Region("annotation 7", "a", segmentation)])
    assert "\n" not in str(caught.value)


def rewrite(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_classes_choose_categories_by_name(tmp_path: Path) -> None:
    """Own order: c, then b, without a background; then one of them alone beside the background."""
    data = Data(root=str(tmp_path), **coco_json(tmp_path).data)
    for classes, row in ((["c", "b"], [255, 1, 255, 0]), (["background", "c"], [0, 255, 255, 1])):
        chosen = Data(root=data.root, layout="coco_json", classes=classes)
        assert open_dataset(chosen, "train").read(0)[1][0, ::6].tolist() == row
    assert any("does not name" in finding.message for finding in survey(chosen).findings)


@pytest.mark.parametrize(
    "categories", [[{"id": 2, "name": "c"}, {"id": 7, "name": "b"}], [{"id": 2, "name": "c"}, {"id": 7, "name": "x"}]]
)
def test_the_training_splits_file_says_which_class_is_which(categories: list[Any], tmp_path: Path) -> None:
    """The file of val gives other ids to the same names, or has a name of its own: bands 1 and 3 are ids 2 and 7."""
    data = Data(root=str(tmp_path), **coco_json(tmp_path).data)
    rewrite(tmp_path / "annotations/instances_val2017.json", lambda content: content.update(categories=categories))
    train, val = (open_dataset(data, split) for split in ("train", "val"))
    assert train.spec.class_names == val.spec.class_names == ("background", "b", "c")
    assert train.read(0)[1][0, ::6].tolist()[1::2] == [1, 2]
    assert val.read(0)[1][0, ::6].tolist()[1::2] == [2, 1 if categories[1]["name"] == "b" else 255]
    by_ids = Data(root=data.root, layout="coco_json", classes=["around", "thing"], label_map={2: 1, 7: 1, 255: 0})
    with pytest.raises(DataError, match="category 2 is 'c', but 'b' in "):
        open_dataset(by_ids, "val")


@pytest.mark.parametrize("names", ["[b, b]", "{-1: a, 0: b}", "{true: a, false: b}", "{'0': a}"])
def test_names_of_yolo_that_are_no_names_of_ids(names: str, tmp_path: Path) -> None:
    data = Data(root=str(tmp_path), **yolo(tmp_path).data)
    (tmp_path / "data.yaml").write_text(f"names: {names}")
    with pytest.raises(DataError, match=r"data\.yaml: (two classes of one name|names is a list, or a mapping)"):
        open_dataset(data, "train")


@pytest.mark.parametrize("make", [coco_json, yolo])
def test_a_label_map_goes_by_ids_and_may_merge_them(make: Any, tmp_path: Path) -> None:
    ids = (2, 7) if make is coco_json else (0, 2)
    make(tmp_path)
    label_map = {ids[0]: 1, ids[1]: 1, 255: 0}
    data = Data(root=str(tmp_path), layout=make.__name__, classes=["around", "thing"], label_map=label_map)
    assert open_dataset(data, "train").read(0)[1][0, ::6].tolist() == [0, 1, 255, 1]


@pytest.mark.parametrize("name", ["coco_json", "labelme", "yolo"])
def test_a_changed_annotation_or_order_of_classes_is_other_data(name: str, tmp_path: Path) -> None:
    data = Data(root=str(tmp_path), **MINIATURES[name](tmp_path).data)
    states = [survey(data).contents["train"]]
    prints = [fingerprint(open_dataset(data, "train"))]
    reordered = Data(root=data.root, layout=name, classes=["background", "c", "b"])
    states.append(survey(reordered).contents["train"])
    prints.append(fingerprint(open_dataset(reordered, "train")))
    if name == "coco_json":
        file = tmp_path / "annotations/instances_train2017.json"
        rewrite(file, lambda content: content["annotations"][0]["segmentation"][0].__setitem__(0, 3))
    elif name == "labelme":
        rewrite(tmp_path / "train/b.json", lambda content: content["shapes"].pop())
    else:
        (tmp_path / "labels/train/b.txt").unlink()
    states.append(survey(data).contents["train"])
    prints.append(fingerprint(open_dataset(data, "train")))
    assert len({state.digest for state in states}) == len(set(prints)) == 3
    assert states[0].changes_to(states[2]) == ["1 mask changed (" + sorted(states[0].pairs)[1] + ")"]


SHAPES = {
    "rectangle": ({"shape_type": "rectangle", "points": [[20, 30], [10, 5]]},
                  lambda x, y: (abs(x - 15) < 5) & (abs(y - 17.5) < 12.5)),
    "circle": ({"shape_type": "circle", "points": [[30, 20], [30, 32]]}, lambda x, y: np.hypot(x - 30, y - 20) < 12),
    "rectangle of four corners": (
        {"shape_type": "rectangle", "points": [[10, 5], [20, 5], [20, 30], [10, 30]]},
        lambda x, y: (abs(x - 15) < 5) & (abs(y - 17.5) < 12.5)),
    "no type": ({"points": [[20, 5], [10, 5], [10, 30], [20, 30]]},
                lambda x, y: (abs(x - 15) < 5) & (abs(y - 17.5) < 12.5)),
}  # fmt: skip


def one_labelme(root: Path, shape: dict[str, Any], size: tuple[int, int] | None = SIZE) -> Data:
    for split in ("train", "val"):
        image(root / f"{split}/x.png", 0)
        Image.new("RGB", SIZE[::-1]).save(root / f"{split}/x.png")
        content = {"imagePath": "x.png", "imageHeight": size and size[0], "imageWidth": size and size[1]}
        (root / f"{split}/x.json").write_text(json.dumps({**content, "shapes": [{"label": "a", **shape}]}))
    return Data(root=str(root), layout="labelme", classes=["_background_", "a"])


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("size", [SIZE, None])
def test_shapes_of_labelme(name: str, size: tuple[int, int] | None, tmp_path: Path) -> None:
    shape, inside = SHAPES[name]
    label = open_dataset(one_labelme(tmp_path, shape, size), "train").read(0)[1].numpy()
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    assert (label != inside(x, y)).sum() <= 0.08 * inside(x, y).sum()


def test_a_mask_of_labelme_lies_at_its_corner(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray((NOISE[:10, :8] * 255).astype(np.uint8)).convert("1").save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    data = one_labelme(tmp_path, {"shape_type": "mask", "points": [[12, 4], [19, 13]], "mask": text})
    expected = np.zeros(SIZE, np.uint8)
    expected[4:14, 12:20] = NOISE[:10, :8]
    assert np.array_equal(open_dataset(data, "train").read(0)[1].numpy(), expected)


@pytest.mark.parametrize("corner", [(-3, -2), (55, 36), (-40, 0)])
def test_a_mask_of_labelme_is_cut_at_the_border(corner: tuple[int, int], tmp_path: Path) -> None:
    file, (left, top) = io.BytesIO(), corner
    Image.fromarray(np.full((10, 8), 255, np.uint8)).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    points = [[left, top], [left + 7, top + 9]]
    data = one_labelme(tmp_path, {"shape_type": "mask", "points": points, "mask": text})
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    expected = (left <= x) & (x < left + 8) & (top <= y) & (y < top + 10)
    assert np.array_equal(open_dataset(data, "train").read(0)[1].numpy(), expected.astype(np.uint8))


@pytest.mark.parametrize(
    "shape",
    [
        {"shape_type": "circle", "points": [[10**400, 1], [2, 2]]},
        {"shape_type": "circle", "points": [["1", 1], [2, 2]]},
        {"shape_type": "circle", "points": [[1, 1]]},
        {"shape_type": "rectangle", "points": [[1, 1]]},
        {"shape_type": "mask", "points": [[float("inf"), 1], [float("inf"), 2]], "mask": ""},
        {"shape_type": "polygon", "points": None},
        {"shape_type": "polygon"},
    ],
    ids=str,
)
def test_spoilt_shapes_of_labelme_are_one_line(shape: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.json: shape 1 \('a'\) can't be drawn \(.+\)") as caught:
        check_dataset(one_labelme(tmp_path, shape))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["point", "line", "linestrip"])
def test_shapes_without_area_are_refused(kind: str, tmp_path: Path) -> None:
    points = [[12, 4], [19, 13]] if kind != "point" else [[12, 4]]
    data = one_labelme(tmp_path, {"shape_type": kind, "points": points})
    with pytest.raises(DataError, match=rf"x\.json: shape 1 \('a'\) can't be drawn \(a {kind} has no area\)"):
        check_dataset(data)


def test_an_image_that_nobody_has_labelled_is_left_out_of_labelme_and_background_for_yolo(tmp_path: Path) -> None:
    for make, folder in ((labelme, "train"), (yolo, "images/train")):
        root = tmp_path / make.__name__
        data = Data(root=str(root), **make(root).data)
        image(root / folder / "z.jpg", 9)
        listing = find_split(data, "train")[0]
        assert [fault.level for fault in listing.faults] == ["warning"]
        assert len(listing.pairs) == (2 if make is labelme else 3)
    assert open_dataset(data, "train").read(2)[1].unique().tolist() == [0]
    assert check_dataset(data)


def spoil(name: str, root: Path) -> None:
    coco = root / "annotations/instances_train2017.json"
    changes = {
        "no category": lambda c: c["categories"].clear(),
        "unknown category": lambda c: c["annotations"][0].update(category_id=99),
        "unknown image": lambda c: c["annotations"][0].update(image_id=99),
        "no file name": lambda c: c["images"][0].pop("file_name"),
        "image not there": lambda c: c["images"][0].update(file_name="gone.jpg"),
        "a box alone": lambda c: c["annotations"][0].update(segmentation=[]),
        "two of a name": lambda c: c["categories"].append({"id": 9, "name": "b"}),
        "another size": lambda c: [each.update(width=20) for each in c["images"]],
    }
    if name in changes:
        rewrite(coco, changes[name])
    elif name == "no JSON":
        coco.write_text("{")
    elif name == "no labelme":
        (root / "train/a.json").write_text("[]")
    else:
        lines = {"yolo box": "0 .5 .5 .1 .1", "yolo class": "3 0 0 1 0 1 1", "yolo words": "b 0 0 1 0 1 1"}
        (root / "labels/train/a.txt").write_text(lines[name] + "\n")


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("no JSON", coco_json, r"instances_train2017\.json: can't be read as JSON"),
        ("no category", coco_json, "no category in it"),
        ("unknown category", coco_json, "annotation 1 has category 99"),
        ("unknown image", coco_json, "annotation 1 is of image 99, which is not there"),
        ("no file name", coco_json, "an image, annotation or category lacks something"),
        ("image not there", coco_json, r"gone\.jpg: no such image"),
        ("a box alone", coco_json, r"image 0 \(b\.jpg\): annotation 1 \('2'\) has no polygon"),
        ("two of a name", coco_json, "two categories of one id or name"),
        ("another size", coco_json, "annotation .* size|mask is 20x16"),
        ("no labelme", labelme, r"a\.json: no list 'shapes'"),
        ("yolo box", yolo, r"a\.txt: line 1 is a box"),
        ("yolo class", yolo, r"a\.txt: line 1 has class 3, but names are there for 0\.\.2"),
        ("yolo words", yolo, r"a\.txt: line 1 can't be read"),
    ],
)
def test_faults_of_annotation_files_are_one_line(name: str, make: Any, words: str, tmp_path: Path) -> None:
    data = Data(root=str(tmp_path), **make(tmp_path).data)
    spoil(name, tmp_path)
    with pytest.raises(DataError, match=words) as caught:
        check_dataset(data)
    assert "\n" not in str(caught.value)


def flat(name: str, root: Path) -> None:
    """Twelve images without splits, as CVAT, labelme and Ultralytics have them."""
    stems = [f"{number:02d}" for number in range(12)]
    for seed, stem in enumerate(stems):
        image(root / ("" if name == "labelme" else "images") / f"{stem}.jpg", seed)
    square = [2, 2, 12, 2, 12, 12, 2, 12]
    for stem in stems if name != "coco_json" else []:
        if name == "labelme":
            shapes = [{"label": "thing", "points": np.reshape(square, (-1, 2)).tolist()}]
            (root / f"{stem}.json").write_text(json.dumps({"imagePath": f"{stem}.jpg", "shapes": shapes}))
        else:
            (root / "labels").mkdir(exist_ok=True)
            (root / f"labels/{stem}.txt").write_text("0 " + " ".join(str(part / 24) for part in square) + "\n")
    if name == "yolo":
        (root / "data.yaml").write_text("names: [thing]\n")
    if name == "coco_json":
        content = {
            "images": [{"id": place, "file_name": f"{stem}.jpg"} for place, stem in enumerate(stems)],
            "annotations": [
                {"id": place, "image_id": place, "category_id": 1, "segmentation": [square]} for place in range(12)
            ],
            "categories": [{"id": 1, "name": "thing"}],
        }
        (root / "annotations").mkdir()
        (root / "annotations/instances_default.json").write_text(json.dumps(content))


@pytest.mark.parametrize("name", ["coco_json", "labelme", "yolo"])
def test_init_recognises_a_folder_without_splits(name: str, tmp_path: Path) -> None:
    flat(name, tmp_path)
    seen, text = propose_recipe(str(tmp_path))
    data = make_recipe(yaml.safe_load(text)).data
    assert (data.layout, data.val_fraction, data.classes) == (name, 0.2, ["background", "thing"])
    assert any("polygons (10)" in line for line in seen)
    assert [len(open_dataset(data, split)) for split in ("train", "val")] == [10, 2]
    assert open_dataset(data, "val").read(0)[1].unique().tolist() == [0, 1]
    assert not [finding for finding in survey(data).findings if finding.level == "error"]
