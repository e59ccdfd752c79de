"""What all networks have in common, and their most frequent shape: backbone, head, training-only head."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ladseg.errors import ModelError
from ladseg.models.heads import Head
from ladseg.models.heads.pspnet import PyramidPooling
from ladseg.models.sizes import trial_run
from ladseg.models.taps import Tap, deepest_map
from ladseg.outputs import SegmentationOutput

RGB = 3
TRIAL_SIDE = 128
Triple = tuple[float, float, float]


class Segmenter(nn.Module):
    """A network from image to :class:`ladseg.SegmentationOutput`; a subclass gives :meth:`segment`.

    Args:
        num_classes: Number of classes C.
        input_mean: Mean of the RGB channels, of images in 0..1, that the network expects to be subtracted.
        input_std: Standard deviation that it expects to be divided by.
        size_divisor: Height and width that it takes are multiples of this; others are padded at the right and the
            bottom with zeros, which is the mean colour, and the maps cut back.

    Attributes:
        origin: The arguments of :func:`ladseg.build_model` that build this structure again, ``name`` first.
        align_corners: How logits are upsampled, by training, evaluation, prediction and export alike; see
            :class:`ladseg.SegmentationOutput`.
        aux_align_corners: The same for training-only heads; None is the main head's.
        aux_weight: Weight of the training-only heads' loss, as the network's reference recipe has it.
        training_only: Names of the submodules that take no part in prediction.
        frozen_parts: What :meth:`freeze` has frozen.
        aux_in_eval: Whether to give the class scores of training-only heads in eval mode too, as a frozen teacher's
            distiller may ask.
    """

    align_corners = True
    aux_align_corners: bool | None = None
    aux_weight = 0.4
    aux_in_eval = False
    training_only: tuple[str, ...] = ()
    frozen_parts: tuple[str, ...] = ()

    def __init__(
        self, num_classes: int, input_mean: tuple[float, ...], input_std: tuple[float, ...], size_divisor: int = 1
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.input_mean = tuple(input_mean)
        self.input_std = tuple(input_std)
        self.size_divisor = size_divisor
        self.origin: dict[str, Any] = {"name": type(self).__name__}
        self.feature_tap: Tap | None = None

    @property
    def name(self) -> str:
        """What :func:`ladseg.build_model` builds this network from."""
        return self.origin["name"]

    @property
    def output_stride(self) -> int | None:
        """As asked of :func:`ladseg.build_model`; None is the model's own."""
        return self.origin.get("output_stride")

    @property
    def core(self) -> nn.Module:
        """The module whose weights are delivered and whose paths a user names: this one, or the adapted one."""
        return self

    @property
    def gives_aux(self) -> bool:
        """Whether training-only heads run now."""
        return self.training or self.aux_in_eval

    @property
    def in_channels(self) -> int:
        """Channels of the image it takes: 3, and those that it was widened by."""
        return RGB + max((int(getattr(module, "added_channels", 0)) for module in self.modules()), default=0)

    def freeze(self, parts: Sequence[str]) -> "Segmenter":
        """Take parts out of training, in place: their parameters need no gradient, and they stay in eval mode.

        Args:
            parts: ``"backbone"``, the module called so or ``encoder``; ``"batch_norm"``, every batch norm.

        Raises:
            ModelError: There is no such part.
        """
        for part in parts:
            modules = self._parts(part)
            if not modules:
                raise ModelError(f"schedule.freeze: {self.name} has no {part.replace('_', ' ')}; leave it out")
            for module in modules:
                module.requires_grad_(False)
        self.frozen_parts = tuple(parts)
        return self.train(self.training)

    def train(self, mode: bool = True) -> "Segmenter":
        super().train(mode)
        for part in self.frozen_parts:
            for module in self._parts(part):
                module.eval()
        return self

    def _parts(self, part: str) -> list[nn.Module]:
        if part == "batch_norm":
            return [module for module in self.modules() if isinstance(module, _BatchNorm)]
        named = dict(self.core.named_modules())
        return [module for path, module in named.items() if path.split(".")[-1] in ("backbone", "encoder")][:1]

    def tap(self, path: str) -> "Segmenter":
        """Let ``features["backbone"]`` be the output of the module at ``path`` of :attr:`core`.

        Raises:
            ModelError: There is no such module (the nearest paths are named), or it gives no feature map.
        """
        self.feature_tap = Tap(self.core, path)
        self.trial_output()
        return self

    def deepest_map(self) -> str | None:
        """Return a path for :meth:`tap`: the module of :attr:`core` that gives the deepest feature map, if any does."""
        return deepest_map(self.core, self.trial_output)

    def upsample_with(self, align_corners: bool) -> "Segmenter":
        """Set how logits, and averages inside a head of ours, are upsampled; in place."""
        self.align_corners = align_corners
        for module in self.modules():
            if isinstance(module, PyramidPooling):
                module.align_corners = align_corners
        return self

    def trial_output(self) -> SegmentationOutput:
        """What it gives for one empty image, in eval mode and where its weights are: for the shapes of it."""
        with trial_run(self):
            output: SegmentationOutput = self(
                next(self.parameters()).new_zeros(1, self.in_channels, TRIAL_SIDE, TRIAL_SIDE)
            )
        return output

    def own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A file's tensors under the names of :attr:`core`, where those depend on the library that it comes from."""
        return state

    def prepare(self) -> "Segmenter":
        """The network as it is trained: adapters (LoRA), where it is trained through such, are added; in place."""
        return self

    def merge(self) -> "Segmenter":
        """The network as it is delivered: what :meth:`prepare` added becomes part of the weights; in place."""
        return self

    def is_training_only(self, parameter: str) -> bool:
        """Whether the parameter or buffer of this name takes no part in prediction."""
        return parameter.split(".")[0] in self.training_only

    def deployed_parameters(self) -> int:
        """Number of parameters in use when the network predicts."""
        return sum(value.numel() for name, value in self.named_parameters() if not self.is_training_only(name))

    def segment(self, image: Tensor) -> SegmentationOutput:
        """``(N, in_channels, H, W)``, sides multiples of ``size_divisor``, to the outputs."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> SegmentationOutput:
        """``(N, in_channels, H, W)``, normalised, to logits at the network's stride."""
        height, width = image.shape[-2:]
        below, right = -height % self.size_divisor, -width % self.size_divisor
        output = self.segment(F.pad(image, (0, right, 0, below)) if below or right else image)
        aux_align_corners = self.align_corners if self.aux_align_corners is None else self.aux_align_corners
        output = replace(output, align_corners=self.align_corners, aux_align_corners=aux_align_corners)
        if self.feature_tap is not None:
            output = replace(output, features=output.features | {"backbone": self.feature_tap.take()})
        if not (below or right):
            return output
        return output.map(lambda x: _cut(x, (height, width), (height + below, width + right)))


class EncoderDecoder(Segmenter):
    """A backbone's last feature map through a head.

    Args:
        backbone: Image to a list of feature maps, last one deepest.
        head: On the last map.
        aux_head: On the second-last map, where :attr:`gives_aux`; None for none.
        num_classes: This and the rest as for :class:`Segmenter`.
        input_mean: See there.
        input_std: See there.
        size_divisor: See there.
    """

    training_only = ("aux_head",)

    def __init__(
        self,
        backbone: nn.Module,
        head: Head,
        aux_head: Head | None,
        num_classes: int,
        input_mean: tuple[float, ...],
        input_std: tuple[float, ...],
        size_divisor: int = 1,
    ) -> None:
        super().__init__(num_classes, input_mean, input_std, size_divisor)
        self.backbone = backbone
        self.head = head
        self.aux_head = aux_head

    def segment(self, image: Tensor) -> SegmentationOutput:
        maps = self.backbone(image)
        features, logits = self.head(maps[-1])
        aux = (self.aux_head(maps[-2])[1],) if self.gives_aux and self.aux_head is not None else ()
        return SegmentationOutput(logits, {"backbone": maps[-1], "head": features}, aux)


def _cut(x: Tensor, size: tuple[int, int], padded: tuple[int, int]) -> Tensor:
    """The part of a map of the padded image that shows the image, rounded up to whole positions."""
    height, width = (shown(side, full, whole) for side, full, whole in zip(size, x.shape[-2:], padded, strict=True))
    return x[..., :height, :width]


def shown(side: int, positions: int, padded: int) -> int:
    """How many of a map's positions over ``padded`` pixels show the first ``side`` of them, rounded up."""
    # An exported network computes this from its image's size. Torch can reason about whole strides only, and it writes
    # floor division to ONNX as one that rounds towards zero: so not -(-a // b).
    if padded % positions == 0:
        stride = padded // positions
        return (side + stride - 1) // stride
    return (side * positions + padded - 1) // padded
