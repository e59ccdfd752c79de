"""Each layout in miniature: its publisher's file names, formats and ids, and what they must become.

Masks are 24 wide and 16 high, with the listed values in vertical bands of equal width, so that a label is its bands.
"""

import csv
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (16, 24)
BANDS = 4
X = 255


@dataclass(frozen=True)
class Miniature:
    """What a miniature holds.

    Attributes:
        data: Keys of the recipe's data section, besides root.
        images: Image of each training pair, relative to the root, in order; None where they lie within a table.
        masks: The same of the masks.
        labels: The bands of the first training label, worked out by hand.
        num_classes: Number of classes.
        recipe: The ready recipe that trains on it; None for a plain one.
        missing: What the check says of the published split.
    """

    data: dict[str, Any]
    images: list[str] | None
    masks: list[str] | None
    labels: list[int]
    num_classes: int
    recipe: str | None = None
    missing: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def bands(values: list[int]) -> np.ndarray:
    return np.tile(np.repeat(np.array(values, np.uint8), SIZE[1] // BANDS), (SIZE[0], 1))


def image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(path)


def grey(path: Path, values: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(bands(values)).save(path)


def indexed(path: Path, values: list[int]) -> None:
    """A palette PNG whose colours say nothing of its indices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(bands(values)).convert("P")
    picture = Image.frombytes("P", (SIZE[1], SIZE[0]), bands(values).tobytes())
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    picture.save(path)
    with Image.open(path) as saved:
        assert saved.mode == "P"


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def cityscapes(root: Path, kind: str = "labelIds") -> Miniature:
    values = [7, 33, 0, 11] if kind == "labelIds" else [0, 18, 255, 2]
    names = [("train", "aachen", 0), ("train", "zurich", 19), ("val", "lindau", 0), ("test", "berlin", 19)]
    for seed, (split, city, frame) in enumerate(names):
        stem = f"{split}/{city}/{city}_000000_{frame:06d}"
        image(root / f"leftImg8bit/{stem}_leftImg8bit.png", seed)
        grey(root / f"gtFine/{stem}_gtFine_{kind}.png", [0] * 4 if split == "test" and kind == "labelIds" else values)
        # What lies beside them and must not be taken.
        instances = root / f"gtFine/{stem}_gtFine_instanceIds.png"
        Image.fromarray(np.full(SIZE, 26001, np.uint16)).save(instances)
        image(root / f"gtFine/{stem}_gtFine_color.png", seed)
        (root / f"gtFine/{stem}_gtFine_polygons.json").write_text("{}")
    stems = ["train/aachen/aachen_000000_000000", "train/zurich/zurich_000000_000019"]
    return Miniature(
        {"layout": "cityscapes"},
        [f"leftImg8bit/{stem}_leftImg8bit.png" for stem in stems],
        [f"gtFine/{stem}_gtFine_{kind}.png" for stem in stems],
        [0, 18, X, 2],
        19,
        "cityscapes",
        "2 pairs, but 2,975 were published: aachen 1 of 174, bochum 0 of 96",
    )


def cityscapes_train_ids(root: Path) -> Miniature:
    return cityscapes(root, "labelTrainIds")


def ade20k(root: Path) -> Miniature:
    for seed, (folder, stem) in enumerate(
        [("training", "ADE_train_00000001"), ("training", "ADE_train_00000003"), ("validation", "ADE_val_00000001")]
    ):
        image(root / f"ADEChallengeData2016/images/{folder}/{stem}.jpg", seed)
        grey(root / f"ADEChallengeData2016/annotations/{folder}/{stem}.png", [1, 150, 0, 13])
    image(root / "release_test/testing/ADE_test_00000001.jpg", 9)
    stems = ["training/ADE_train_00000001", "training/ADE_train_00000003"]
    return Miniature(
        {"layout": "ade20k"},
        [f"ADEChallengeData2016/images/{stem}.jpg" for stem in stems],
        [f"ADEChallengeData2016/annotations/{stem}.png" for stem in stems],
        [0, 149, X, 12],
        150,
        "ade20k",
        "2 pairs, but 20,210 were published: ADE_train_00000002 is the first of them",
    )


def _voc(root: Path) -> Path:
    devkit = root / "VOCdevkit/VOC2012"
    for seed, stem in enumerate(["2007_000032", "2007_000039", "2007_000033"]):
        image(devkit / f"JPEGImages/{stem}.jpg", seed)
        indexed(devkit / f"SegmentationClass/{stem}.png", [0, 20, 255, 1])
        indexed(devkit / f"SegmentationObject/{stem}.png", [0, 1, 255, 2])
    write_lines(devkit / "ImageSets/Segmentation/train.txt", ["2007_000032", "2007_000039"])
    write_lines(devkit / "ImageSets/Segmentation/val.txt", ["2007_000033"])
    return devkit


VOC_STEMS = ["2007_000032", "2007_000039"]


def voc(root: Path) -> Miniature:
    _voc(root)
    return Miniature(
        {"layout": "voc"},
        [f"VOCdevkit/VOC2012/JPEGImages/{stem}.jpg" for stem in VOC_STEMS],
        [f"VOCdevkit/VOC2012/SegmentationClass/{stem}.png" for stem in VOC_STEMS],
        [0, 20, X, 1],
        21,
        None,
        "2 pairs, but 1,464 were published",
    )


def voc_augmented(root: Path) -> Miniature:
    """SegmentationClassAug holds VOC's own images too, those of val among them."""
    devkit = _voc(root)
    for seed, stem in enumerate(["2007_000032", "2007_000033", "2008_000002"]):
        image(devkit / f"JPEGImages/{stem}.jpg", seed + 5)
        grey(devkit / f"SegmentationClassAug/{stem}.png", [0, 5, 6, 7])
    return Miniature(
        {"layout": "voc", "augmented": True},
        [f"VOCdevkit/VOC2012/JPEGImages/{stem}.jpg" for stem in [*VOC_STEMS, "2008_000002"]],
        [
            *(f"VOCdevkit/VOC2012/SegmentationClass/{stem}.png" for stem in VOC_STEMS),
            "VOCdevkit/VOC2012/SegmentationClassAug/2008_000002.png",
        ],
        [0, 20, X, 1],
        21,
        "voc",
        "3 pairs, but 10,582 were published",
    )


def voc_sbd(root: Path) -> Miniature:
    devkit = _voc(root)
    image(devkit / "JPEGImages/2008_000002.jpg", 8)
    for stem in ("2007_000033", "2008_000002"):
        path = root / f"benchmark_RELEASE/dataset/cls/{stem}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        boundaries = np.zeros((1, 20), dtype=object)
        savemat(
            path,
            {
                "GTcls": {
                    "Boundaries": boundaries,
                    "Segmentation": bands([0, 5, 6, 20]),
                    "CategoriesPresent": [5, 6, 20],
                }
            },
        )
    return Miniature(
        {"layout": "voc", "augmented": True},
        [f"VOCdevkit/VOC2012/JPEGImages/{stem}.jpg" for stem in [*VOC_STEMS, "2008_000002"]],
        [
            *(f"VOCdevkit/VOC2012/SegmentationClass/{stem}.png" for stem in VOC_STEMS),
            "benchmark_RELEASE/dataset/cls/2008_000002.mat",
        ],
        [0, 20, X, 1],
        21,
        "voc",
        "3 pairs, but 10,582 were published",
        {"last": [0, 5, 6, 20]},
    )


def coco_stuff_10k(root: Path, names: int = 182) -> Miniature:
    """Ids by the published list: 1 person, 12 street sign (never drawn), 92 banner, 182 wood. S is of doubles."""
    stems = [f"COCO_train2014_{number:012d}" for number in (77, 113, 294)]
    named = np.array([f"name {index}" for index in range(names)], dtype=object).reshape(-1, 1)
    for seed, stem in enumerate(stems):
        image(root / f"images/{stem}.jpg", seed)
        (root / "annotations").mkdir(exist_ok=True)
        savemat(
            root / f"annotations/{stem}.mat",
            {"S": bands([1, 92, 0, names]).astype(float), "names": named, "regionMapStuff": np.ones(SIZE, np.uint16)},
        )
    write_lines(root / "imageLists/train.txt", stems[:2])
    write_lines(root / "imageLists/test.txt", stems[2:])
    return Miniature(
        {"layout": "coco_stuff_10k"},
        [f"images/{stem}.jpg" for stem in stems[:2]],
        [f"annotations/{stem}.mat" for stem in stems[:2]],
        [0, 80, X, 170],
        171,
        "coco_stuff_10k",
        "2 pairs, but 9,000 were published",
    )


def coco_stuff_164k(root: Path) -> Miniature:
    """PNG ids are the published ones less one: 0 person, 12 stop sign (published 13), 181 wood."""
    for seed, stem in enumerate(["train2017/000000000009", "train2017/000000000025", "val2017/000000000139"]):
        image(root / f"images/{stem}.jpg", seed)
        grey(root / f"annotations/{stem}.png", [0, 12, 255, 181])
        grey(root / f"annotations/{stem}_labelTrainIds.png", [0, 11, 255, 170])
    stems = ["train2017/000000000009", "train2017/000000000025"]
    return Miniature(
        {"layout": "coco_stuff_164k"},
        [f"images/{stem}.jpg" for stem in stems],
        [f"annotations/{stem}.png" for stem in stems],
        [0, 11, X, 170],
        171,
        "coco_stuff_164k",
        "2 pairs, but 118,287 were published",
    )


def camvid(root: Path) -> Miniature:
    names = {"train": ["0001TP_006690", "0001TP_006720"], "val": ["0016E5_07959"], "test": ["Seq05VD_f00000"]}
    seed = 0
    for split, stems in names.items():
        lines = []
        for stem in stems:
            seed += 1
            image(root / f"{split}/{stem}.png", seed)
            grey(root / f"{split}annot/{stem}.png", [0, 10, 11, 3])
            lines.append(f"/SegNet/CamVid/{split}/{stem}.png /SegNet/CamVid/{split}annot/{stem}.png")
        write_lines(root / f"{split}.txt", lines)
    return Miniature(
        {"layout": "camvid"},
        [f"train/{stem}.png" for stem in names["train"]],
        [f"trainannot/{stem}.png" for stem in names["train"]],
        [0, 10, X, 3],
        11,
        "camvid_segnet",
        "2 pairs, but 367 were published",
    )


PLAIN: dict[str, Any] = {"layout": "folder", "classes": ["a", "b", "c"]}


def _tree(images: str, masks: str, words: tuple[str, str] = ("train", "val")) -> Callable[[Path], Miniature]:
    def write(root: Path) -> Miniature:
        for word, stems in zip(words, (["café 1", "x"], ["y"]), strict=True):
            for seed, stem in enumerate(stems):
                image(root / images.format(split=word) / f"{stem}.jpg", seed + len(stems))
                grey(root / masks.format(split=word) / f"{stem}.png", [0, 1, 255, 2])
        return Miniature(
            PLAIN,
            [f"{images.format(split=words[0])}/{stem}.jpg" for stem in ("café 1", "x")],
            [f"{masks.format(split=words[0])}/{stem}.png" for stem in ("café 1", "x")],
            [0, 1, X, 2],
            3,
        )

    return write


def mask_template(root: Path) -> Miniature:
    for seed, (split, stem) in enumerate([("train", "a"), ("train", "b"), ("valid", "c")]):
        image(root / f"{split}/{stem}.png", seed)
        grey(root / f"{split}/{stem}_mask.png", [0, 1, 255, 2])
    return Miniature(
        {**PLAIN, "images": "{split}/{stem}.png", "masks": "{split}/{stem}_mask.png"},
        ["train/a.png", "train/b.png"],
        ["train/a_mask.png", "train/b_mask.png"],
        [0, 1, X, 2],
        3,
    )


def rgb_masks(root: Path) -> Miniature:
    """Colours by the recipe, the last of which is void."""
    colors = np.array([[128, 64, 128], [0, 0, 142], [107, 142, 35], [0, 0, 0]], np.uint8)
    for seed, (split, stem) in enumerate([("train", "a"), ("train", "b"), ("val", "c")]):
        image(root / f"images/{split}/{stem}.jpg", seed)
        (root / f"masks/{split}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(colors[bands([0, 1, 3, 2])]).save(root / f"masks/{split}/{stem}.png")
    return Miniature(
        {**PLAIN, "colors": colors.tolist(), "ignore_index": 3},
        ["images/train/a.jpg", "images/train/b.jpg"],
        ["masks/train/a.png", "masks/train/b.png"],
        [0, 1, X, 2],
        3,
    )


def class_dict(root: Path) -> Miniature:
    """RGB masks whose colours stand in the file of classes."""
    made = rgb_masks(root)
    with (root / "class_dict.csv").open("w", newline="") as file:
        rows = [
            ["name", "r", "g", "b"],
            ["road", 128, 64, 128],
            ["car", 0, 0, 142],
            ["tree", 107, 142, 35],
            ["void", 0, 0, 0],
        ]
        csv.writer(file).writerows(rows)
    data = {"layout": "folder", "classes": str(root / "class_dict.csv")}
    return Miniature(data, made.images, made.masks, [0, 1, 3, 2], 4)


def _pairs_of(root: Path) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {"train": [], "val": []}
    for seed, (split, stem) in enumerate([("train", "a b"), ("train", "c"), ("val", "d")]):
        image(root / f"pictures/{stem}.jpg", seed)
        grey(root / f"truth/{stem}.png", [0, 1, 255, 2])
        found[split].append((f"pictures/{stem}.jpg", f"truth/{stem}.png"))
    return found


def pair_lists(root: Path) -> Miniature:
    found = _pairs_of(root)
    for split, pairs in found.items():
        write_lines(root / f"{split}.txt", ["\t".join(pair) for pair in pairs])
    images, masks = zip(*found["train"], strict=True)
    return Miniature({**PLAIN, "layout": "list", "pairs": "{split}.txt"}, list(images), list(masks), [0, 1, X, 2], 3)


def pair_csv(root: Path) -> Miniature:
    found = _pairs_of(root)
    with (root / "pairs.csv").open("w", newline="") as file:
        rows = [[split, mask, image] for split, pairs in found.items() for image, mask in pairs]
        csv.writer(file).writerows([["split", "mask", "image"], *rows])
    images, masks = zip(*found["train"], strict=True)
    return Miniature({**PLAIN, "layout": "list", "pairs": "pairs.csv"}, list(images), list(masks), [0, 1, X, 2], 3)


def _table(root: Path) -> Any:
    from datasets import Dataset, DatasetDict, Features
    from datasets import Image as ImageFeature

    found = _pairs_of(root / "files")
    features = Features({"image": ImageFeature(), "annotation": ImageFeature()})
    tables = {}
    for split, word in (("train", "train"), ("val", "validation")):
        columns = {
            "image": [{"bytes": (root / "files" / pair[0]).read_bytes(), "path": None} for pair in found[split]],
            "annotation": [{"bytes": (root / "files" / pair[1]).read_bytes(), "path": None} for pair in found[split]],
        }
        tables[word] = Dataset.from_dict(columns, features=features)
    return DatasetDict(tables)


def huggingface(root: Path) -> Miniature:
    _table(root).save_to_disk(root / "saved")
    return Miniature({**PLAIN, "layout": "huggingface"}, None, None, [0, 1, X, 2], 3, extra={"below": "saved"})


def huggingface_parquet(root: Path) -> Miniature:
    for word, table in _table(root).items():
        (root / "data").mkdir(exist_ok=True)
        table.to_parquet(root / f"data/{word}-00000-of-00001.parquet")
    return Miniature({**PLAIN, "layout": "huggingface"}, None, None, [0, 1, X, 2], 3)


def shards(root: Path) -> Miniature:
    for split, pairs in _pairs_of(root / "files").items():
        with tarfile.open(root / f"{split}-000000.tar", "w") as archive:
            for name in (name for pair in pairs for name in pair):
                archive.add(root / "files" / name, Path(name).name)
    return Miniature({**PLAIN, "layout": "shards"}, None, None, [0, 1, X, 2], 3)


def polygon(value: int, scale: tuple[float, float] = (1.0, 1.0)) -> list[float]:
    """The band at a place, as x, y, x, y ..."""
    width = SIZE[1] // BANDS
    corners = [(value * width, 0), ((value + 1) * width, 0), ((value + 1) * width, SIZE[0]), (value * width, SIZE[0])]
    return [part / scale[axis] for corner in corners for axis, part in enumerate(corner)]


def coco_json(root: Path) -> Miniature:
    """Category ids have gaps and another order than in the file; the third band is a crowd."""
    for split, names in {"train": ["b", "a"], "val": ["c"]}.items():
        annotations = [
            {"id": 10 * place + band, "image_id": place, "category_id": category, "segmentation": [polygon(band)]}
            for place in range(len(names))
            for band, category in ((1, 2), (3, 7))
        ]
        runs = {"size": list(SIZE), "counts": [2 * 96, 96, 96]}
        annotations += [
            {"id": 100 + place, "image_id": place, "category_id": 2, "iscrowd": 1, "segmentation": runs}
            for place in range(len(names))
        ]
        content = {
            "images": [
                {"id": place, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]}
                for place, name in enumerate(names)
            ],
            "annotations": annotations,
            "categories": [{"id": 7, "name": "c"}, {"id": 2, "name": "b"}],
        }
        write_lines(root / f"annotations/instances_{split}2017.json", [json.dumps(content)])
        for seed, name in enumerate(names):
            image(root / f"{split}2017/{name}.jpg", seed + 3 * (split == "val"))
    file = "annotations/instances_train2017.json"
    return Miniature(
        {"layout": "coco_json"},
        ["train2017/a.jpg", "train2017/b.jpg"],
        [f"{file}, image 1 (a.jpg)", f"{file}, image 0 (b.jpg)"],
        [0, 1, X, 2],
        3,
    )


def labelme(root: Path) -> Miniature:
    labels = {1: "b", 2: "__ignore__", 3: "c"}
    for seed, (split, stem) in enumerate([("train", "a"), ("train", "b"), ("val", "c")]):
        image(root / f"{split}/{stem}.jpg", seed)
        shapes = [
            {"label": label, "points": np.reshape(polygon(band), (-1, 2)).tolist(), "shape_type": "polygon"}
            for band, label in labels.items()
        ]
        content = {"imagePath": f"{stem}.jpg", "imageHeight": SIZE[0], "imageWidth": SIZE[1], "shapes": shapes}
        (root / f"{split}/{stem}.json").write_text(json.dumps(content))
    return Miniature(
        {"layout": "labelme", "classes": ["background", "b", "c"]},
        ["train/a.jpg", "train/b.jpg"],
        ["train/a.json", "train/b.json"],
        [0, 1, X, 2],
        3,
    )


def yolo(root: Path) -> Miniature:
    """The third band is of a name that the recipe leaves out."""
    for seed, (split, stem) in enumerate([("train", "a"), ("train", "b"), ("val", "c")]):
        image(root / f"images/{split}/{stem}.jpg", seed)
        corners = {band: " ".join(map(str, polygon(band, scale=(SIZE[1], SIZE[0])))) for band in (1, 2, 3)}
        write_lines(root / f"labels/{split}/{stem}.txt", [f"{label} {corners[label + 1]}" for label in (2, 0, 1)])
    write_lines(root / "data.yaml", ["path: .", "train: images/train", "names: {0: b, 1: other, 2: c}"])
    return Miniature(
        {"layout": "yolo", "classes": ["background", "b", "c"]},
        ["images/train/a.jpg", "images/train/b.jpg"],
        ["labels/train/a.txt", "labels/train/b.txt"],
        [0, 1, X, 2],
        3,
    )


MINIATURES: dict[str, Callable[[Path], Miniature]] = {
    "cityscapes": cityscapes,
    "cityscapes labelTrainIds": cityscapes_train_ids,
    "ade20k": ade20k,
    "voc": voc,
    "voc augmented": voc_augmented,
    "voc sbd": voc_sbd,
    "coco_stuff_10k": coco_stuff_10k,
    "coco_stuff_164k": coco_stuff_164k,
    "camvid": camvid,
    "folder": _tree("images/{split}", "masks/{split}"),
    "folder by split": _tree("{split}/images", "{split}/masks"),
    "folder labels": _tree("images/{split}", "labels/{split}", ("training", "validation")),
    "folder img_dir": _tree("img_dir/{split}", "ann_dir/{split}"),
    "folder annotations": _tree("images/{split}", "annotations/{split}", ("training", "validation")),
    "mask template": mask_template,
    "rgb masks": rgb_masks,
    "class_dict.csv": class_dict,
    "pair lists": pair_lists,
    "pair csv": pair_csv,
    "huggingface": huggingface,
    "huggingface parquet": huggingface_parquet,
    "shards": shards,
    "coco_json": coco_json,
    "labelme": labelme,
    "yolo": yolo,
}
