"""mmsegmentation 0.x's networks, written out from its published structure and under its names of weights.

Each maps an image to logits at the image's size, upsampled as its configuration says. Only what is needed to compare a
prediction: no dropout, no losses.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def resized(x: Tensor, size: torch.Size | tuple[int, int], align_corners: bool) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)


class ConvModule(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, stride: int = 1, groups: int = 1,
                 activate: bool = True) -> None:  # fmt: skip
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(outputs)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x.relu() if self.activate else x


def projection(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = projection(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return (self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())) + shortcut).relu()


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = projection(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        return (self.bn3(self.conv3(y)) + shortcut).relu()


class ResNet(nn.Module):
    """Output stride 8; a stage's first block takes half of its dilation."""

    def __init__(self, block: type, depths: tuple[int, ...], deep_stem: bool) -> None:
        super().__init__()
        if deep_stem:
            self.stem = nn.Sequential(
                nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
                nn.Conv2d(32, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
                nn.Conv2d(32, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
            )  # fmt: skip
        else:
            self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.deep_stem = deep_stem
        inputs = 64
        for stage, (width, stride, first, rest) in enumerate(
            ((64, 1, 1, 1), (128, 2, 1, 1), (256, 1, 1, 2), (512, 1, 2, 4))
        ):
            blocks = [block(inputs, width, stride, first)]
            inputs = width * block.expansion
            blocks += [block(inputs, width, 1, rest) for _ in range(depths[stage] - 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x) if self.deep_stem else self.bn1(self.conv1(x)).relu()
        x, maps = F.max_pool2d(x, 3, 2, 1), []
        for stage in range(4):
            x = getattr(self, f"layer{stage + 1}")(x)
            maps.append(x)
        return maps


class FCNHead(nn.Module):
    def __init__(self, inputs: int, width: int, classes: int, convs: int, concat: bool, kernel: int = 3) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(ConvModule(width if i else inputs, width, kernel) for i in range(convs)))
        self.conv_cat = ConvModule(inputs + width, width, kernel) if concat else None
        self.conv_seg = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs(x)
        return self.conv_seg(y if self.conv_cat is None else self.conv_cat(torch.cat([x, y], 1)))


class PSPHead(nn.Module):
    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), ConvModule(inputs, width, 1)) for bins in (1, 2, 3, 6)
        )
        self.bottleneck = ConvModule(inputs + 4 * width, width, 3)
        self.conv_seg = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [resized(module(x), x.shape[2:], align_corners=False) for module in self.psp_modules]
        return self.conv_seg(self.bottleneck(torch.cat([x, *pooled], 1)))


class ASPPHead(nn.Module):
    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvModule(inputs, width, 1))
        self.aspp_modules = nn.ModuleList(
            ConvModule(inputs, width, 1 if rate == 1 else 3, rate) for rate in (1, 12, 24, 36)
        )
        self.bottleneck = ConvModule(5 * width, width, 3)
        self.conv_seg = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.image_pool(x).expand(-1, -1, *x.shape[2:])
        return self.conv_seg(self.bottleneck(torch.cat([pooled, *(module(x) for module in self.aspp_modules)], 1)))


class OnResNet(nn.Module):
    """A head on the last map and an auxiliary one on the third."""

    def __init__(self, backbone: ResNet, decode_head: nn.Module, auxiliary_head: nn.Module, align_corners: bool):
        super().__init__()
        self.backbone, self.decode_head, self.auxiliary_head = backbone, decode_head, auxiliary_head
        self.align_corners = align_corners

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.backbone(image)
        heads = ((self.decode_head, maps[3]), (self.auxiliary_head, maps[2]))
        return tuple(resized(head(x), image.shape[2:], self.align_corners) for head, x in heads)


def conv3(inputs: int, outputs: int, stride: int, relu: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


class HRModule(nn.Module):
    def __init__(self, widths: list[int], depth: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(w, w) for _ in range(depth))) for w in widths)
        self.fuse_layers = nn.ModuleList()
        for i, target in enumerate(widths):
            row = nn.ModuleList()
            for j, source in enumerate(widths):
                if j > i:
                    row.append(nn.Sequential(nn.Conv2d(source, target, 1, bias=False), nn.BatchNorm2d(target)))
                elif j == i:
                    row.append(nn.Identity())
                else:
                    steps = [conv3(source, source, 2) for _ in range(i - j - 1)]
                    row.append(nn.Sequential(*steps, conv3(source, target, 2, relu=False)))
            self.fuse_layers.append(row)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        result = []
        for i, row in enumerate(self.fuse_layers):
            total = torch.zeros_like(maps[i])
            for j, layer in enumerate(row):
                y = layer(maps[j])
                if j > i:
                    factor = 2 ** (j - i)
                    y = resized(y, (y.shape[2] * factor, y.shape[3] * factor), align_corners=False)
                    y = resized(y, maps[i].shape[2:], align_corners=False)
                total = total + y
            result.append(total.relu())
        return result


class HRNet(nn.Module):
    """Args: width of the first branch, blocks a branch, modules of stages 2, 3 and 4."""

    def __init__(self, width: int, depth: int, modules: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(*(Bottleneck(256 if i else 64, 64) for i in range(depth)))
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.transition1 = nn.ModuleList([conv3(256, width, 1), nn.Sequential(conv3(256, 2 * width, 2))])
        for stage in (2, 3, 4):
            blocks = (HRModule(widths[:stage], depth) for _ in range(modules[stage - 2]))
            setattr(self, f"stage{stage}", nn.Sequential(*blocks))
        for stage in (2, 3):
            new = nn.Sequential(conv3(widths[stage - 1], widths[stage], 2))
            setattr(self, f"transition{stage}", nn.ModuleList([*(nn.Identity() for _ in range(stage)), new]))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        x = self.layer1(x)
        maps = self.stage2([self.transition1[0](x), self.transition1[1](x)])
        maps = self.stage3([*maps, self.transition2[2](maps[-1])])
        return self.stage4([*maps, self.transition3[3](maps[-1])])


class ObjectContext(nn.Module):
    def __init__(self, width: int, keys: int) -> None:
        super().__init__()
        self.query_project = nn.Sequential(ConvModule(width, keys, 1), ConvModule(keys, keys, 1))
        self.key_project = nn.Sequential(ConvModule(width, keys, 1), ConvModule(keys, keys, 1))
        self.value_project, self.out_project = ConvModule(width, keys, 1), ConvModule(keys, width, 1)
        self.bottleneck = ConvModule(2 * width, width, 1)

    def forward(self, pixels: Tensor, objects: Tensor) -> Tensor:
        query = self.query_project(pixels).flatten(2)
        key, value = self.key_project(objects).flatten(2), self.value_project(objects).flatten(2)
        attention = (torch.einsum("nkp,nkc->npc", query, key) / key.shape[1] ** 0.5).softmax(2)
        context = torch.einsum("npc,nkc->nkp", attention, value).unflatten(2, pixels.shape[2:])
        return self.bottleneck(torch.cat([self.out_project(context), pixels], 1))


class OCRHead(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.bottleneck = ConvModule(inputs, 512, 3)
        self.object_context_block = ObjectContext(512, 256)
        self.conv_seg = nn.Conv2d(512, classes, 1)

    def forward(self, x: Tensor, guess: Tensor) -> Tensor:
        pixels = self.bottleneck(x)
        objects = torch.einsum("ncp,ndp->ndc", guess.flatten(2).softmax(2), pixels.flatten(2))
        return self.conv_seg(self.object_context_block(pixels, objects[..., None]))


class OCRNet(nn.Module):
    def __init__(self, backbone: HRNet, joined: int, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        first = FCNHead(joined, joined, classes, convs=1, concat=False, kernel=1)
        self.decode_head = nn.ModuleList([first, OCRHead(joined, classes)])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.backbone(image)
        joined = torch.cat([resized(x, maps[0].shape[2:], align_corners=False) for x in maps], 1)
        guess = self.decode_head[0](joined)
        logits = self.decode_head[1](joined, guess)
        return tuple(resized(x, image.shape[2:], align_corners=False) for x in (logits, guess))


class STDCModule(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                ConvModule(inputs, outputs // 2, 1),
                ConvModule(outputs // 2, outputs // 4, 3),
                ConvModule(outputs // 4, outputs // 8, 3),
                ConvModule(outputs // 8, outputs // 8, 3),
            ]
        )
        half = outputs // 2
        self.downsample = ConvModule(half, half, 3, stride=2, groups=half, activate=False) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        first = self.layers[0](x)
        second = self.layers[1](first if self.downsample is None else self.downsample(first))
        third = self.layers[2](second)
        skip = first if self.downsample is None else F.avg_pool2d(first, 3, 2, 1)
        return torch.cat([skip, second, third, self.layers[3](third)], 1)


class STDCNet(nn.Module):
    def __init__(self, depths: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = nn.ModuleList([ConvModule(3, 32, 3, stride=2), ConvModule(32, 64, 3, stride=2)])
        inputs = 64
        for width, depth in zip((256, 512, 1024), depths, strict=True):
            blocks = [STDCModule(inputs if i == 0 else width, width, 1 if i else 2) for i in range(depth)]
            self.stages.append(nn.Sequential(*blocks))
            inputs = width

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[2:]


class AttentionRefinement(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_layer = ConvModule(inputs, outputs, 3)
        gate = ConvModule(outputs, outputs, 1, activate=False)
        self.atten_conv_layer = nn.Sequential(nn.AdaptiveAvgPool2d(1), gate, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_layer(x)
        return x * self.atten_conv_layer(x)


class Unnormalised(nn.Module):
    """A ConvModule without batch norm and activation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class FeatureFusion(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv0 = ConvModule(inputs, outputs, 1)
        squeeze, excite = Unnormalised(outputs, outputs // 4), Unnormalised(outputs // 4, outputs)
        self.attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), squeeze, excite)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        x = self.conv0(torch.cat([detail, context], 1))
        squeezed = self.attention[1](self.attention[0](x)).relu()
        return x + x * self.attention[2](squeezed).sigmoid()


class ContextPath(nn.Module):
    def __init__(self, depths: tuple[int, ...]) -> None:
        super().__init__()
        self.backbone = STDCNet(depths)
        self.arms = nn.ModuleList([AttentionRefinement(1024, 128), AttentionRefinement(512, 128)])
        self.convs = nn.ModuleList([ConvModule(128, 128, 3), ConvModule(128, 128, 3)])
        self.conv_avg = ConvModule(1024, 128, 1)
        self.ffm = FeatureFusion(384, 256)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map an image to the detail map, the contexts at strides 16 and 8, and their fusion."""
        detail, middle, coarse = self.backbone(x)
        context = self.conv_avg(coarse.mean((2, 3), keepdim=True)).expand(-1, -1, *coarse.shape[2:])
        at16 = self.convs[0](F.interpolate(self.arms[0](coarse) + context, size=middle.shape[2:]))
        at8 = self.convs[1](F.interpolate(self.arms[1](middle) + at16, size=detail.shape[2:]))
        return detail, at16, at8, self.ffm(detail, at8)


class STDC(nn.Module):
    def __init__(self, depths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.backbone = ContextPath(depths)
        self.decode_head = FCNHead(256, 256, classes, convs=1, concat=False)
        self.auxiliary_head = nn.ModuleList(
            [
                FCNHead(128, 64, classes, convs=1, concat=False),
                FCNHead(128, 64, classes, convs=1, concat=False),
                FCNHead(256, 64, 2, convs=1, concat=False),
            ]
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map an image to the logits of the main head, of those on strides 8 and 16, and of the boundaries."""
        detail, at16, at8, fused = self.backbone(image)
        size, aux = image.shape[2:], self.auxiliary_head
        return (
            resized(self.decode_head(fused), size, align_corners=True),
            resized(aux[0](at8), size, align_corners=False),
            resized(aux[1](at16), size, align_corners=False),
            resized(aux[2](detail), size, align_corners=True),
        )


def build(name: str, classes: int) -> nn.Module:
    """Build the network that ladseg calls by this name."""
    if name.startswith("fcn"):
        light = name == "fcn_r18"
        backbone = ResNet(BasicBlock if light else Bottleneck, (2, 2, 2, 2) if light else (3, 4, 6, 3), deep_stem=False)
        channels, width = (512, 128) if light else (2048, 512)
        head = FCNHead(channels, width, classes, convs=2, concat=True)
        aux = FCNHead(channels // 2, channels // 8, classes, convs=1, concat=False)
        return OnResNet(backbone, head, aux, align_corners=True)
    if name.startswith(("pspnet", "deeplabv3")):
        backbone = ResNet(Bottleneck, (3, 4, 23 if "r101" in name else 6, 3), deep_stem=True)
        head = (PSPHead if name.startswith("pspnet") else ASPPHead)(2048, 512, classes)
        return OnResNet(backbone, head, FCNHead(1024, 256, classes, convs=1, concat=False), align_corners=False)
    if name.startswith("ocrnet"):
        width = 48 if "w48" in name else 18
        depth, modules = (2, (1, 3, 2)) if name == "ocrnet_w18s" else (4, (1, 4, 3))
        return OCRNet(HRNet(width, depth, modules), 15 * width, classes)
    return STDC((2, 2, 2) if name == "stdc1_mmseg" else (4, 5, 3), classes)
