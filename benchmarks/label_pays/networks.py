"""The students, their optimizer, and the moving average of their weights."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ladseg.losses.cross_entropy import cross_entropy
from ladseg.models import build_model, widen_input
from ladseg.models.heads.base import init_as_mmsegmentation
from ladseg.models.heads.ocr import OCRHead, PointHead
from ladseg.models.segmenter import Segmenter
from ladseg.outputs import SegmentationOutput
from ladseg.seeds import derive_seed, generator_for
from ladseg.training.precision import depthwise_in_float32

from .setting import CLASSES, SETTINGS, WEIGHT_DECAY, home


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
            weights = str(home() / "tf_efficientnet_lite0.safetensors")
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
