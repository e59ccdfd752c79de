"""Our networks against libraries that have the same ones, with equal weights; and our own parts against float64."""

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from ladseg import build_model
from ladseg.models.heads import AuxHead
from ladseg.models.heads.ocr import OCRHead
from ladseg.models.renames import renamed
from ladseg.models.stdc import STDC, AttentionRefinement, ConcatBlock, FeatureFusion

peft = pytest.importorskip("peft", reason="the lora extra is not installed")
transformers = pytest.importorskip("transformers", reason="the transformers extra is not installed")


def with_statistics(module: nn.Module) -> nn.Module:
    """Batch norms that have something to do, in eval mode."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            nn.init.normal_(part.bias)
            nn.init.normal_(part.running_mean)
    return module.eval()


def close(ours: Tensor, theirs: Tensor) -> None:
    scale = float(theirs.abs().max())
    assert float((ours - theirs).abs().max()) <= 1e-5 * max(scale, 1.0)


def test_deeplabv3_is_torchvisions() -> None:
    torch.manual_seed(0)
    theirs = with_statistics(
        torchvision.models.segmentation.deeplabv3_resnet50(
            weights=None, weights_backbone=None, num_classes=5, aux_loss=True
        )
    )
    ours = build_model("deeplabv3@resnet50", 5, output_stride=8)
    ours.load_state_dict(renamed(theirs.state_dict()))
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        expected = theirs(image)
        output = ours.eval()(image)
        aux = ours.aux_head(ours.backbone(image)[-2])[1]
        # Theirs are upsampled to the image's size; so are ours, by the same rule.
        for logits, wanted in ((output.logits, expected["out"]), (aux, expected["aux"])):
            close(F.interpolate(logits, size=(65, 97), mode="bilinear", align_corners=False), wanted)


def test_the_auxiliary_head_on_the_last_map_is_torchvisions_fcn() -> None:
    torch.manual_seed(0)
    theirs = with_statistics(
        torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=5)
    )
    backbone, head = build_model("fcn_r50", 5).backbone, AuxHead(2048, 5)
    assert backbone.load_state_dict(theirs.backbone.state_dict(), strict=False).missing_keys == []
    head.features[0].load_state_dict(theirs.classifier[0].state_dict())
    head.features[1].load_state_dict(theirs.classifier[1].state_dict())
    head.classifier.load_state_dict(theirs.classifier[4].state_dict())
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        logits = head.eval()(backbone.eval()(image)[-1])[1]
        wanted = theirs(image)["out"]
    # Where torchvision has 512 channels, so has a quarter of 2048.
    close(F.interpolate(logits, size=(65, 97), mode="bilinear", align_corners=False), wanted)


@pytest.mark.parametrize("name", ["segformer_b0", "segformer_b2"])
def test_segformer_is_transformers_own(name: str) -> None:
    torch.manual_seed(0)
    ours = build_model(name, 7).eval()
    larger = {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 6, 3], "decoder_hidden_size": 768}
    # The configuration's own defaults are B0's.
    config = transformers.SegformerConfig(num_labels=7, **(larger if name.endswith("b2") else {}))
    theirs = transformers.SegformerForSemanticSegmentation(config).eval()
    theirs.load_state_dict(ours.core.state_dict())
    image = torch.randn(1, 3, 67, 90)
    with torch.no_grad():
        output = ours(image)
        close(output.logits, theirs(image).logits)
        classified = theirs.decode_head.classifier(output.features["head"])
    close(output.logits, classified)


def block(module: nn.Sequential, x: Tensor) -> Tensor:
    """Convolution, batch norm by its definition, ReLU."""
    conv, norm = module[0], module[1]
    y = F.conv2d(x, conv.weight, stride=conv.stride, padding=conv.kernel_size[0] // 2)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return ((y - norm.running_mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)).relu()


def test_ocr_by_loops_in_float64() -> None:
    """One class vector at a time, one position at a time."""
    torch.manual_seed(0)
    head = with_statistics(OCRHead(6, 3, width=8, keys=4)).double()
    x, guess = torch.randn(1, 6, 4, 5).double(), torch.randn(1, 3, 4, 5).double()
    with torch.no_grad():
        pixels = block(head.features, x)
        objects = []
        for c in range(3):
            weight = guess[0, c].exp() / guess[0, c].exp().sum()
            objects.append((pixels[0] * weight).sum((1, 2)))
        vectors = torch.stack(objects, 1)[None, :, :, None]
        attention = head.attention
        query = block(attention.query[1], block(attention.query[0], pixels))
        key = block(attention.key[1], block(attention.key[0], vectors))
        value = block(attention.value, vectors)
        mixed = torch.zeros(1, 4, 4, 5).double()
        for i in range(4):
            for j in range(5):
                scores = torch.stack([(query[0, :, i, j] * key[0, :, c, 0]).sum() / 4**0.5 for c in range(3)])
                share = scores.exp() / scores.exp().sum()
                mixed[0, :, i, j] = sum(share[c] * value[0, :, c, 0] for c in range(3))
        expected = block(head.mix, torch.cat([block(attention.out, mixed), pixels], 1))
        features, logits = head(x, guess)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(logits, F.conv2d(expected, head.classifier.weight, head.classifier.bias))


@pytest.mark.parametrize("stride", [1, 2])
def test_stdc_block_by_its_definition(stride: int) -> None:
    torch.manual_seed(0)
    module = with_statistics(ConcatBlock(16, 32, stride)).double()
    x = torch.randn(2, 16, 9, 10).double()
    with torch.no_grad():
        first = block(module.point, x)
        skip, last = first, first
        if stride == 2:
            skip = F.avg_pool2d(first, 3, 2, 1)
            last = module.down[1](F.conv2d(first, module.down[0].weight, stride=2, padding=1, groups=16))
        maps = [skip]
        for conv in module.convs:
            last = block(conv, last)
            maps.append(last)
        assert [m.shape[1] for m in maps] == [16, 8, 4, 4]
        torch.testing.assert_close(module(x), torch.cat(maps, 1))


def test_stdc_gates_by_their_definition() -> None:
    torch.manual_seed(0)
    refine = with_statistics(AttentionRefinement(5, 4)).double()
    fuse = with_statistics(FeatureFusion(9, 8)).double()
    x, detail, context = (torch.randn(2, c, 6, 7).double() for c in (5, 5, 4))
    with torch.no_grad():
        y = block(refine.conv, x)
        conv, norm = refine.gate[0], refine.gate[1]
        z = torch.einsum("kc,nc->nk", conv.weight[:, :, 0, 0], y.mean((2, 3)))
        z = (z - norm.running_mean) * norm.weight / (norm.running_var + norm.eps).sqrt() + norm.bias
        torch.testing.assert_close(refine(x), y * (1 / (1 + (-z).exp()))[:, :, None, None])
        y = block(fuse.mix, torch.cat([detail, context], 1))
        z = torch.einsum("kc,nc->nk", fuse.gate[0].weight[:, :, 0, 0], y.mean((2, 3))).relu()
        z = torch.einsum("kc,nc->nk", fuse.gate[2].weight[:, :, 0, 0], z)
        torch.testing.assert_close(fuse(detail, context), y + y * (1 / (1 + (-z).exp()))[:, :, None, None])


def test_stdcs_context_flows_from_coarse_to_fine() -> None:
    torch.manual_seed(0)
    network = with_statistics(STDC("stdc1", 3, False, (0.0,) * 3, (1.0,) * 3))
    maps = [torch.randn(1, c, s, s) for c, s in ((256, 16), (512, 8), (1024, 4))]

    def twice(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, -2).repeat_interleave(2, -1)

    with torch.no_grad():
        coarse = network.refine32(maps[2]) + network.global_context(maps[2].mean((2, 3), keepdim=True))
        middle = network.smooth32(twice(coarse))
        fine = network.smooth16(twice(network.refine16(maps[1]) + middle))
        context8, context16 = network._context(maps)
    close(context16, middle)
    close(context8, fine)


def test_dinov2_is_timms_last_blocks_through_the_final_norm_and_adapters_start_as_nothing() -> None:
    torch.manual_seed(0)
    network = build_model("dinov2_s14", 3).eval()
    for part in (network.backbone.model.norm.weight, network.backbone.model.norm.bias):
        nn.init.normal_(part)
    plain = timm.create_model("vit_small_patch14_dinov2", num_classes=0, dynamic_img_size=True).eval()
    state = {k.replace(".base_layer", ""): v for k, v in network.backbone.state_dict().items() if "lora_" not in k}
    plain.load_state_dict({k.removeprefix("model."): v for k, v in state.items()}, strict=False)
    image = torch.randn(1, 3, 56, 70)
    with torch.no_grad():
        maps = plain.get_intermediate_layers(image, n=4, reshape=True, norm=True)
        close(network(image).features["backbone"], torch.cat(list(maps), 1))


def test_only_adapters_and_head_train_and_merging_changes_nothing() -> None:
    torch.manual_seed(0)
    network = build_model("dinov2_s14", 3)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert all("lora_" in name or name.startswith("head.") for name in trained)
    assert sum("lora_" in name for name in trained) == 12 * 2 * 2
    for name, p in network.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(p, std=0.02)
    image = torch.randn(1, 3, 50, 61)
    network.eval()
    with torch.no_grad():
        before = network(image).logits
        assert network.merge() is network
        close(network(image).logits, before)
    assert not any("lora_" in name or "base_layer" in name for name in network.state_dict())
    assert set(network.state_dict()) == set(build_model("dinov2_s14", 3, merged=True).state_dict())
    assert before.shape[-2:] == (4, 5), "50x61 is scaled to 56x70, four by five patches"
