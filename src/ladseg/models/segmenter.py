"""The base class of all networks, and the usual structure of a backbone, a head and a training-only head."""

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
    """A network that maps an image to a :class:`ladseg.SegmentationOutput`; subclasses define :meth:`segment`.

    Args:
        num_classes: Number of classes C.
        input_mean: Mean of the RGB channels, of images in 0..1, that is subtracted from the input beforehand.
        input_std: Standard deviation that the input is divided by beforehand.
        size_divisor: The network's height and width must be multiples of this. Other images are padded at the right
            and the bottom with zeros, the mean colour, and the maps are cropped.

    Attributes:
        origin: The arguments of :func:`ladseg.build_model` that build this structure again, ``name`` first.
        align_corners: How training, evaluation, prediction and export upsample the logits; see
            :class:`ladseg.SegmentationOutput`.
        aux_align_corners: The same for training-only heads; None means as for the main head.
        aux_weight: Weight of the training-only heads' loss in the network's reference recipe.
        training_only: Names of the submodules that take no part in prediction.
        frozen_parts: The parts that :meth:`freeze` has frozen.
        is_finished: Whether it started from a file with all weights that predict, classifier included.
        aux_in_eval: Whether training-only heads run in eval mode too, as a distiller may need of a frozen teacher.
    """

    align_corners = True
    aux_align_corners: bool | None = None
    aux_weight = 0.4
    is_finished = False
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
        """The name from which :func:`ladseg.build_model` builds this network."""
        return self.origin["name"]

    @property
    def output_stride(self) -> int | None:
        """The output stride that :func:`ladseg.build_model` was given; None means the model's own."""
        return self.origin.get("output_stride")

    @property
    def core(self) -> nn.Module:
        """The module whose weights are delivered and whose paths a user names: this one, or the one it wraps."""
        return self

    @property
    def gives_aux(self) -> bool:
        """Whether training-only heads run now."""
        return self.training or self.aux_in_eval

    @property
    def in_channels(self) -> int:
        """Number of image channels that it takes: 3, and those by which it was widened."""
        return RGB + max(
            (int(module.added_channels) for module in self.modules() if hasattr(module, "added_channels")),  # type: ignore[arg-type]
            default=0,
        )

    def freeze(self, parts: Sequence[str]) -> "Segmenter":
        """Exclude parts from training, in place: their parameters get no gradient, and they stay in eval mode.

        Args:
            parts: ``"backbone"`` for the module with the name ``backbone`` or ``encoder``, and ``"batch_norm"`` for
                every batch norm.

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
        """Make the output of the module at ``path`` of :attr:`core` the feature map ``features["backbone"]``.

        Raises:
            ModelError: There is no such module (the message names the nearest paths), or it gives no feature map.
        """
        self.feature_tap = Tap(self.core, path)
        self.trial_output()
        return self

    def deepest_map(self) -> str | None:
        """Return the path of the module of :attr:`core` with the deepest feature map, for :meth:`tap`; None without."""
        return deepest_map(self.core, self.trial_output)

    def upsample_with(self, align_corners: bool) -> "Segmenter":
        """Set ``align_corners`` for the logits and for upsampling inside ladseg's own heads, in place."""
        self.align_corners = align_corners
        for module in self.modules():
            if isinstance(module, PyramidPooling):
                module.align_corners = align_corners
        return self

    def trial_output(self) -> SegmentationOutput:
        """Return the output for one image of zeros, in eval mode on the weights' device, for its shapes."""
        with trial_run(self):
            output: SegmentationOutput = self(
                next(self.parameters()).new_zeros(1, self.in_channels, TRIAL_SIDE, TRIAL_SIDE)
            )
        return output

    def own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a file's tensors under the names of :attr:`core`, if these depend on a library's version."""
        return state

    def prepare(self) -> "Segmenter":
        """Add what training needs, such as LoRA adapters, in place; most networks need nothing."""
        return self

    def merge(self) -> "Segmenter":
        """Merge what :meth:`prepare` added into the weights, in place, as the network is delivered."""
        return self

    def is_training_only(self, parameter: str) -> bool:
        """Return whether the parameter or buffer of this name takes no part in prediction."""
        return parameter.split(".")[0] in self.training_only

    def deployed_parameters(self) -> int:
        """Return the number of parameters that prediction uses."""
        return sum(value.numel() for name, value in self.named_parameters() if not self.is_training_only(name))

    def segment(self, image: Tensor) -> SegmentationOutput:
        """Map an image ``(N, in_channels, H, W)`` whose sides are multiples of ``size_divisor`` to the outputs."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> SegmentationOutput:
        """Map a normalised image ``(N, in_channels, H, W)`` to the outputs, with logits at the network's stride."""
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
    """Applies a head to a backbone's last feature map.

    Args:
        backbone: Maps an image to a list of feature maps, the deepest last.
        head: The head on the last map.
        aux_head: The training-only head on the second-last map; None for none.
        num_classes: As for :class:`Segmenter`.
        input_mean: As for :class:`Segmenter`.
        input_std: As for :class:`Segmenter`.
        size_divisor: As for :class:`Segmenter`.
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
    """Crop a map of the padded image to the positions that show the image, rounded up."""
    height, width = (shown(side, full, whole) for side, full, whole in zip(size, x.shape[-2:], padded, strict=True))
    return x[..., :height, :width]


def shown(side: int, positions: int, padded: int) -> int:
    """Return how many of the positions over ``padded`` pixels show the first ``side`` pixels, rounded up."""
    # An exported network computes this from its image's size. torch can reason about integer strides only, and exports
    # floor division to ONNX as one that rounds towards zero, so -(-a // b) would be wrong.
    if padded % positions == 0:
        stride = padded // positions
        return (side + stride - 1) // stride
    return (side * positions + padded - 1) // padded
