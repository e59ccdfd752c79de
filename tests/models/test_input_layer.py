"""Widening keeps what is there and adds what was asked for."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

from ladseg import build_model, widen_input
from ladseg.errors import ModelError
from ladseg.models import input_normalization

NETWORKS = {
    "segmenter": lambda: build_model("pspnet@test_resnet", 3),
    "lraspp": lambda: torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None),
    "sequential": lambda: nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, bias=True), nn.ReLU(), nn.Conv2d(5, 3, 1)),
    "patch embedding": lambda: timm.create_model("test_vit", num_classes=3),
    "same padding": lambda: timm.create_model("tf_efficientnet_lite0", num_classes=3),
}


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
    widen_input(network, input_layer="1")
    assert [layer.in_channels for layer in network] == [3, 4]


def test_what_was_looked_for_is_said() -> None:
    with pytest.raises(ModelError, match="no input layer found in Sequential: no Conv2d has 3 input channels"):
        widen_input(nn.Sequential(nn.Conv2d(1, 2, 3)))
    with pytest.raises(
        ModelError, match=r"input_layer 'stem' is no Conv2d or Linear layer of Sequential; the first are: 0"
    ):
        widen_input(nn.Sequential(nn.Conv2d(3, 2, 3)), input_layer="stem")


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
        widen_input(nn.Sequential(stem))


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
