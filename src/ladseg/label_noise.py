"""The Label Noising Module: a label becomes an input channel that helps but cannot be copied.

Paper section 3.2, Eq. 5: ``phi(Y) = sum_j(w_j * Y_onehot_j) + alpha * Z``. The sum over a one-hot label picks
one weight a pixel, so it is a table look-up ``W[Y]``: one pass over the pixels, whatever the number of classes.
"""

from collections.abc import Sequence
from typing import Literal, NoReturn

import torch
from torch import Generator, Tensor, nn

Generators = Generator | Sequence[Generator] | None


class LabelNoise(nn.Module):
    """Eq. 5 as a module without parameters.

    Args:
        num_classes: Number of classes C; labels hold 0..C-1 and ``ignore_index``.
        alpha: Strength of the pixel noise Z ~ N(0, 1).
        ignore_index: The label of pixels that don't count.
        scale: Factor on the whole result. The released code's is about 1.7 on normalised images.
        class_weights: ``"random"``: W ~ N(0, 1), drawn afresh per image and class. ``"fixed"``: the released code's
            ramp for distillation, -1 to 1 over the classes, equal for all images. ``"none"``: the class id itself,
            standardised to zero mean and unit variance over the ids (Table 9, right half; with ``alpha=0`` the
            clean label of Fig. 4).
        ignore: ``"class"``: ignored pixels are one more class with a weight of its own. ``"zero"``: they are 0.
    """

    def __init__(
        self,
        num_classes: int,
        alpha: float = 0.01,
        ignore_index: int = 255,
        scale: float = 1.0,
        class_weights: Literal["random", "fixed", "none"] = "random",
        ignore: Literal["class", "zero"] = "class",
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}; it must be at least 1")
        if class_weights not in ("random", "fixed", "none"):
            raise ValueError(f"class_weights is {class_weights!r}; it must be 'random', 'fixed' or 'none'")
        if ignore not in ("class", "zero"):
            raise ValueError(f"ignore is {ignore!r}; it must be 'class' or 'zero'")
        self.num_classes = num_classes
        self.alpha = alpha
        self.ignore_index = ignore_index
        self.scale = scale
        self.class_weights = class_weights
        self.ignore = ignore

    def extra_repr(self) -> str:
        return f"{self.num_classes}, alpha={self.alpha}, scale={self.scale}, class_weights={self.class_weights!r}"

    def forward(self, label: Tensor, generator: Generators = None) -> Tensor:
        """Noise a batch of labels.

        Args:
            label: ``(N, H, W)`` int64, values 0..C-1 or ``ignore_index``.
            generator: The source of W and Z on the label's device; a sequence holds one for each image, which makes
                an image's draw independent of the batch and process that it is in. None is torch's global one.

        Returns:
            ``(N, 1, H, W)`` float32.

        Raises:
            ValueError: The label's shape or type, the number of generators, or (on CPU) a label outside the classes.
        """
        if label.ndim != 3 or label.dtype != torch.int64:
            raise ValueError(f"label is {tuple(label.shape)} {label.dtype}; it must be (N, H, W) int64")
        if isinstance(generator, Sequence):
            if len(generator) != len(label):
                raise ValueError(f"{len(generator)} generators for {len(label)} images")
            draws = [self._draw(1, label, one) for one in generator]
            weights, pixel_noise = (torch.cat(parts) for parts in zip(*draws, strict=True))
        else:
            weights, pixel_noise = self._draw(len(label), label, generator)
        noised = self._look_up(weights * self.scale, label)
        if self.alpha:
            noised = noised.add_(pixel_noise, alpha=self.alpha * self.scale)
        if self.ignore == "zero":
            noised = noised.masked_fill_(label == self.ignore_index, 0.0)
        return noised.unsqueeze(1)

    def _look_up(self, weights: Tensor, label: Tensor) -> Tensor:
        """Each pixel's weight ``(N, H, W)`` of ``(N, C + 1)``, the last of which is that of ignored pixels."""
        ids, ignored = label, self.ignore_index
        if ignored < 0:
            ids, ignored = label.masked_fill(label == ignored, self.num_classes), self.num_classes
        # A column for every value that a label may have saves making a map of class ids; the others tell on themselves.
        table = weights.new_full((len(weights), max(self.num_classes, ignored) + 1), torch.nan)
        table[:, : self.num_classes] = weights[:, :-1]
        table[:, ignored] = weights[:, -1]
        try:
            noised = table.gather(1, ids.flatten(1)).view(label.shape)
        except (RuntimeError, IndexError):
            self._refuse(label)
        # On a GPU this look would wait for the device every step; there the data set's check has to do.
        if label.device.type == "cpu" and noised.sum().isnan():
            self._refuse(label)
        return noised

    def _refuse(self, label: Tensor) -> NoReturn:
        outside = (label != self.ignore_index) & ((label < 0) | (label >= self.num_classes))
        raise ValueError(
            f"label has value {int(label[outside][0])} but there are {self.num_classes} classes and "
            f"ignore_index {self.ignore_index}"
        )

    def _draw(self, images: int, label: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """W ``(images, C + 1)`` and Z ``(images, H, W)``; Z is empty for alpha 0."""
        count = self.num_classes + 1
        if self.class_weights == "random":
            weights = torch.randn(images, count, generator=generator, device=label.device)
        else:
            ids = torch.arange(count, dtype=torch.float32, device=label.device)
            if self.class_weights == "fixed":
                # (k - 11) / 10 for the 22 entries of VOC, as released; here for any number of classes.
                ramp = (ids - count / 2) / max(count / 2 - 1, 0.5)
            else:
                spread = ids[:-1].std(correction=0).clamp(min=0.5)
                ramp = (ids - ids[:-1].mean()) / spread
            weights = ramp.expand(images, -1)
        size = (images if self.alpha else 0, *label.shape[1:])
        noise = torch.randn(size, generator=generator, device=label.device)
        return weights, noise
