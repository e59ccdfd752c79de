"""Help of the label without a second network: the regions it tells, or the label as an input."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ladseg.distillers.cwd import cwd_loss
from ladseg.losses.cross_entropy import cross_entropy
from ladseg.outputs import SegmentationOutput
from ladseg.seeds import derive_seed, generator_for

from .channels import Channel, noise_draws
from .networks import forward, in_context, network
from .setting import CLASSES, IGNORE, OCR_PASS, Batch, Terms
from .student import Step, branch, trunk


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


def soft_target(name: str, setting: str, seed: int) -> None:
    def listen(step: Step) -> Terms:
        shares = region_shares(step.batch["label"], tuple(step.out.logits.shape[-2:]))
        return {"soft": (-(shares * step.out.logits.log_softmax(1)).sum(1).mean(), float(name.split("-")[1]))}

    branch(name, setting, seed, 1.0, listen)
