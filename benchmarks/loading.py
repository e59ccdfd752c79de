"""Images per second and core on their way to the network: ours, torchvision's own data sets, and decoding alone.

    python benchmarks/loading.py --camvid ../shared/data/camvid

makes three sets from CamVid's frames (480x360 JPEG as they are; 2048x1024 PNG and 500x375 JPEG scaled from them, with
sensor-like noise so that the PNG files have the size of Cityscapes's), reads each with one thread, in turns, and prints
the median of the rounds. torchvision gets the same steps: scale 0.5 to 2, crop, flip, jitter, normalisation.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.datasets import Cityscapes, VOCSegmentation, wrap_dataset_for_transforms_v2
from torchvision.transforms import v2

from ladseg.data import keep_decoded, open_dataset
from ladseg.data.loader import TrainSamples
from ladseg.data.memory import keep_freed_memory
from ladseg.data.transforms import augment
from ladseg.recipe import Data
from ladseg.seeds import generator_for

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGES = 24


def frames(camvid: Path) -> list[tuple[Image.Image, Image.Image]]:
    paths = sorted((camvid / "images/train").iterdir())[:: max(1, 367 // IMAGES)][:IMAGES]
    return [(Image.open(path), Image.open(camvid / f"masks/train/{path.stem}.png")) for path in paths]


def voc_tree(root: Path, camvid: Path, size: tuple[int, int] | None) -> Path:
    devkit = root / "VOCdevkit/VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (devkit / folder).mkdir(parents=True)
    for index, (image, mask) in enumerate(frames(camvid)):
        if size is None:
            (devkit / f"JPEGImages/{index:04d}.jpg").write_bytes(Path(image.filename).read_bytes())
        else:
            image.resize(size, Image.Resampling.BICUBIC).save(devkit / f"JPEGImages/{index:04d}.jpg", quality=92)
            mask = mask.resize(size, Image.Resampling.NEAREST)
        mask.save(devkit / f"SegmentationClass/{index:04d}.png")
    names = "\n".join(f"{index:04d}" for index in range(IMAGES))
    for split in ("train", "val"):
        (devkit / f"ImageSets/Segmentation/{split}.txt").write_text(names)
    return root


def cityscapes_tree(root: Path, camvid: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("leftImg8bit/train/aachen", "gtFine/train/aachen"):
        (root / folder).mkdir(parents=True)
    for index, (image, mask) in enumerate(frames(camvid)):
        large = np.asarray(image.resize((2048, 1024), Image.Resampling.BICUBIC), np.float32)
        noisy = np.clip(large + rng.normal(0, 1.3, large.shape), 0, 255).astype(np.uint8)
        stem = f"aachen/aachen_000000_{index:06d}"
        Image.fromarray(noisy).save(root / f"leftImg8bit/train/{stem}_leftImg8bit.png")
        ids = mask.resize((2048, 1024), Image.Resampling.NEAREST)
        ids.save(root / f"gtFine/train/{stem}_gtFine_labelIds.png")
    return root


def torchvision_transforms(crop: tuple[int, int], size: tuple[int, int]) -> v2.Compose:
    return v2.Compose(
        [
            v2.ToImage(),
            v2.ScaleJitter(target_size=size, scale_range=(0.5, 2.0)),
            v2.RandomCrop(crop, pad_if_needed=True, fill={tv_tensors.Image: 0, tv_tensors.Mask: 255}),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.25, 0.25, 0.25),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )


def paces(works: dict[str, Callable[[int], object]], count: int, rounds: int) -> dict[str, float]:
    """Images a second of each work, in turns; the median over the rounds."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            started = time.perf_counter()
            for index in range(count):
                work(index)
            found[name].append(count / (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in found.items()}


def measure(title: str, data: Data, theirs: object, crop: tuple[int, int], rounds: int) -> None:
    ours = open_dataset(data, "train")
    cached = {cache: keep_decoded(ours, cache) for cache in ("ram", "disk")}
    samples = {name: TrainSamples(dataset, crop, 8, 0, torch.tensor(MEAN), torch.tensor(STD)) for name, dataset in
               {"ours": ours, **cached}.items()}  # fmt: skip
    decoded = [ours.read(index) for index in range(len(ours))]

    def decode(index: int) -> object:
        image, mask = ours.pairs[index]
        return np.array(Image.open(image).convert("RGB")), np.array(Image.open(mask))

    def change(index: int) -> object:
        mean, std = torch.tensor(MEAN), torch.tensor(STD)
        return augment(*decoded[index], crop, mean, std, generator_for(0, "augment", index))

    works = {
        "decoding alone": decode,
        "ours": samples["ours"].__getitem__,
        "torchvision": theirs.__getitem__,
        "ours, augmentation alone": change,
        "ours, cache: ram": samples["ram"].__getitem__,
        "ours, cache: disk": samples["disk"].__getitem__,
    }
    found = paces(works, len(ours), rounds)
    floor = found["decoding alone"]
    print(f"\n{title}, crop {crop[0]}x{crop[1]}")
    for name, pace in found.items():
        print(f"  {name:26} {pace:8.1f} images/s   {1000 / pace:7.2f} ms   {pace / floor:5.2f} of decoding alone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True, help="CamVid in the folder layout")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as `ladseg train` does; torchvision has it here too
    with tempfile.TemporaryDirectory() as folder:
        small = voc_tree(Path(folder) / "camvid", options.camvid, None)
        middle = voc_tree(Path(folder) / "voc", options.camvid, (500, 375))
        large = cityscapes_tree(Path(folder) / "city", options.camvid)
        bytes_each = sum(path.stat().st_size for path in large.rglob("*_leftImg8bit.png")) / IMAGES
        print(f"2048x1024 PNG: {bytes_each / 1e6:.2f} MB each")
        for title, root, crop, size in (
            ("CamVid, 480x360 JPEG", small, (360, 360), (360, 480)),
            ("500x375 JPEG", middle, (512, 512), (375, 500)),
        ):
            theirs = VOCSegmentation(str(root), year="2012", transforms=torchvision_transforms(crop, size))
            theirs = wrap_dataset_for_transforms_v2(theirs)
            measure(title, Data(layout="voc", root=str(root)), theirs, crop, options.rounds)
        transforms = torchvision_transforms((512, 1024), (1024, 2048))
        theirs = Cityscapes(str(large), "train", "fine", "semantic", transforms=transforms)
        data = Data(layout="cityscapes", root=str(large))
        measure("2048x1024 PNG", data, wrap_dataset_for_transforms_v2(theirs), (512, 1024), options.rounds)


if __name__ == "__main__":
    main()
