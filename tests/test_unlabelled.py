"""Images without masks: mixed into the student's batches by a share, taught by a classic teacher alone."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ladseg.cli import main
from ladseg.data import SegmentationDataset, open_dataset, train_loader, write_demo_scenes
from ladseg.distillers import CWD
from ladseg.errors import DataError, RecipeError
from ladseg.losses.cross_entropy import cross_entropy
from ladseg.models import build_model
from ladseg.objectives import StudentObjective
from ladseg.recipe import Augment, Data
from ladseg.recipe_files import make_recipe
from tests.test_command_line import SMALL

AS_IT_IS = Augment(scale=[1, 1], flip=0, color="none")


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """Seven images with masks, and five without; the top left pixel's red numbers them, from 100 on without."""
    folders = {"d/images/train": (0, 7), "d/images/val": (50, 1), "more/a": (100, 3), "more/b": (103, 2)}
    for folder, (first, count) in folders.items():
        (tmp_path / folder).mkdir(parents=True)
        for number in range(first, first + count):
            Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(tmp_path / folder / f"{number}.png")
    for split, numbers in (("train", range(7)), ("val", range(50, 51))):
        (tmp_path / f"d/masks/{split}").mkdir(parents=True)
        for number in numbers:
            Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / f"d/masks/{split}/{number}.png")
    return Data(root=str(tmp_path / "d"), classes=["a", "b"], unlabelled=str(tmp_path / "more"))


def batches(data: Data, start: int, stop: int, **options: Any) -> list[dict[str, torch.Tensor]]:
    sets = [open_dataset(data, split) for split in ("train", "unlabelled")]
    settings: dict[str, Any] = {"crop": (8, 8), "batch_size": 8, "seed": 3, "mean": [0.0] * 3, "std": [1.0] * 3}
    return list(
        train_loader(
            sets[0], start_step=start, steps=stop, settings=AS_IT_IS, unlabelled=sets[1], **{**settings, **options}
        )
    )


@pytest.mark.parametrize("share", [1, 3, 4, 7])
def test_a_batch_has_its_share_and_every_image_its_turn(data: Data, share: int) -> None:
    steps = 35
    seen: Counter[int] = Counter()
    for batch in batches(data, 0, steps, unlabelled_images=share):
        numbers = (batch["image"][:, 0, 0, 0] * 255).round().int().tolist()
        bare = [bool((label == 255).all()) for label in batch["label"]]
        assert bare == [number >= 100 for number in numbers]
        assert sum(bare) == share
        # Spread over the batch, so that each part of it has some.
        assert all(abs(sum(bare[:place]) - share * place / 8) < 1 for place in range(9))
        seen.update(numbers)
    for numbers, drawn in ((range(7), 8 - share), (range(100, 105), share)):
        turns = [seen[number] for number in numbers]
        assert max(turns) - min(turns) <= 1
        assert sum(turns) == steps * drawn


def test_order_is_a_function_of_seed_and_step(data: Data) -> None:
    whole = batches(data, 0, 6, unlabelled_images=3)
    later = batches(data, 4, 6, unlabelled_images=3, workers=2)
    shares = [batches(data, 0, 6, unlabelled_images=3, rank=rank, world_size=2) for rank in (0, 1)]
    for key in ("image", "label", "seed"):
        assert all(torch.equal(a[key], b[key]) for a, b in zip(whole[4:], later, strict=True))
        joined = [torch.cat([a[key], b[key]]) for a, b in zip(*shares, strict=True)]
        assert all(torch.equal(a[key], b) for a, b in zip(whole, joined, strict=True))
    other = batches(data, 0, 6, unlabelled_images=3, seed=4)
    assert not all(torch.equal(a["image"], b["image"]) for a, b in zip(whole, other, strict=True))


def test_without_a_mask_only_the_teacher_teaches() -> None:
    """The class loss is that of the labelled images; the distillation term looks at all of them."""
    torch.manual_seed(0)
    student, teacher = (build_model("pspnet@test_resnet", 3, aux=False).eval() for _ in range(2))
    image = torch.rand(4, 3, 32, 32)
    label = torch.randint(0, 3, (4, 32, 32))
    label[1::2] = 255
    batch = {"image": image, "label": label, "seed": torch.arange(4)}
    objective = StudentObjective(student, teacher, CWD())
    terms = objective(batch)
    with torch.no_grad():
        alone = cross_entropy(student(image[::2]).logits, label[::2])
    torch.testing.assert_close(terms["seg"], alone)
    others = objective({**batch, "image": torch.where((label == 255).all(2).all(1)[:, None, None, None], 0.0, image)})
    torch.testing.assert_close(others["seg"], terms["seg"])
    assert not torch.isclose(others["cwd"], terms["cwd"])


@pytest.mark.parametrize("mask", ["classes", "colors", "255 is a class"])
def test_what_masks_mean_does_not_matter(data: Data, mask: str) -> None:
    keys: dict[str, Any] = {
        "classes": {},
        "colors": {"colors": [[0, 0, 0], [255, 255, 255]]},
        "255 is a class": {"label_map": {0: 0, 255: 1}, "ignore_index": None},
    }[mask]
    dataset: SegmentationDataset = open_dataset(Data(**{**vars(data), **keys}), "unlabelled")
    assert len(dataset) == 5
    assert dataset.read(0)[1].unique().tolist() == [255]


CLASSIC = {"teacher": {"label_assisted": False}}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "a label-assisted teacher can't teach on images without a label; set teacher.label_assisted: false"),
        ({**CLASSIC, "data": {"unlabelled": "x", "unlabelled_share": 0.01}}, "unlabelled_share 0.01 of schedule"),
        ({**CLASSIC, "schedule": {"batch_size": 1}}, "some with and some without a mask"),
    ],
)  # fmt: skip
def test_refusals_are_one_line(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        make_recipe({"data": {"unlabelled": "x"}, **keys})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["nothing", "empty"])
def test_a_folder_without_images_is_refused(data: Data, folder: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"is not a folder|empty split"):
        open_dataset(Data(**{**vars(data), "unlabelled": str(tmp_path / folder)}), "unlabelled")


def test_a_run_learns_from_them_and_belongs_to_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_demo_scenes(tmp_path / "d", train=4, val=2, size=(32, 48))
    write_demo_scenes(tmp_path / "more", train=3, val=1, size=(32, 48), seed=9)
    recipe = {
        "data": {"root": str(tmp_path / "d"), "classes": str(tmp_path / "d/classes.txt"), "ignore_index": 9,
                 "unlabelled": str(tmp_path / "more/images")},
        "teacher": {"label_assisted": False},
        "distill": {"method": "cwd"},
    }  # fmt: skip
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    small = [word for key, value in SMALL.items() for word in (f"--{key}", value)]
    words = ["train", str(tmp_path / "r.yaml"), *small, "--trackers", "[]", "--out", str(tmp_path / "run")]
    assert main(words) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "run/student/metrics.jsonl").read_text().splitlines()]
    assert any("cwd" in row for row in rows)
    header = (tmp_path / "run/student.safetensors").read_bytes()[:9000]
    assert str(tmp_path).encode() not in header
    plain = [*words[:-1], str(tmp_path / "plain"), "--data.unlabelled", "null"]
    assert main(plain) == 0
    for key, same in (("teacher", True), ("student", False)):
        weights = [(tmp_path / run / key / "weights.safetensors").read_bytes() for run in ("run", "plain")]
        assert (weights[0] == weights[1]) == same
    file = next((tmp_path / "more/images").rglob("*.png"))
    Image.new("RGB", (48, 32)).save(file)
    capsys.readouterr()
    assert main(words) == 2
    assert "unlabelled: 1 image changed" in capsys.readouterr().err
