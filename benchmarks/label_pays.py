"""The laboratory of docs/j-notes.md: candidates for label help against the plain student, at equal compute.

    python benchmarks/label_pays.py run HOME NAME SETTING SEED
    python benchmarks/label_pays.py queue HOME QUEUE.txt
    python benchmarks/label_pays.py table HOME SETTING [BASE]
    python benchmarks/label_pays.py draw HOME CURVE.png SETTING [SETTING ...]

HOME holds the data of :data:`SETTINGS` as ``smaller_set.py`` makes it, for settings from ImageNet the backbone's file
tf_efficientnet_lite0.safetensors, and receives results.jsonl, the weights with the
counts of each validation image (w/), and the augmented batches of each seed (stream/), which all candidates share.
``queue`` works off lines "NAME SETTING SEED", by several processes at once if they are started; a line waits until
what it needs is there. Names:

    plain                      the whole schedule; keeps its state at the trunk's end, from which the others branch
    plain3000                  the whole schedule, so many steps long
    teacher-KIND               self (no label), fixed, random, less, placebos shuffled and blank; @noc: no consistency,
                               @long: ten times as long
    reuse-KIND-FORM-RATIO      one more student of it: cwd, kd, right, wrong, edge, swap; shufright: placebo. KIND may
                               be plain, the finished plain student; @own: of the student's own seed, @11: of seed 11,
                               @strong: of a pretrained network; @half: it sees images of half the size; @every3: it is
                               asked in every third step; @kept100: the same 100 batches again and again
    on-none, on-none@600       the finished plain student trained on for half of its schedule, or for 600 steps more
    on-KIND-FORM-RATIO         the same for as much compute, taught
    total-KIND-FORM-RATIO      the same as reuse, the teacher trained within the budget from the seed's own trunk
    free-KIND-FORM-RATIO       the same as reuse, as if the teacher's answers cost nothing
    emaself[-FORM]-RATIO       the student's own moving average teaches
    pilot-RATIO[-PLACEBO]      regions of the label pool the student's own features: placebo shuffled or noise
    classmix, cutmix           regions of the label, or rectangles, pasted from image to image
    weighted-POWER             cross-entropy weighted by class frequency to the power
    ocrpilot-FORM-RATIO[-PLACEBO]  OCRNet's context part by the label's regions: shared, or own weights and detached
    shown-K[-shuffled]         one network that sees the label in every K-th step, batch norm's statistics kept apart
    soft-RATIO                 the label's shares as a target at the logits' size
    gradnorm                   the norm of CWD's gradient beside the cross-entropy's, by classes, map size and tau

Compute is counted in plain steps: forward and backward of the student on 8 crops is 1, a forward pass alone 1/3.
"""

import argparse
import copy
import json
import os
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ladseg.data.cache import keep_decoded
from ladseg.data.dataset import SegmentationDataset, open_dataset
from ladseg.data.loader import TrainSamples, _collate
from ladseg.data.memory import keep_freed_memory
from ladseg.data.transforms import normalize
from ladseg.distillers.cwd import cwd_loss
from ladseg.evaluation.confusion_matrix import ConfusionMatrix, iou_of
from ladseg.evaluation.paired_tests import sign_flip_p, smallest_effect, t_interval
from ladseg.label_noise import LabelNoise
from ladseg.losses.cross_entropy import cross_entropy
from ladseg.models import build_model, widen_input
from ladseg.models.heads.base import init_as_mmsegmentation
from ladseg.models.heads.ocr import OCRHead, PointHead
from ladseg.models.segmenter import Segmenter
from ladseg.outputs import SegmentationOutput
from ladseg.recipe import Augment, Data
from ladseg.seeds import derive_seed, generator_for
from ladseg.training.precision import depthwise_in_float32
from ladseg.training.schedule import poly_lr

CLASSES, IGNORE = 11, 255
BATCH = 8
WEIGHT_DECAY, WARMUP = 0.01, 20
MEAN = torch.tensor([0.5, 0.5, 0.5])
TEACHER_SEED, TEACHER_UNITS, LONG_UNITS = 10, 600, 6000
FORWARD = 1 / 3
STRONG_FORWARD = FORWARD * 78 / 106  # by multiply-accumulates; on a CPU, depthwise convolutions take thrice the time
OCR_PASS = 1.08  # with OCRNet's context part once more; by multiply-accumulates, 25 of 300 million an image
BLIND = ("self", "plain")  # teachers that see no label
CALIBRATION = 10  # steps over which a term's weight is measured
RARE = torch.tensor([2, 6, 7, 9, 10])
HOME = Path()


class Setting(NamedTuple):
    """A data set and its budget.

    Attributes:
        folder: Below HOME.
        steps: Of the plain student.
        net: ``psp`` or ``ocr`` on a small backbone from scratch; ``pyramid``: :class:`Pyramid` from ImageNet.
        crop: Height and width in pixels.
        lr: The learning rate's peak.
    """

    folder: str
    steps: int
    net: Literal["psp", "ocr", "pyramid"] = "psp"
    crop: tuple[int, int] = (80, 112)
    lr: float = 0.004


SETTINGS = {
    "s40": Setting("camvid-40", 1500),
    "s40-ocr": Setting("camvid-40", 1500, "ocr"),
    "s367": Setting("camvid-quarter", 4000),
    "s40-strong": Setting("camvid-40", 1500, "pyramid", lr=0.002),  # the @strong teachers of s40, and of s367
    "s367-strong": Setting("camvid-quarter", 4000, "pyramid", lr=0.002),
    "half": Setting("camvid-half", 2000, "pyramid", (120, 160), 0.002),
}
SHARED = 0.7  # the part of the plain steps that all candidates of a seed have in common

Batch = dict[str, Tensor]
Terms = dict[str, tuple[Tensor, float | None]]


# ---------------------------------------------------------------- data


@cache
def data(setting: str, split: str) -> SegmentationDataset:
    root = HOME / SETTINGS[setting].folder
    spec = Data(root=str(root), classes=str(root / "classes.txt"), ignore_index=11)
    return keep_decoded(open_dataset(spec, split), "ram")


class Stream:
    """The batches of a seed by step, kept on disk once made: every candidate of a seed sees the same."""

    block = 50

    def __init__(self, setting: str, seed: int) -> None:
        self.samples = TrainSamples(data(setting, "train"), SETTINGS[setting].crop, BATCH, seed, MEAN, MEAN, Augment())
        self.folder = HOME / "stream" / f"{SETTINGS[setting].folder}-{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.held: tuple[int, tuple[Tensor, Tensor, Tensor]] | None = None

    def __getitem__(self, step: int) -> Batch:
        number, place = divmod(step, self.block)
        if self.held is None or self.held[0] != number:
            self.held = number, self._load(number)
        image, label, seeds = (part[place] for part in self.held[1])
        return {"image": last(image.float()), "label": label.long(), "seed": seeds}

    def _load(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        path = self.folder / f"{number}.pt"
        if not path.exists():
            steps = range(number * self.block, (number + 1) * self.block)
            made = [_collate([self.samples[step * BATCH + k] for k in range(BATCH)]) for step in steps]
            image, label, seeds = (torch.stack([batch[key] for batch in made]) for key in ("image", "label", "seed"))
            torch.save((image.bfloat16(), label, seeds), path)
        return torch.load(path)


def last(image: Tensor) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last)


# ---------------------------------------------------------------- networks


class OCRNet(Segmenter):
    """OCRNet's first guess and head, 128 wide, on the backbone of another network."""

    def __init__(self, net: Segmenter) -> None:
        super().__init__(CLASSES, net.input_mean, net.input_std)
        self.backbone = net.backbone
        self.guess, self.head = PointHead(96, CLASSES), OCRHead(96, CLASSES, 128, 64)
        init_as_mmsegmentation(self.guess)
        init_as_mmsegmentation(self.head)

    def segment(self, image: Tensor) -> SegmentationOutput:
        deepest = self.backbone(image)[-1]
        guess = self.guess(deepest)[1]
        pixels = self.head.features(deepest)
        return SegmentationOutput(in_context(self.head, pixels, guess), {"pixels": pixels}, (guess,))


class Pyramid(Segmenter):
    """An efficientnet_lite0 whose three deepest maps are summed at stride 8, from the deepest on."""

    def __init__(self, net: Segmenter) -> None:
        super().__init__(CLASSES, net.input_mean, net.input_std)
        self.backbone = net.backbone
        self.lateral = nn.ModuleList(nn.Conv2d(width, 64, 1) for width in (320, 112, 40))
        self.fuse = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        self.classify = nn.Conv2d(64, CLASSES, 1)

    def segment(self, image: Tensor) -> SegmentationOutput:
        maps = self.backbone(image)[:-4:-1]
        total = self.lateral[0](maps[0])
        for lateral, map_ in zip(self.lateral[1:], maps[1:], strict=True):
            wider = F.interpolate(total, map_.shape[-2:], mode="bilinear", align_corners=False)
            total = lateral(map_) + wider
        fused = self.fuse(total)
        return SegmentationOutput(self.classify(fused), {"head": fused})


def in_context(head: OCRHead, pixels: Tensor, regions: Tensor) -> Tensor:
    """The context part of OCRNet: logits from features and scores ``(N, C, h, w)`` of the objects' regions."""
    where = regions.flatten(2).softmax(dim=-1)
    objects = (where @ pixels.flatten(2).transpose(1, 2)).transpose(1, 2).unsqueeze(-1)
    return head.classifier(head.mix(torch.cat([head.attention(pixels, objects), pixels], dim=1)))


def network(setting: str, seed: int, channels: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        kind = SETTINGS[setting].net
        if kind == "pyramid":
            weights = str(HOME / "tf_efficientnet_lite0.safetensors")
            net = Pyramid(build_model("fcn@tf_efficientnet_lite0", CLASSES, weights=weights, output_stride=32))
        else:
            net = build_model("pspnet@test_resnet", CLASSES)
            net = OCRNet(net) if kind == "ocr" else net
    net.aux_head = None
    if channels == 4:
        widen_input(net, 1, slice_std=0.1, generator=generator_for(seed, "slice"))
    return net.to(memory_format=torch.channels_last)


def optimizer(*modules: nn.Module) -> torch.optim.Optimizer:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, fused=True)


def set_lr(opt: torch.optim.Optimizer, lr: float) -> None:
    for group in opt.param_groups:
        group["lr"] = lr


def forward(net: nn.Module, image: Tensor) -> SegmentationOutput:
    with depthwise_in_float32(net), torch.autocast("cpu", torch.bfloat16):
        out = net(image)
    return replace(out, logits=out.logits.float())


def supervision(out: SegmentationOutput, label: Tensor) -> Tensor:
    """Cross-entropy of the logits, and of OCRNet's first guess by its customary 0.4."""
    return cross_entropy(out.logits, label) + sum(0.4 * cross_entropy(aux.float(), label) for aux in out.aux)


class MovingAverage:
    """The weights' exponential average: decay 0.98 every fifth step, less at first."""

    def __init__(self, net: nn.Module) -> None:
        self.state = {key: value.detach().clone() for key, value in net.state_dict().items()}
        self.count = 0

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        if step % 5:
            return
        self.count += 1
        decay = min(0.98, (1 + self.count) / (10 + self.count))
        for key, value in net.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value, 1 - decay)
            else:
                self.state[key].copy_(value)


# ---------------------------------------------------------------- evaluation and record


@torch.no_grad()
def evaluate(net: nn.Module, setting: str, split: str = "val", channel: "Channel | None" = None) -> Tensor:
    """Counts (images, C, C) at the labels' size; with ``channel`` a teacher sees what that makes of the labels."""
    was_training = net.training
    net.eval()
    dataset, counts = data(setting, split), []
    for start in range(0, len(dataset), 10):
        pairs = [dataset.read(index) for index in range(start, min(start + 10, len(dataset)))]
        image = torch.stack([normalize(one, MEAN, MEAN) for one, _ in pairs])
        label = torch.stack([one for _, one in pairs]).long()
        if channel is not None:
            draws = [generator_for("ev", start + k) for k in range(len(label))]
            image = torch.cat([image, channel(label, draws)], 1)
        logits = forward(net, last(image)).logits
        prediction = F.interpolate(logits, label.shape[-2:], mode="bilinear", align_corners=True).argmax(1)
        for one, true in zip(prediction, label, strict=True):
            matrix = ConfusionMatrix(CLASSES)
            matrix.update(one, true)
            counts.append(matrix.counts)
    net.train(was_training)
    return torch.stack(counts)


def per_class(counts: Tensor) -> Tensor:
    total = counts.sum(0)
    return 100 * iou_of(torch.stack([total.diagonal(), total.sum(1), total.sum(0)]))


def miou(counts: Tensor) -> float:
    return float(per_class(counts).nanmean())


def record(row: dict) -> None:
    with (HOME / "results.jsonl").open("a") as file:
        file.write(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}) + "\n")
    print(json.dumps(row), flush=True)


def finish(row: dict, net: nn.Module, average: MovingAverage) -> None:
    """Evaluate the last weights and their average, keep both with the counts of each image, and write the row."""
    averaged = copy.deepcopy(net)
    averaged.load_state_dict(average.state)
    counts, averaged_counts = (evaluate(one, row["setting"]) for one in (net, averaged))
    iou = [round(value, 1) for value in per_class(counts).tolist()]
    kept = {"last": net.state_dict(), "counts_last": counts.int()}
    kept |= {"ema": average.state, "counts_ema": averaged_counts.int()}
    torch.save(kept, weights_file(row["name"], row["setting"], row["seed"]))
    record(row | {"last": miou(counts), "ema": miou(averaged_counts), "iou": iou})


def weights_file(name: str, setting: str, seed: int) -> Path:
    return HOME / "w" / f"{setting}-{name}-{seed}.pt"


# ---------------------------------------------------------------- the plain student, and branches from it


def plain(name: str, setting: str, seed: int, total: int, trunk_end: int | None) -> None:
    began = time.process_time()
    net = network(setting, seed).train()
    opt, average, stream = optimizer(net), MovingAverage(net), Stream(setting, seed)
    torch.manual_seed(derive_seed(seed, "dropout"))
    row = {"name": name, "setting": setting, "seed": seed, "units": total}
    for step in range(total):
        if step == trunk_end:
            state = {"net": net.state_dict(), "opt": opt.state_dict(), "ema": average.state, "ema_count": average.count}
            torch.save(state, weights_file("trunk", setting, seed))
            row["trunk"] = miou(evaluate(net, setting))
        set_lr(opt, poly_lr(step, SETTINGS[setting].lr, total, WARMUP))
        opt.zero_grad()
        batch = stream[step]
        supervision(forward(net, batch["image"]), batch["label"]).backward()
        opt.step()
        average.update(net, step)
    finish(row | {"cpu_s": time.process_time() - began}, net, average)


class Start(NamedTuple):
    """Where a candidate begins.

    Attributes:
        net: The student so far.
        opt_state: Of its optimizer; None for a fresh one.
        average: Of its weights.
        first: The number of the first batch.
        budget: Compute from here on, in plain steps.
        lr: The learning rate when this share of the steps from here on is done.
    """

    net: nn.Module
    opt_state: dict | None
    average: MovingAverage
    first: int
    budget: float
    lr: Callable[[float], float]


def trunk(setting: str, seed: int) -> Start:
    """The plain student after :data:`SHARED` of its schedule, whose learning rate goes on falling."""
    saved = torch.load(weights_file("trunk", setting, seed))
    net = network(setting, seed)
    net.load_state_dict(saved["net"])
    average = MovingAverage(net)
    average.state, average.count = saved["ema"], saved["ema_count"]
    total, peak = SETTINGS[setting].steps, SETTINGS[setting].lr
    first = round(total * SHARED)
    return Start(
        net.train(), saved["opt"], average, first, total - first, lambda done: peak * ((1 - SHARED) * (1 - done)) ** 0.9
    )


def finished(setting: str, seed: int, more: int = 0) -> Start:
    """The plain student after its whole schedule, to be trained for half of it, and ``more``, by a fresh schedule."""
    total, peak = SETTINGS[setting].steps, SETTINGS[setting].lr
    net = network(setting, seed)
    net.load_state_dict(torch.load(weights_file(f"plain{total}", setting, seed))["last"])
    budget = total // 2 + more
    warm_up = WARMUP / budget
    return Start(
        net.train(),
        None,
        MovingAverage(net),
        total,
        budget,
        lambda done: peak * min(1, done / warm_up + 1 / WARMUP) * (1 - done) ** 0.9,
    )


@dataclass(frozen=True)
class Step:
    """What a candidate sees of a student's step."""

    number: int
    steps: int
    batch: Batch
    net: nn.Module
    out: SegmentationOutput
    average: MovingAverage


Listen = Callable[[Step], Terms]


def no_terms(step: Step) -> Terms:
    return {}


def as_it_is(net: nn.Module, batch: Batch, number: int) -> SegmentationOutput:
    return forward(net, batch["image"])


class Balance:
    """Weights by which a term's gradient on the logits has a given ratio to the cross-entropy's at first."""

    def __init__(self) -> None:
        self.norms: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def weight(self, term: str, supervised: Tensor, value: Tensor, ratio: float, logits: Tensor) -> float:
        if len(self.norms[term]) < CALIBRATION:
            self.norms[term].append((gradient_norm(supervised, logits), gradient_norm(value, logits)))
        return self.weights(term, ratio)

    def weights(self, term: str, ratio: float) -> float:
        wanted, had = (sum(part) for part in zip(*self.norms[term], strict=True))
        return ratio * wanted / max(had, 1e-12)


def gradient_norm(loss: Tensor, *inputs: Tensor) -> float:
    gradients = torch.autograd.grad(loss, inputs, retain_graph=True)
    return float(torch.stack([gradient.norm() for gradient in gradients]).norm())


def branch(
    name: str,
    setting: str,
    seed: int,
    cost: float,
    listen: Listen = no_terms,
    spent: float = 0.0,
    helper: nn.Module | None = None,
    prepare: Callable[[Batch], Batch] = lambda batch: batch,
    see: Callable[[nn.Module, Batch, int], SegmentationOutput] = as_it_is,
    supervise: Callable[[SegmentationOutput, Tensor], Tensor] = supervision,
    start: Start | None = None,
    repeat: int | None = None,
) -> None:
    """Train the student from the trunk, or from ``start``.

    Args:
        name: The candidate; this, ``setting`` and ``seed`` name the result.
        setting: Of :data:`SETTINGS`.
        seed: Whose trunk and batches.
        cost: Compute of a step; so many steps are made as the budget left holds.
        listen: What is learned from beside the label: terms and their gradients' ratio; None: as they are.
        spent: Compute that was spent already, on a teacher.
        helper: What is trained along.
        prepare: What becomes of a batch.
        see: The network's output of a batch in the branch's step of this number.
        supervise: The loss of output and label.
        start: Where it begins.
        repeat: After how many steps the batches begin again.
    """
    began = time.process_time()
    net, opt_state, average, first, budget, lr = start or trunk(setting, seed)
    opts = [optimizer(net)] + ([optimizer(helper)] if helper else [])
    if opt_state is not None:
        opts[0].load_state_dict(opt_state)
    stream, balance = Stream(setting, seed), Balance()
    torch.manual_seed(derive_seed(seed, "dropout", name))
    steps = int((budget - spent) / cost)
    for number in range(steps):
        for opt in opts:
            set_lr(opt, lr(number / steps))
            opt.zero_grad()
        batch = prepare(stream[first + number % (repeat or steps)])
        step = Step(number, steps, batch, net, see(net, batch, number), average)
        supervised = loss = supervise(step.out, batch["label"])
        for term, (value, ratio) in listen(step).items():
            factor = 1.0 if ratio is None else balance.weight(term, supervised, value, ratio, step.out.logits)
            loss = loss + factor * value
        loss.backward()
        for opt in opts:
            opt.step()
        average.update(net, first + number)
    row = {"name": name, "setting": setting, "seed": seed, "units": first + spent + steps * cost, "steps": steps}
    row["weights"] = {term: round(balance.weights(term, 1.0), 4) for term in balance.norms}
    finish(row | {"cpu_s": time.process_time() - began}, net, average)


# ---------------------------------------------------------------- teachers


class Channel:
    """What a teacher sees of a label: class weights fixed or random, less of it, or a placebo."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.noise = LabelNoise(CLASSES, 0.01, IGNORE, 1.0, "random" if kind == "random" else "fixed")

    def __call__(self, label: Tensor, draws: Sequence[Generator]) -> Tensor:
        if self.kind == "shuffled":
            label = label.roll(1, 0)
        made = self.noise(label, draws)
        if self.kind == "blank":
            return torch.randn(made.shape, generator=draws[0])
        return blurred(made, draws[0]) if self.kind == "less" else made


def blurred(channel: Tensor, draw: Generator) -> Tensor:
    """Noise of a level from 0 to 1 that is drawn for each image, then half of the blocks of 16x16 at zero."""
    n, _, height, width = channel.shape
    level = torch.rand(n, 1, 1, 1, generator=draw)
    channel = (1 - level) * channel + level * torch.randn(channel.shape, generator=draw)
    keep = (torch.rand(n, 1, -(-height // 16), -(-width // 16), generator=draw) < 0.5).float()
    return channel * F.interpolate(keep, scale_factor=16, mode="nearest")[..., :height, :width]


class Zero(Channel):
    def __init__(self) -> None:
        super().__init__("zero")

    def __call__(self, label: Tensor, draws: Sequence[Generator]) -> Tensor:
        return torch.zeros(len(label), 1, *label.shape[1:])


def noise_draws(batch: Batch, path: int) -> list[Generator]:
    return [generator_for(seed, "label noise", path) for seed in batch["seed"].tolist()]


def train_teacher(name: str, setting: str, seed: int, start: dict, units: int, peak: float) -> nn.Module:
    """A teacher from the weights of a plain student: two paths of half as many steps, or one path without a label."""
    kind, *tags = name.split("@")
    channel = None if kind == "self" else Channel(kind)
    net = network(setting, seed)
    net.load_state_dict(start)
    if channel:
        widen_input(net, 1, slice_std=0.1, generator=generator_for(seed, "slice"))
    net = net.to(memory_format=torch.channels_last).train()
    opt, stream = optimizer(net), Stream(setting, seed + 1000)
    torch.manual_seed(derive_seed(seed, "dropout", name))
    steps = units // 2 if channel else units
    for step in range(steps):
        set_lr(opt, poly_lr(step, peak, steps, WARMUP))
        opt.zero_grad()
        teacher_loss(net, stream[step], channel, 0.0 if "noc" in tags else 1.0).backward()
        opt.step()
    return net


def teacher_loss(net: nn.Module, batch: Batch, channel: Channel | None, consistency: float) -> Tensor:
    image, label = batch["image"], batch["label"]
    if channel is None:
        return supervision(forward(net, image), label)
    paths = torch.cat([torch.cat([image, channel(label, noise_draws(batch, path))], 1) for path in (1, 2)])
    one, two = forward(net, last(paths)).logits.chunk(2)
    loss = cross_entropy(one, label) + cross_entropy(two, label)
    return loss + consistency * cwd_loss(one, two) if consistency else loss


def teacher(name: str, setting: str, seed: int) -> None:
    began = time.process_time()
    total, units = SETTINGS[setting].steps, LONG_UNITS if "@long" in name else TEACHER_UNITS
    start = torch.load(weights_file(f"plain{total}", setting, seed))["last"]
    net = train_teacher(name, setting, seed, start, units, SETTINGS[setting].lr / 2)
    kind = name.split("@")[0]
    channel = None if kind == "self" else Channel(kind)
    torch.save(net.state_dict(), weights_file(f"teacher-{name}", setting, seed))
    row = {"name": f"teacher-{name}", "setting": setting, "seed": seed, "units": units}
    row |= {split: miou(evaluate(net, setting, split, channel)) for split in ("val", "train")}
    row["zero"] = miou(evaluate(net, setting, "val", channel and Zero()))
    record(row | {"cpu_s": time.process_time() - began})


def teacher_file(kind: str, setting: str, seed: int) -> Path:
    """Of a teacher's kind, ``plain`` or with its tags, for the student of this seed."""
    name, *tags = kind.split("@")
    whose = seed if "own" in tags else next((int(tag) for tag in tags if tag.isdigit()), TEACHER_SEED)
    made = "@".join([name, *(tag for tag in tags if tag in ("noc", "long"))])
    setting = teacher_setting(kind, setting)
    return weights_file(f"plain{SETTINGS[setting].steps}" if name == "plain" else f"teacher-{made}", setting, whose)


def teacher_setting(kind: str, setting: str) -> str:
    return f"{setting}-strong" if "@strong" in kind else setting


def finished_teacher(kind: str, setting: str, seed: int) -> nn.Module:
    net = network(teacher_setting(kind, setting), seed, 3 if kind.startswith(BLIND) else 4)
    saved = torch.load(teacher_file(kind, setting, seed))
    net.load_state_dict(saved.get("last", saved))
    return net


def taught(name: str, setting: str, seed: int) -> None:
    """reuse-, free-, on- and total-KIND-FORM-RATIO."""
    how, kind, form, ratio = name.split("-")
    spent = 0.0
    if how == "total":
        spent = SETTINGS[setting].steps / 10
        start = torch.load(weights_file("trunk", setting, seed))["net"]
        tutor = train_teacher(kind, setting, seed, start, round(spent), SETTINGS[setting].lr * (1 - SHARED) ** 0.9)
    else:
        tutor = finished_teacher(kind, setting, seed)
    tutor = tutor.eval().requires_grad_(False)
    channel = None if kind.startswith(BLIND) else Channel(kind.split("@")[0])

    every, kept = tag_number(kind, "every"), tag_number(kind, "kept")

    def listen(step: Step) -> Terms:
        if step.number % (every or 1):
            return {}
        image = step.batch["image"]
        with torch.no_grad():
            if channel:
                image = last(torch.cat([image, channel(step.batch["label"], noise_draws(step.batch, 1))], 1))
            if "@half" in kind:
                image = last(F.interpolate(image, scale_factor=0.5, mode="bilinear", antialias=True))
            answer = forward(tutor, image).logits
            if "@half" in kind:
                answer = F.interpolate(answer, step.out.logits.shape[-2:], mode="bilinear", align_corners=False)
        return {form: (distance(form, step.out.logits, answer, step.batch["label"]), float(ratio))}

    start = finished(setting, seed) if how == "on" else None
    cost = 0.0 if how == "free" else STRONG_FORWARD if "@strong" in kind else FORWARD
    if kept:
        steps = trunk(setting, seed).budget
        cost *= kept / (steps - kept * cost)  # so many answers are computed, whatever the number of steps
    cost /= (every or 1) * (4 if "@half" in kind else 1)
    branch(name, setting, seed, 1 + cost, listen, spent, start=start, repeat=kept)


def tag_number(kind: str, tag: str) -> int | None:
    return next((int(part.removeprefix(tag)) for part in kind.split("@") if part.startswith(tag)), None)


def distance(form: str, student: Tensor, answer: Tensor, label: Tensor) -> Tensor:
    """Of the student's logits from the teacher's.

    ``cwd``; ``swap``, CWD from the answer that the label has corrected; or the KL divergence of a position, ``kd``
    everywhere, ``right`` where the teacher is, ``wrong`` where it is and the student is not, ``edge`` at boundaries of
    the label and on its rarer classes. ``shuf`` before a form takes another image's label or mask: its placebo.
    """
    placebo, form = form.startswith("shuf"), form.removeprefix("shuf")
    if form == "cwd":
        return cwd_loss(student, answer)
    truth = F.interpolate(label[:, None].float(), student.shape[-2:], mode="nearest")
    around = F.max_pool2d(truth, 3, 1, 1) != -F.max_pool2d(-truth, 3, 1, 1)
    truth = truth[:, 0].long()
    if form == "swap":
        return cwd_loss(student, corrected(answer, truth.roll(1, 0) if placebo else truth))
    right = answer.argmax(1) == truth
    chosen = {
        "kd": torch.ones_like(right),
        "right": right,
        "wrong": right & (student.argmax(1) != truth),
        "edge": around[:, 0] | torch.isin(truth, RARE),
    }[form]
    chosen = (chosen.roll(1, 0) if placebo else chosen) & (truth != IGNORE)
    divergence = F.kl_div(student.log_softmax(1), answer.log_softmax(1), reduction="none", log_target=True).sum(1)
    return (divergence * chosen).mean()


def corrected(answer: Tensor, truth: Tensor) -> Tensor:
    """The teacher's logits where the true class has changed places with the highest one."""
    valid = (truth != IGNORE)[:, None]
    true, top = torch.where(valid[:, 0], truth, 0)[:, None], answer.argmax(1, keepdim=True)
    swapped = answer.scatter(1, top, answer.gather(1, true)).scatter(1, true, answer.gather(1, top))
    return torch.where(valid, swapped, answer)


def self_average(name: str, setting: str, seed: int) -> None:
    _, *form, ratio = name.split("-")
    tutor = network(setting, seed).eval().requires_grad_(False)

    def listen(step: Step) -> Terms:
        if step.number % 5 == 0:
            tutor.load_state_dict(step.average.state)
        with torch.no_grad():
            answer = forward(tutor, step.batch["image"]).logits
        return {"cwd": (distance((form or ["cwd"])[0], step.out.logits, answer, step.batch["label"]), float(ratio))}

    branch(name, setting, seed, 1 + FORWARD, listen)


# ---------------------------------------------------------------- the label without a second network


class Pilot(nn.Module):
    """Region means of features, painted back and refined, through a classifier of their own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((width, 64), (64, 64)):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.refine = nn.Sequential(*layers)
        self.classify = nn.Conv2d(64, CLASSES, 1)

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        """``features`` (N, D, h, w); ``regions`` (N, R, h, w), the share of each region in each position."""
        share = regions.flatten(2)
        size = share.sum(2, keepdim=True).clamp(min=1e-3)
        mean = torch.einsum("nrp,ndp->nrd", share, features.flatten(2)) / size
        painted = torch.einsum("nrp,nrd->ndp", share, mean).view_as(features)
        return self.classify(self.refine(features + painted))


def region_shares(label: Tensor, size: tuple[int, int]) -> Tensor:
    """``(N, C, h, w)``: how much of each position each class takes."""
    one_hot = F.one_hot(torch.where(label == IGNORE, CLASSES, label), CLASSES + 1).permute(0, 3, 1, 2).float()
    return F.adaptive_avg_pool2d(one_hot, size)[:, :CLASSES]


def pilot_regions(batch: Batch, size: tuple[int, int], placebo: list[str]) -> Tensor:
    """The shares of the label's regions; with a placebo of another image's, or of random ones."""
    if placebo == ["noise"]:
        draw = generator_for(int(batch["seed"][0]), "regions")
        coarse = torch.randint(0, CLASSES, (len(batch["label"]), 1, 3, 4), generator=draw)
        return region_shares(F.interpolate(coarse.float(), size, mode="nearest")[:, 0].long(), size)
    return region_shares(batch["label"].roll(1, 0) if placebo else batch["label"], size)


def region_pilot(name: str, setting: str, seed: int) -> None:
    _, ratio, *placebo = name.split("-")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "pilot"))
        pilot = Pilot(128).to(memory_format=torch.channels_last)

    def listen(step: Step) -> Terms:
        features = step.out.features["head"].detach().float()
        shares = pilot_regions(step.batch, tuple(features.shape[-2:]), placebo)
        with torch.autocast("cpu", torch.bfloat16):
            answer = pilot(features, shares).float()
        terms: Terms = {"pilot": (cross_entropy(answer, step.batch["label"]), None)}
        if step.number >= step.steps / 10:
            terms["cwd"] = (cwd_loss(step.out.logits, answer.detach()), float(ratio))
        return terms

    branch(name, setting, seed, 1.1, listen, helper=pilot)


def ocr_pilot(name: str, setting: str, seed: int) -> None:
    """OCRNet's context part once more, by the noised label's regions; its answer teaches the student's logits."""
    _, form, ratio, *placebo = name.split("-")
    own = copy.deepcopy(trunk(setting, seed).net.head) if form == "own" else None

    def listen(step: Step) -> Terms:
        pixels = step.out.features["pixels"]
        shares = pilot_regions(step.batch, tuple(pixels.shape[-2:]), placebo)
        noise = torch.randn(shares.shape, generator=generator_for(int(step.batch["seed"][0]), "ocr"))
        with torch.autocast("cpu", torch.bfloat16), statistics_kept(step.net):
            regions = 10 * (shares + 0.01 * noise)
            answer = in_context(own or step.net.head, pixels.detach() if own else pixels, regions).float()
        return {
            "pilot": (cross_entropy(answer, step.batch["label"]), None),
            "cwd": (cwd_loss(step.out.logits, answer.detach()), float(ratio)),
        }

    branch(name, setting, seed, OCR_PASS, listen, helper=own)


@contextmanager
def statistics_kept(net: nn.Module) -> Iterator[None]:
    """Normalise by the batch, and leave the statistics that batch norm predicts with as they are."""
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


def label_shown(name: str, setting: str, seed: int) -> None:
    """Four channels, the label in one of so many steps; without the label it is the three-channel network."""
    _, every, *placebo = name.split("-")
    channel = Channel("shuffled" if placebo else "fixed")
    stem = first_convolution(network(setting, seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "slice"))
        added = nn.Conv2d(1, stem.out_channels, stem.kernel_size, stem.stride, stem.padding, bias=False)
        nn.init.normal_(added.weight, std=0.1)

    def see(net: nn.Module, batch: Batch, number: int) -> SegmentationOutput:
        if number % int(every):
            return forward(net, batch["image"])
        shown = channel(batch["label"], noise_draws(batch, 1))
        hook = first_convolution(net).register_forward_hook(lambda _, __, maps: maps + added(shown))
        try:
            with statistics_kept(net):
                return forward(net, batch["image"])
        finally:
            hook.remove()

    branch(name, setting, seed, 1.0, helper=added, see=see)


def first_convolution(net: nn.Module) -> nn.Conv2d:
    return next(part for part in net.modules() if isinstance(part, nn.Conv2d))


def pasted(batch: Batch, by_label: bool) -> Batch:
    """Half the images get a part of their neighbour: half of its classes' regions, or a rectangle of 30 to 60 %."""
    draw = generator_for(int(batch["seed"][0]), "paste")
    image, label = batch["image"].clone(), batch["label"].clone()
    for k in range(len(label)):
        neighbour = (k + 1) % len(label)
        if torch.rand((), generator=draw) < 0.5:
            continue
        other = batch["label"][neighbour]
        mask = half_of_classes(other, draw) if by_label else rectangle(other, draw)
        image[k] = torch.where(mask, batch["image"][neighbour], image[k])
        label[k] = torch.where(mask, other, label[k])
    return batch | {"image": image, "label": label}


def half_of_classes(label: Tensor, draw: Generator) -> Tensor:
    there = label.unique()
    there = there[there != IGNORE]
    return torch.isin(label, there[torch.randperm(len(there), generator=draw)[: (len(there) + 1) // 2]])


def rectangle(label: Tensor, draw: Generator) -> Tensor:
    mask = torch.zeros_like(label, dtype=torch.bool)
    share = 0.3 + 0.3 * float(torch.rand((), generator=draw))
    sides = [round(side * share**0.5) for side in label.shape]
    top, left = (int(torch.randint(a - b + 1, (), generator=draw)) for a, b in zip(label.shape, sides, strict=True))
    mask[top : top + sides[0], left : left + sides[1]] = True
    return mask


def weighted_cross_entropy(setting: str, power: float) -> Callable[[SegmentationOutput, Tensor], Tensor]:
    dataset = data(setting, "train")
    labels = [dataset.read(index)[1].flatten().long() for index in range(len(dataset))]
    counts = torch.stack([torch.bincount(label, minlength=256)[:CLASSES] for label in labels]).sum(0).double()
    weight = (counts.sum() / counts) ** power
    weight = (weight * counts.sum() / (weight * counts).sum()).float()

    def loss(out: SegmentationOutput, label: Tensor) -> Tensor:
        wide = F.interpolate(out.logits, label.shape[-2:], mode="bilinear", align_corners=True)
        return F.cross_entropy(wide, label, weight, ignore_index=IGNORE)

    return loss


def soft_target(name: str, setting: str, seed: int) -> None:
    def listen(step: Step) -> Terms:
        shares = region_shares(step.batch["label"], tuple(step.out.logits.shape[-2:]))
        return {"soft": (-(shares * step.out.logits.log_softmax(1)).sum(1).mean(), float(name.split("-")[1]))}

    branch(name, setting, seed, 1.0, listen)


# ---------------------------------------------------------------- CWD's gradient


def gradient_table(setting: str) -> None:
    for classes, factor in [(2, 1), (5, 1), (11, 1), (22, 1), (44, 1), (88, 1), (11, 0.5), (11, 2)]:
        student, tutor = trunk(setting, TEACHER_SEED).net, finished_teacher("fixed", setting, TEACHER_SEED).train()
        channel = LabelNoise(classes, 0.01, IGNORE, 1.0, "fixed")
        stream = Stream(setting, TEACHER_SEED + 1000)
        for net in (student, tutor):
            new_classifier(net, classes)
        opts = [optimizer(student), optimizer(tutor)]
        rows = defaultdict(list)
        for step in range(46):
            batch = scaled(relabelled(stream[step], classes), factor)
            four = last(torch.cat([batch["image"], channel(batch["label"], noise_draws(batch, 1))], 1))
            if step < 40:
                for net, opt, image in zip((student, tutor), opts, (batch["image"], four), strict=True):
                    set_lr(opt, poly_lr(step, SETTINGS[setting].lr / 2, 40, 5))
                    opt.zero_grad()
                    cross_entropy(forward(net, image).logits, batch["label"]).backward()
                    opt.step()
                continue
            with torch.no_grad():
                answer = forward(tutor.eval(), four).logits
            logits = forward(student, batch["image"]).logits
            supervised = cross_entropy(logits, batch["label"])
            for tau in (1.0, 4.0):
                distilled = cwd_loss(logits, answer, tau)
                places = ((logits,), tuple(student.parameters()))
                rows[tau].append([gradient_norm(loss, *at) for at in places for loss in (supervised, distilled)])
        for tau, norms in rows.items():
            means = np.mean(norms, 0)
            row = {"name": "gradnorm", "setting": setting, "seed": TEACHER_SEED, "classes": classes, "tau": tau}
            row |= {
                "map": list(logits.shape[-2:]),
                "logit_ratio": means[1] / means[0],
                "param_ratio": means[3] / means[2],
            }
            record(row)


def new_classifier(net: nn.Module, classes: int) -> None:
    """The head's last convolution with so many outputs; the eleven of the data set keep what they have learned."""
    path, old = [(path, part) for path, part in net.head.named_modules() if isinstance(part, nn.Conv2d)][-1]
    if classes != CLASSES:
        torch.manual_seed(0)
        parent, _, leaf = path.rpartition(".")
        setattr(net.head.get_submodule(parent), leaf, nn.Conv2d(old.in_channels, classes, 1))


def relabelled(batch: Batch, classes: int) -> Batch:
    """The classes merged to 2 or 5, or each split by brightness, which a network can tell apart."""
    label = batch["label"]
    ids = label.clamp(max=CLASSES - 1)
    if classes < CLASSES:
        merged = [0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1] if classes == 2 else [0, 1, 1, 2, 2, 3, 1, 1, 4, 4, 4]
        ids = torch.tensor(merged)[ids]
    elif classes > CLASSES:
        parts = classes // CLASSES
        grey = batch["image"].mean(1).contiguous()
        ids = ids * parts + torch.bucketize(grey, torch.quantile(grey.flatten()[::7], torch.arange(1, parts) / parts))
    return batch | {"label": torch.where(label == IGNORE, IGNORE, ids)}


def scaled(batch: Batch, factor: float) -> Batch:
    size = [round(side * factor) for side in batch["label"].shape[-2:]]
    image = F.interpolate(batch["image"], size, mode="bilinear", antialias=True)
    label = F.interpolate(batch["label"][:, None].float(), size, mode="nearest")[:, 0].long()
    return batch | {"image": last(image), "label": label}


# ---------------------------------------------------------------- which is which


def run(name: str, setting: str, seed: int) -> None:
    total = SETTINGS[setting].steps
    kind, _, rest = name.partition("-")
    if kind.startswith("plain"):
        own = int(kind[5:] or total)
        plain(f"plain{own}", setting, seed, own, round(total * SHARED) if kind == "plain" else None)
    elif kind == "teacher":
        teacher(rest, setting, seed)
    elif name.startswith("on-none"):
        branch(name, setting, seed, 1.0, start=finished(setting, seed, int(name.partition("@")[2] or 0)))
    elif kind in ("reuse", "free", "on", "total"):
        taught(name, setting, seed)
    elif kind in ("classmix", "cutmix"):
        branch(name, setting, seed, 1.0, prepare=lambda batch: pasted(batch, kind == "classmix"))
    elif kind == "weighted":
        branch(name, setting, seed, 1.0, supervise=weighted_cross_entropy(setting, float(rest)))
    elif kind == "gradnorm":
        gradient_table(setting)
    else:
        {
            "emaself": self_average,
            "pilot": region_pilot,
            "ocrpilot": ocr_pilot,
            "shown": label_shown,
            "soft": soft_target,
        }[kind](name, setting, seed)


def needs(name: str, setting: str, seed: int) -> list[Path]:
    """The files without which a line of the queue can't be run."""
    kind, _, rest = name.partition("-")
    own = weights_file(f"plain{SETTINGS[setting].steps}", setting, seed)
    if kind.startswith("plain"):
        return []
    if kind in ("reuse", "free", "on") and not rest.startswith("none"):
        return [own, teacher_file(rest.split("-")[0], setting, seed)]
    return [own, weights_file("teacher-fixed", setting, TEACHER_SEED)] if kind == "gradnorm" else [own]


def work_off(queue: Path) -> None:
    claims = HOME / "claims"
    claims.mkdir(exist_ok=True)
    while True:
        lines = [line.split() for line in queue.read_text().splitlines() if line.strip() and not line.startswith("#")]
        open_lines = [line for line in lines if not (claims / "_".join(line)).exists()]
        if not open_lines:
            return
        ready = [line for line in open_lines if all(path.exists() for path in needs(line[0], line[1], int(line[2])))]
        if not ready:
            time.sleep(5)
            continue
        try:
            os.close(os.open(claims / "_".join(ready[0]), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        try:
            run(ready[0][0], ready[0][1], int(ready[0][2]))
        except Exception:
            traceback.print_exc()


# ---------------------------------------------------------------- the table


def table(setting: str, base: str | None = None) -> None:
    """Print each candidate against ``base``, the plain student of the setting's budget, best form against best form."""
    base, runs = base or f"plain{SETTINGS[setting].steps}", recorded(setting)
    print(f"| candidate | compute | seeds | last | average | against `{base}` | p | each seed | smallest effect |")
    print("|---|---|---|---|---|---|---|---|---|")
    held = runs.get(base, {})
    lines = [(name, row_of(name, rows, held)) for name, rows in runs.items() if set(rows) & set(held)]
    for name, (_, cells) in sorted(lines, key=lambda line: -line[1][0]):
        print(f"| `{name}` | " + " | ".join(cells) + " |")


def recorded(setting: str) -> dict[str, dict[int, dict]]:
    """The students of a setting by name and seed."""
    runs: dict[str, dict[int, dict]] = defaultdict(dict)
    for row in map(json.loads, (HOME / "results.jsonl").read_text().splitlines()):
        if row["setting"] == setting and "last" in row and row["seed"] < TEACHER_SEED:
            runs[row["name"]][row["seed"]] = row
    return runs


def row_of(name: str, rows: dict[int, dict], base: dict[int, dict]) -> tuple[float, list[str]]:
    """The mean difference and the cells of a candidate's line."""
    seeds = sorted(set(rows) & set(base))
    means = {form: np.mean([rows[seed][form] for seed in seeds]) for form in ("last", "ema")}
    against = max(("last", "ema"), key=lambda form: np.mean([base[seed][form] for seed in seeds]))
    form = max(means, key=means.__getitem__)
    gaps = [rows[seed][form] - base[seed][against] for seed in seeds]
    interval, effect = t_interval(gaps), smallest_effect(gaps)
    ledger = f"{rows[seeds[0]]['units']:.0f}" + " marginal" * name.startswith(("reuse", "on-"))
    cells = [ledger, str(len(seeds)), f"{means['last']:.2f}", f"{means['ema']:.2f}"]
    cells.append(f"{np.mean(gaps):+.2f}" + (" [{:+.2f}, {:+.2f}]".format(*interval) if interval else ""))
    cells += [f"{sign_flip_p(gaps):.3f}", ", ".join(f"{gap:+.2f}" for gap in gaps), f"{effect:.2f}" if effect else ""]
    return float(np.mean(gaps)), cells


# ---------------------------------------------------------------- the curve


def draw(picture: str, *settings: str) -> None:
    """Draw mIoU against compute: the plain students' curve, each candidate at its marginal and its total compute."""
    figure, panels = plt.subplots(
        1, len(settings), figsize=(4.2 * len(settings), 4), layout="constrained", squeeze=False
    )
    for axes, setting in zip(panels[0], settings, strict=True):
        runs = recorded(setting)
        plain_runs = sorted((rows for name, rows in runs.items() if name.startswith("plain")), key=units)
        axes.errorbar(*zip(*map(point, plain_runs), strict=True), color="0.3", marker="o", capsize=3, label="plain")
        for name, rows in runs.items():
            if name.startswith("reuse") and len(rows) >= 6:
                marginal, mean, error = point(rows)
                line = axes.errorbar(marginal, mean, error, marker="o", capsize=3, label=name.split("-", 1)[1])
                total = marginal + teacher_compute(name.split("-")[1], setting)
                axes.plot([marginal, total], [mean, mean], ":", color=line[0].get_color())
                axes.plot(total, mean, "o", color=line[0].get_color(), markerfacecolor="none")
        axes.set(title=setting, xlabel="compute, plain steps", ylabel="mIoU on val, %", xscale="log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(picture, dpi=110)


def units(rows: dict[int, dict]) -> float:
    return next(iter(rows.values()))["units"]


def point(rows: dict[int, dict]) -> tuple[float, float, float]:
    """Compute, mean over seeds of the better form, and its standard error."""
    values = max(([row[form] for row in rows.values()] for form in ("last", "ema")), key=np.mean)
    return units(rows), float(np.mean(values)), float(np.std(values, ddof=min(1, len(values) - 1)) / len(values) ** 0.5)


def teacher_compute(kind: str, setting: str) -> float:
    """What a teacher has cost in plain steps of the setting: the plain training it began as, and its own."""
    scale = STRONG_FORWARD / FORWARD if "@strong" in kind else 1.0
    own = 0 if kind.startswith("plain") else LONG_UNITS if "@long" in kind else TEACHER_UNITS
    return scale * (SETTINGS[setting].steps + own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "queue", "table", "draw"])
    parser.add_argument("home", type=Path)
    parser.add_argument(
        "rest", nargs="+", help="NAME SETTING SEED, the queue's file, or SETTING and the base, or picture and settings"
    )
    arguments = parser.parse_args()
    global HOME
    HOME = arguments.home
    (HOME / "w").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    keep_freed_memory()
    if arguments.what == "run":
        name, setting, seed = arguments.rest
        run(name, setting, int(seed))
    elif arguments.what == "queue":
        work_off(Path(arguments.rest[0]))
    elif arguments.what == "draw":
        draw(*arguments.rest)
    else:
        table(*arguments.rest)


if __name__ == "__main__":
    main()
