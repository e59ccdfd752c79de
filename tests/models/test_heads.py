"""Heads against their definitions, written out with plain convolutions and loops."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ladseg.models.heads import ASPPHead, AuxHead, DeepLabV3Head, FCNHead, PSPNetHead
from ladseg.models.heads.base import pooled_context


def with_statistics(head: nn.Module) -> nn.Module:
    """In eval mode, with batch norms that have something to do."""
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 2.0)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor)
    return head.double().eval()


def conv_bn_relu(block: nn.Sequential, x: Tensor, dilation: int = 1) -> Tensor:
    """The block by its definition, batch norm spelled out."""
    conv, norm = block[0], block[1]
    y = F.conv2d(x, conv.weight, padding=dilation * (conv.weight.shape[-1] // 2), dilation=dilation)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return ((y - norm.running_mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)).relu()


def test_pyramid_pooling_is_the_average_of_each_bin() -> None:
    """Bins by the definition: rows floor(i h / b) to ceil((i + 1) h / b)."""
    torch.manual_seed(0)
    head = PSPNetHead(8, 4, 3).eval()
    pyramid = head.features[0]
    x = torch.randn(1, 8, 7, 10)
    expected = [x]
    for branch, bins in zip(pyramid.branches, (1, 2, 3, 6), strict=True):
        pooled = torch.zeros(1, 8, bins, bins)
        for i in range(bins):
            for j in range(bins):
                rows = slice(i * 7 // bins, -(-(i + 1) * 7 // bins))
                columns = slice(j * 10 // bins, -(-(j + 1) * 10 // bins))
                pooled[..., i, j] = x[..., rows, columns].mean((-2, -1))
        expected.append(F.interpolate(branch(pooled), size=(7, 10), mode="bilinear", align_corners=True))
    torch.testing.assert_close(pyramid(x), torch.cat(expected, 1))


def test_deeplabv3_is_five_views_mixed() -> None:
    torch.manual_seed(0)
    head = with_statistics(DeepLabV3Head(6, 4, 3))
    aspp, mix = head.features
    x = torch.randn(2, 6, 9, 80, dtype=torch.float64)
    image_level = conv_bn_relu(aspp.image, x.mean((2, 3), keepdim=True)).expand(-1, -1, 9, 80)
    dilated = [conv_bn_relu(conv, x, d) for conv, d in zip(aspp.dilated, (12, 24, 36), strict=True)]
    views = torch.cat([conv_bn_relu(aspp.point, x), *dilated, image_level], 1)
    expected = conv_bn_relu(mix, conv_bn_relu(aspp.project[0], views))
    features, logits = head(x)
    torch.testing.assert_close(features, expected)
    weight = head.classifier.weight[:, :, 0, 0]
    bias = head.classifier.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(logits, torch.einsum("kc,nchw->nkhw", weight, expected) + bias)


def test_fcn_is_two_convolutions_with_the_input_beside() -> None:
    torch.manual_seed(0)
    head = with_statistics(FCNHead(6, 4, 3))
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    inner = conv_bn_relu(head.features.convs[1], conv_bn_relu(head.features.convs[0], x))
    torch.testing.assert_close(head(x)[0], conv_bn_relu(head.features.fuse, torch.cat([x, inner], 1)))


def test_the_auxiliary_head_has_a_quarter_of_the_channels() -> None:
    head = with_statistics(AuxHead(256, 3))
    x = torch.randn(1, 256, 5, 7, dtype=torch.float64)
    assert head.classifier.weight.shape == (3, 64, 1, 1)
    torch.testing.assert_close(head(x)[0], conv_bn_relu(head.features, x))


@pytest.mark.parametrize("build", [PSPNetHead, DeepLabV3Head, FCNHead, ASPPHead])
def test_the_features_are_those_before_dropout(build: type) -> None:
    head = build(8, 4, 3).train()
    assert [module.p for module in head.modules() if isinstance(module, nn.Dropout | nn.Dropout2d)][-1] == 0.1
    for module in head.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 1.0 if module is head.dropout else 0.0
    features, logits = head(torch.randn(2, 8, 6, 6))
    assert features.abs().sum() > 0
    assert torch.equal(logits, head.classifier.bias.view(1, -1, 1, 1).expand_as(logits)), "all was dropped"


@pytest.mark.parametrize("build", [PSPNetHead, DeepLabV3Head, FCNHead, ASPPHead])
def test_convolutions_before_batch_norm_have_no_bias(build: type) -> None:
    head = build(8, 4, 3)
    biased = [name for name, m in head.named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    assert biased == ["classifier"]


def test_a_norm_over_more_than_this_batch_may_see_one_image() -> None:
    branch = nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(1, 4)).train()
    assert pooled_context(branch, torch.randn(1, 4, 3, 5), 1).shape == (1, 4, 3, 5)
