"""The Label Noising Module, which turns a label into an input channel that helps a network but cannot be copied.

Paper section 3.2, Eq. 5: ``phi(Y) = sum_j(w_j * Y_onehot_j) + alpha * Z``. The sum over a one-hot label picks one
weight for each pixel, so it is a table lookup ``W[Y]``, whose cost does not grow with the number of classes.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor, nn

Generators = Generator | Sequence[Generator] | None


class LabelNoise(nn.Module):
    """Apply Eq. 5; the module has no parameters.

    Args:
        num_classes: Number of classes C; labels hold 0..C-1 and ``ignore_index``.
        alpha: Strength of the pixel noise Z ~ N(0, 1).
        ignore_index: Label of ignored pixels.
        scale: Factor on the whole result. In the released code it is about 1.7 relative to normalised images.
        class_weights: How W is chosen. ``"random"`` draws W ~ N(0, 1) anew for each image and class. ``"fixed"`` takes
            the ramp from -1 to 1 over the classes that the released code uses in distillation. ``"none"`` takes the
            class id, standardised to zero mean and unit variance over the ids (Table 9, right half; with ``alpha=0``
            the clean label of Fig. 4).
        ignore: What ignored pixels become: ``"class"``, one more class with its own weight, or ``"zero"``, 0.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        num_classes: int,
        alpha: float = 0.01,
        ignore_index: int = 255,
        scale: float = 1.0,
        class_weights: Literal["random", "fixed", "none"] = "fixed",
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
            generator: Source of W and Z on the label's device; None is torch's global one. A sequence holds one for
                each image, so that an image's noise does not depend on the batch and the process that it is in.

        Returns:
            ``(N, 1, H, W)`` float32.

        Raises:
            ValueError: The label has the wrong shape or type or (checked on the CPU only) a value outside the classes,
                or the number of generators is wrong.
        """
        if label.ndim != 3 or label.dtype != torch.int64:
            raise ValueError(f"label is {tuple(label.shape)} {label.dtype}; it must be (N, H, W) int64")
        ignored = label == self.ignore_index
        if label.device.type == "cpu":  # on a GPU the check would make the host wait in each step
            self._check_classes(label, ignored)
        ids = label.masked_fill(ignored, self.num_classes)
        weights, pixel_noise = self._draw(label, generator)
        noised = weights.gather(1, ids.flatten(1)).view_as(ids)
        if self.alpha:
            noised += pixel_noise.mul_(self.alpha)
        if self.ignore == "zero":
            noised.masked_fill_(ignored, 0.0)
        return noised.mul_(self.scale).unsqueeze(1)

    def of_no_label(self, label: Tensor, generator: Generators = None) -> Tensor:
        """Return a placebo: noise of the mean and deviation that the classes' weights have, and nothing of the label.

        Args:
            label: Gives the shape and the device.
            generator: As for :meth:`forward`.
        """
        if isinstance(generator, Sequence):
            draws = [torch.randn(label.shape[1:], generator=one, device=label.device) for one in generator]
            noise = torch.stack(draws)
        else:
            noise = torch.randn(label.shape, generator=generator, device=label.device)
        mean, deviation = 0.0, 1.0
        if self.class_weights != "random":
            weights = self._constant_weights(torch.device("cpu"))[:-1]
            mean, deviation = weights.mean().item(), weights.std(correction=0).item()
        return (noise.mul_((deviation**2 + self.alpha**2) ** 0.5) + mean).mul_(self.scale).unsqueeze(1)

    def _check_classes(self, label: Tensor, ignored: Tensor) -> None:
        outside = ~ignored & ((label < 0) | (label >= self.num_classes))
        if outside.any():
            raise ValueError(
                f"label has value {int(label[outside][0])} but there are {self.num_classes} classes and "
                f"ignore_index {self.ignore_index}"
            )

    def _draw(self, label: Tensor, generator: Generators) -> tuple[Tensor, Tensor]:
        """Return W ``(N, C + 1)``, whose last column is for ignored pixels, and Z ``(N, H, W)``."""
        if not isinstance(generator, Sequence):
            return self._draw_images(label, generator)
        if len(generator) != len(label):
            raise ValueError(f"{len(generator)} generators for {len(label)} images")
        draws = [self._draw_images(label[n : n + 1], one) for n, one in enumerate(generator)]
        weights, pixel_noise = zip(*draws, strict=True)
        return torch.cat(weights), torch.cat(pixel_noise)

    def _draw_images(self, label: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """Draw W and Z from one generator, in this order; if alpha is 0, Z is empty and not drawn."""
        size = (len(label), self.num_classes + 1)
        if self.class_weights == "random":
            weights = torch.randn(size, generator=generator, device=label.device)
        else:
            weights = self._constant_weights(label.device).expand(size)
        pixels = label.shape if self.alpha else (0, *label.shape[1:])
        return weights, torch.randn(pixels, generator=generator, device=label.device)

    def _constant_weights(self, device: torch.device) -> Tensor:
        """Return the weights ``(C + 1,)`` that are not drawn."""
        ids = torch.arange(self.num_classes + 1, dtype=torch.float32, device=device)
        if self.class_weights == "fixed":
            # The released code has (k - 11) / 10 for VOC's 22 entries; this generalises it to any number.
            return (ids - len(ids) / 2) / max(len(ids) / 2 - 1, 0.5)
        return (ids - ids[:-1].mean()) / ids[:-1].std(correction=0).clamp(min=0.5)
