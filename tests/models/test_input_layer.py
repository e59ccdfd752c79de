"""Widening keeps what is there and adds what was asked for."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from ladseg import adapt, build_model, widen_input
from ladseg.errors import ModelError
from ladseg.models import input_normalization
from ladseg.models.weights import say_once

smp = pytest.importorskip("segmentation_models_pytorch")
transformers = pytest.importorskip("transformers")

NETWORKS = {
    "segmenter": lambda: build_model("pspnet@test_resnet", 3),
    "lraspp": lambda: torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None),
    "sequential": lambda: nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, bias=True), nn.ReLU(), nn.Conv2d(5, 3, 1)),
    "patch embedding": lambda: timm.create_model("test_vit", num_classes=3),
    "same padding": lambda: timm.create_model("tf_efficientnet_lite0", num_classes=3),
}


def assert_stem(network: nn.Module, **options: Any) -> None:
    """It is widened by a label stem: exact at first, whatever the label, and trained from then on."""
    network.double().eval()
    image, label = torch.randn(2, 3, 64, 64, dtype=torch.float64), torch.randn(2, 1, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        plain = output(network, image)
    assert widen_input(network, **options) is network
    copied = copy.deepcopy(network)
    weight = next(value for name, value in copied.named_parameters() if name.endswith("label_stem.conv.weight"))
    widened = output(copied, torch.cat([image, label], 1))
    assert torch.equal(widened, plain)
    widened.square().mean().backward()
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0
    with torch.no_grad():
        weight.add_(1)
        assert not torch.equal(output(copied, torch.cat([image, label], 1)), plain)
        assert torch.equal(output(copied, torch.cat([image, torch.zeros_like(label)], 1)), plain)
        assert torch.equal(output(network, torch.cat([image, label], 1)), plain)


def output(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    result = network(image)
    return (
        result
        if isinstance(result, torch.Tensor)
        else getattr(result, "logits", None)
        if hasattr(result, "logits")
        else result["out"]
    )


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_zero_channel_changes_nothing_and_rgb_weights_stay(kind: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[kind]().double().eval()
    size = 160 if kind == "patch embedding" else 64
    image = torch.randn(1, 3, size, size, dtype=torch.float64)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.inference_mode():
        plain = output(network, image)
        assert widen_input(network) is network
        widened = output(network, torch.cat([image, torch.zeros_like(image[:, :1])], 1))
    # The convolution sums in another order with four channels, so equality is up to the last bits of float64.
    torch.testing.assert_close(widened, plain, rtol=1e-11, atol=1e-11)
    changed = [name for name, value in network.state_dict().items() if value.shape != before[name].shape]
    assert len(changed) == 1
    assert torch.equal(network.state_dict()[changed[0]][:, :3], before[changed[0]])
    same = set(before) - set(changed)
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in same)


def test_the_new_slice_follows_its_standard_deviation_and_generator() -> None:
    def new_slice(**options) -> torch.Tensor:  # type: ignore[no-untyped-def]
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 400, 5)
        return widen_input(nn.Sequential(conv), **options)[0].weight[:, 3:].detach()  # type: ignore[index]

    generator = torch.Generator().manual_seed(1)
    assert float(new_slice(generator=generator).std()) == pytest.approx(0.1, rel=0.05)
    assert torch.equal(new_slice(generator=generator.manual_seed(5)), new_slice(generator=generator.manual_seed(5)))
    assert float(new_slice(slice_std=0.0).abs().sum()) == 0.0
    uniform_std = (1 / (3 * 25)) ** 0.5 / 3**0.5  # torch's default: uniform in +-1/sqrt(fan_in)
    assert float(new_slice(slice_std="match").std()) == pytest.approx(uniform_std, rel=0.05)
    assert new_slice(extra_channels=2).shape == (400, 2, 5, 5)


def test_the_new_slice_is_trained() -> None:
    network = widen_input(nn.Sequential(nn.Conv2d(3, 4, 3)))
    network(torch.randn(1, 4, 8, 8)).sum().backward()
    weight = network[0].weight  # type: ignore[index]
    assert weight.grad is not None
    assert (weight.grad[:, 3] != 0).all()


def test_the_layer_can_be_named() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 1))
    widen_input(network, input_layer="0")
    assert [layer.in_channels for layer in network] == [4, 3]


def test_what_was_looked_for_is_said() -> None:
    with pytest.raises(ModelError, match=r"no input layer found in Sequential: no Conv2d has 3 .*\"encoder.conv1\""):
        widen_input(nn.Sequential(nn.Conv2d(1, 2, 3)))
    with pytest.raises(
        ModelError, match=r"input_layer 'first' is not a Conv2d or Linear layer of Sequential; the first are: 0"
    ):
        widen_input(nn.Sequential(nn.Conv2d(3, 2, 3)), input_layer="first")


def test_with_whole_numbers_equality_is_exact() -> None:
    """Sums of small integers don't round, in whatever order a kernel takes them."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3, padding=1)
    with torch.no_grad():
        conv.weight.copy_(torch.randint(-8, 9, conv.weight.shape))
        conv.bias.copy_(torch.randint(-8, 9, conv.bias.shape))
    image = torch.randint(-20, 20, (2, 3, 9, 11)).float()
    before = conv(image)
    widen_input(nn.Sequential(conv))
    assert torch.equal(conv(torch.cat([image, torch.zeros(2, 1, 9, 11)], 1)), before)


def test_widening_again_appends_to_the_same_layer() -> None:
    network = build_model("pspnet@test_resnet", 3)
    assert network.in_channels == 3
    rgb = network.backbone.conv1[0].weight.detach().clone()
    widen_input(network)
    fourth = network.backbone.conv1[0].weight.detach().clone()
    copied = copy.deepcopy(network)
    widen_input(copied, 2)
    assert (network.in_channels, copied.in_channels) == (4, 6)
    assert torch.equal(copied.backbone.conv1[0].weight[:, :4], fourth)
    assert torch.equal(fourth[:, :3], rgb)
    assert copied.eval()(torch.zeros(1, 6, 32, 32)).logits.shape[1] == 3


def test_match_means_the_rgb_weights_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 400, 5))
    rgb_std = float(network[0].weight.detach().std())
    widen_input(network, slice_std=10.0)
    widen_input(network, slice_std="match")
    assert float(network[0].weight[:, 4:].detach().std()) == pytest.approx(rgb_std, rel=0.05)


def test_the_layer_stays_what_it_was() -> None:
    network = nn.Sequential(
        timm.layers.Conv2dSame(3, 8, 3, stride=2, dilation=2, bias=True).to(
            torch.bfloat16, memory_format=torch.channels_last
        )
    )
    layer, bias = network[0], network[0].bias
    layer.weight.requires_grad_(False)
    widen_input(network)
    assert layer.weight.requires_grad, "the new channel is to be learnt, in a frozen network too"
    assert network[0] is layer
    assert layer.bias is bias
    assert type(layer) is timm.layers.Conv2dSame
    assert (layer.stride, layer.dilation, layer.in_channels) == ((2, 2), (2, 2), 4)
    assert layer.weight.dtype == torch.bfloat16
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    assert not layer.weight.is_contiguous()


@pytest.mark.parametrize(
    "stem",
    [timm.layers.StdConv2d(3, 4, 3), nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))],
    ids=["standardised", "weight norm"],
)
def test_weights_that_depend_on_the_number_of_channels_are_refused(stem: nn.Module) -> None:
    with pytest.raises(ModelError, match=r"^'0' of Sequential .* computes its weights from all its input channels"):
        widen_input(nn.Sequential(stem), input_layer="0")
    before = stem.state_dict().keys() | set()
    assert_stem(nn.Sequential(stem))
    assert stem.state_dict().keys() - before == {"label_stem.conv.weight"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extra_channels": 0}, "extra_channels is 0"),
        ({"slice_std": -0.1}, "slice_std is -0.1"),
        ({"slice_std": float("nan")}, "slice_std is nan"),
        ({"slice_std": "same"}, "slice_std is 'same'; it must be 0 or more, or 'match'"),
    ],
)
def test_values_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        widen_input(nn.Sequential(nn.Conv2d(3, 4, 3)), **options)


def test_normalisation_is_the_networks_own_or_imagenets() -> None:
    imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    half = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    assert input_normalization(nn.Sequential(nn.Conv2d(3, 4, 3))) == imagenet
    assert input_normalization(timm.create_model("test_vit")) == half
    segmenter = build_model("fcn@test_vit", 3)
    assert input_normalization(segmenter) == half == (segmenter.input_mean, segmenter.input_std)
    assert input_normalization(nn.ModuleDict({"network": segmenter})) == half
    assert input_normalization(build_model("pspnet_r18", 3)) == imagenet


class Net(nn.Module):
    """A network by the function that runs it."""

    def __init__(self, run: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = run
        self.num_channels = 3
        self.register_buffer("mean", torch.rand(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return self.run(self, image)


def conv(inputs: int = 3, outputs: int = 8, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def half(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=0.5, mode="bilinear")


def checked(net: Net, x: Tensor) -> Tensor:
    if x.shape[1] != net.num_channels:
        raise ValueError("pixel values don't match\nthe configuration")
    return net.a(x)


# Networks whose image reaches the layers that stand with them, and nothing else.
REACHED: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "two branches": (lambda: Net(lambda n, x: n.a(x) + n.b(x), a=conv(), b=conv()), {"a", "b"}),
    "two scales": (lambda: Net(lambda n, x: half(n.a(x)) + n.b(half(x)), a=conv(), b=conv()), {"a", "b"}),
    "one behind a space-to-depth": (
        lambda: Net(lambda n, x: half(n.a(x)) + n.b(F.pixel_unshuffle(x, 2)), a=conv(), b=conv(12)),
        {"a", "b"},
    ),
    "a 3-to-3 layer registered first, run last": (
        lambda: Net(lambda n, x: n.a(n.c(n.b(x))), a=conv(3, 3), b=conv(), c=conv(8, 3)),
        {"b"},
    ),
    "a 3-to-3 layer that the image meets": (lambda: Net(lambda n, x: n.b(n.a(x)), b=conv(), a=conv(3, 3)), {"a"}),
    "an attribute called core": (
        lambda: Net(lambda n, x: n.core(n.stem(x)), core=nn.Sequential(conv(8, 3), conv(3, 8)), stem=conv()),
        {"stem"},
    ),
    "a scaled image": (lambda: Net(lambda n, x: n.a(x * 2), a=conv()), {"a"}),
    "RepVGG": (lambda: timm.create_model("repvgg_a0"), {"stem.conv_kxk.conv", "stem.conv_1x1.conv"}),
    "MobileOne": (lambda: timm.create_model("mobileone_s0"), {"stem.conv_kxk.0.conv", "stem.conv_scale.conv"}),
    "FastViT": (lambda: timm.create_model("fastvit_t8"), {"stem.0.conv_kxk.0.conv", "stem.0.conv_scale.conv"}),
    "Swin": (lambda: timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1)), {"patch_embed.proj"}),
    "smp on MobileOne": (
        lambda: smp.Unet("mobileone_s0", encoder_weights=None),
        {"encoder.stage0.rbr_conv.0.conv", "encoder.stage0.rbr_scale.conv"},
    ),
    "smp SegFormer": (lambda: smp.Segformer("mit_b0", encoder_weights=None), {"encoder.patch_embed1.proj"}),
}


@pytest.mark.parametrize("kind", REACHED)
def test_every_layer_that_the_image_reaches_is_widened(kind: str) -> None:
    make, paths = REACHED[kind]
    torch.manual_seed(0)
    network = make().double().eval()
    side = 224 if kind == "Swin" else 64
    image = torch.randn(1, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        plain = output(network, image)
        widen_input(network)
        zero = torch.zeros_like(image[:, :1])
        torch.testing.assert_close(output(network, torch.cat([image, zero], 1)), plain, rtol=1e-9, atol=1e-9)
        seen = not torch.equal(output(network, torch.cat([image, zero + 1], 1)), plain)
    assert seen
    assert {name for name, module in network.named_modules() if hasattr(module, "added_channels")} == paths
    named = make()
    widen_input(named, input_layer=sorted(paths))
    assert {name for name, module in named.named_modules() if hasattr(module, "added_channels")} == paths


STEMMED: dict[str, Callable[[], nn.Module]] = {
    "three means": lambda: Net(lambda n, x: n.a(x - n.mean), a=conv()),
    "a shift that zeros do not survive": lambda: Net(lambda n, x: n.a(x - 0.5), a=conv()),
    "batch norm on the image": lambda: nn.Sequential(nn.BatchNorm2d(3), conv(bias=False), nn.ReLU()),
    "image skip": lambda: Net(lambda n, x: n.b(torch.cat([n.a(x), x], 1)), a=conv(), b=conv(11)),
    "a check of channels": lambda: Net(checked, a=conv(stride=4, groups=1)),
    "a slice of the image": lambda: Net(lambda n, x: n.a(x[:, :3]), a=conv()),
    "normalised and rearranged": lambda: Net(lambda n, x: n.a(F.pixel_unshuffle(x - 0.5, 2)), a=conv(12)),
    "shrunk": lambda: Net(lambda n, x: n.a(half(x - n.mean)), a=conv()),
    "a colour transform first": lambda: Net(lambda n, x: n.b(n.a(x - n.mean)), a=conv(3, 3), b=conv()),
    "BEiT": lambda: transformers.BeitForSemanticSegmentation(
        transformers.BeitConfig(
            hidden_size=16,
            num_attention_heads=2,
            num_hidden_layers=4,
            intermediate_size=16,
            image_size=64,
            out_indices=[0, 1, 2, 3],
            use_auxiliary_head=False,
            pool_scales=[1],
        )
    ),
    "UperNet on ResNet": lambda: transformers.UperNetForSemanticSegmentation(
        transformers.UperNetConfig(
            backbone_config=transformers.ResNetConfig(
                embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4, out_features=[f"stage{i}" for i in range(1, 5)]
            ),
            hidden_size=8,
            pool_scales=[1],
            use_auxiliary_head=False,
        )
    ),
    "NFNet": lambda: timm.create_model("test_nfnet"),
}


@pytest.mark.parametrize("kind", STEMMED)
def test_where_widening_fails_a_label_stem_is_added_and_said(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    say_once.cache_clear()
    torch.manual_seed(0)
    network = STEMMED[kind]()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # zeros at the start hide what lies behind them
    layers = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    shapes = {name: layer.weight.shape for name, layer in layers.items()}
    assert_stem(network)
    assert shapes == {name: layer.weight.shape for name, layer in layers.items()}
    assert "the label enters through a stem of its own" in caplog.text


def test_a_stem_is_what_a_widened_layer_is() -> None:
    """A convolution of four channels is the sum of one of three and one of one, by the definition."""
    torch.manual_seed(0)
    layer = conv(stride=2, padding_mode="reflect")
    network = nn.Sequential(layer, nn.ReLU())
    widen_input(network, input_layer="stem")
    weight = layer.label_stem.conv.weight  # type: ignore[union-attr]
    nn.init.normal_(weight)
    whole = conv(4, stride=2, padding_mode="reflect")
    with torch.no_grad():
        whole.weight.copy_(torch.cat([layer.weight, weight], 1))
        whole.bias.copy_(layer.bias)
    image = torch.randn(2, 4, 33, 47)
    torch.testing.assert_close(network(image), whole(image).relu())


def test_a_stem_may_be_asked_for_and_widened_again() -> None:
    assert_stem(Net(lambda n, x: n.a(x), a=conv()), input_layer="stem")
    network = build_model("pspnet@test_resnet", 3)
    widen_input(network, input_layer="stem")
    assert network.in_channels == 4
    widen_input(network, 2)
    assert network.in_channels == 6
    assert network.eval()(torch.zeros(1, 6, 32, 32)).logits.shape[1] == 3
    # A layer that is called so is meant.
    named = Net(lambda n, x: n.stem(x), stem=conv())
    assert widen_input(named, input_layer="stem").stem.in_channels == 4


def test_a_stem_sees_the_label_where_the_padded_image_is() -> None:
    module = Net(lambda n, x: n.a(F.pixel_unshuffle(n.b(x), 4)), b=conv(), a=nn.Conv2d(8 * 16, 3, 1))
    network = adapt(module)
    assert network.size_divisor == 4
    widen_input(network, input_layer="stem")
    nn.init.normal_(module.b.label_stem.conv.weight)
    padded = torch.zeros(1, 4, 12, 16)
    padded[..., :10, :13] = torch.randn(1, 4, 10, 13)
    torch.testing.assert_close(network(padded[..., :10, :13]).logits, network(padded).logits[..., :3, :4])


@pytest.mark.parametrize(
    ("network", "named", "message"),
    [
        (
            Net(lambda n, x: n.a(x) + n.b(x), a=conv(), b=conv()),
            "a",
            r"Net takes no image of 4 channels .*name all lay",
        ),
        (Net(lambda n, x: n.a(x), a=conv(), b=conv()), ["a", "b"], r"'b' of Net gets nothing of a channel beyond"),
        (Net(lambda n, x: n.b(n.a(x)), a=conv(3, 3), b=conv()), "b", r"Net takes no image of 4 channels"),
        (Net(lambda n, x: n.a(x[:, :3]), a=conv()), "a", r"'a' of Net gets nothing of a channel beyond the image's 3"),
        (
            Net(lambda n, x: n.b(x) + 0 * n.a(x).detach(), a=conv(), b=conv()),
            ["a", "b"],
            "'a' of Net has no influence on the output",
        ),
        (Net(checked, a=conv()), ["a"], r"pixel values don't match the configuration\); .*set input_layer: stem"),
        (Net(lambda n, x: n.a(x), a=conv()), [], None),
        (Net(lambda n, x: n.a(x), a=conv()), ["a", "c"], r"input_layer 'c' is not a Conv2d or Linear layer"),
    ],
)
def test_a_named_layer_that_gets_no_label_is_an_error(network: nn.Module, named: Any, message: str | None) -> None:
    if message is None:
        assert widen_input(network, input_layer=named).a.in_channels == 4
        return
    state = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ModelError, match=message) as caught:
        widen_input(network, input_layer=named)
    assert "\n" not in str(caught.value)
    assert {name: value.shape for name, value in network.state_dict().items()} == {n: v.shape for n, v in state.items()}
    assert not any(hasattr(module, "added_channels") for module in network.modules())
    network(torch.zeros(1, 3, 64, 64))
