"""Predict with a delivered network: ``ladseg.load("student.safetensors").predict("image.jpg")``."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ladseg.data.bands import as_bands, bands_of
from ladseg.data.read import read_image, to_rgb
from ladseg.data.spec import Ranges
from ladseg.deploy.hub import CardFacts, push, save_folder, weights_file
from ladseg.deploy.student_file import load_student
from ladseg.deploy.student_header import StudentHeader
from ladseg.evaluation import WHOLE, Inference, class_ids, probabilities
from ladseg.models import Segmenter
from ladseg.outputs import SegmentationOutput
from ladseg.resize import resize_logits

RGB = 3
# The accepted types of images.
Picture = str | Path | Image.Image | np.ndarray | Tensor


class Student(nn.Module):
    """A delivered network with its normalisation and classes, ready to predict.

    Args:
        network: The network, from :func:`ladseg.deploy.load_student`.
        header: The metadata of its file, from the same function.

    Attributes:
        class_names: Class names in the order of the class ids.
        colors: One RGB colour per class, 0..255.
        value_range: The values of 16-bit images that become 0 and 255, for all channels or for each; None for all 16
            bits.
        header: The metadata: ``model``, ``mean`` and ``std`` of images in 0..1, and the training ``data``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Segmenter, header: StudentHeader) -> None:
        super().__init__()
        self.network = network
        self.header = header
        self.class_names = list(header.data.class_names)
        self.colors = list(header.data.colors)
        self.value_range = header.data.value_range
        for name, values in (("mean", header.mean), ("std", header.std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.mean.device

    def forward(self, image: Tensor) -> Tensor:
        """Map an image ``(N, C, H, W)`` in 0..1, RGB as a rule, to logits ``(N, C, H, W)``."""
        output = self.segment(image)
        return resize_logits(output.logits, (image.shape[-2], image.shape[-1]), output.align_corners)

    def normalized(self, image: Tensor) -> Tensor:
        """Normalise an image ``(N, C, H, W)`` in 0..1 as the network expects it."""
        normal = (image.to(self.device) - self.mean) / self.std
        return normal.contiguous(memory_format=torch.channels_last)

    def predict(self, image: Picture, how: Inference = WHOLE) -> Tensor:
        """Predict the class of every pixel.

        Args:
            image: A file's path, a Pillow image of any mode, an array ``(H, W, 3)`` or ``(H, W)``, or a tensor
                ``(3, H, W)`` or ``(N, 3, H, W)``. Arrays and tensors are RGB, either uint8 or floating point in 0..1.
                Files and Pillow images are rotated upright by their EXIF orientation. A network of other than three
                channels takes as many in place of 3.
            how: How to predict.

        Returns:
            Class ids ``(H, W)`` int64 on the CPU; ``(N, H, W)`` for a batch.

        Raises:
            FileError: The file can't be read.
            ValueError: An array or tensor has another shape, type or range.
        """
        batch, single = _batch(image, self.value_range, self.header.channels)
        ids = class_ids(self.segment, batch, how).cpu().long()
        return ids[0] if single else ids

    def probabilities(self, image: Picture, how: Inference = WHOLE) -> Tensor:
        """Predict the probability of each class at every pixel, ``(C, H, W)`` or ``(N, C, H, W)`` float32 on the CPU.

        Arguments and errors are those of :meth:`predict`.
        """
        batch, single = _batch(image, self.value_range, self.header.channels)
        shares = probabilities(self.segment, batch, how).cpu()
        return shares[0] if single else shares

    def segment(self, image: Tensor) -> SegmentationOutput:
        """Map an image ``(N, C, H, W)`` in 0..1 to the network's output, with logits at its own stride."""
        output: SegmentationOutput = self.network(self.normalized(image))
        return output

    def save_pretrained(
        self,
        folder: str | Path,
        figures: Mapping[str, float] | None = None,
        license: str | None = None,
        dataset: str | None = None,
    ) -> None:
        """Write a folder that :func:`ladseg.load` reads: ``student.safetensors`` and a model card, ``README.md``.

        The path of the data set is left out of the file.

        Args:
            folder: The folder.
            figures: Measured figures by name, for the card, such as ``{"mIoU % on val": 71.2}``.
            license: The Hub's name of a licence, such as ``apache-2.0``.
            dataset: Name of the training data set, for the card.

        Raises:
            UserError: The folder can't be written.
        """
        save_folder(self.network, self.header, Path(folder), CardFacts(figures, license, dataset))

    def push_to_hub(
        self,
        repository: str,
        figures: Mapping[str, float] | None = None,
        license: str | None = None,
        dataset: str | None = None,
        private: bool = True,
        token: str | None = None,
    ) -> str:
        """Upload the files of :meth:`save_pretrained` to the Hugging Face Hub.

        Args:
            repository: ``org/name``; it is created if missing.
            figures: As for :meth:`save_pretrained`.
            license: As for :meth:`save_pretrained`.
            dataset: As for :meth:`save_pretrained`.
            private: Whether a new repository is private.
            token: Token of the Hub; None takes that of ``hf auth login``.

        Returns:
            The address of the commit.

        Raises:
            ModelError: The Hub refuses, or can't be reached.
        """
        facts = CardFacts(figures, license, dataset)
        return push(self.network, self.header, repository, facts, private, token)


def load(weights: str | Path, model: str | None = None, device: torch.device | str | None = None) -> Student:
    """Load a delivered network, ready to predict.

    Args:
        weights: The ``student.safetensors`` of a run; a folder that holds it, such as a run's; or ``org/name`` on the
            Hugging Face Hub, if there is no such path.
        model: The name ``package.module:Class`` of a network in your own code, which runs only if you name it here.
        device: Where to predict; None takes a GPU if there is one.

    Raises:
        ModelError: The file is missing or not written by ladseg, its network's code was not named, or the Hub can't be
            reached.
    """
    network, header = load_student(weights_file(weights), model)
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    student: Student = Student(network, header).to(chosen, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return student.eval()


def _batch(image: Picture, value_range: Ranges | None, channels: int) -> tuple[Tensor, bool]:
    """Return ``(N, C, H, W)`` uint8, or float32 in 0..1, and whether the input was a single image."""
    if isinstance(image, str | Path):
        return read_image(Path(image), value_range, channels)[None], True
    if isinstance(image, Image.Image):
        pixels = np.array(to_rgb(image, value_range=value_range)) if channels == RGB else bands_of(image, channels)
        return _of_channels(as_bands(pixels), channels)[None], True
    if isinstance(image, np.ndarray):
        array = np.stack([image] * RGB, axis=-1) if image.ndim == 2 and channels == RGB else image
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != channels):
            raise ValueError(f"an array of shape {image.shape}; expected (H, W, {channels}) or (H, W)")
        return _checked(_of_channels(as_bands(array), channels)[None]), True
    if not isinstance(image, Tensor):
        raise ValueError(f"a {type(image).__name__}; expected a path, a Pillow image, an array or a tensor")
    if image.ndim not in (3, 4) or image.shape[-3] != channels:
        raise ValueError(
            f"a tensor of shape {tuple(image.shape)}; expected ({channels}, H, W) or (N, {channels}, H, W)"
        )
    return _checked(image if image.ndim == 4 else image[None]), image.ndim == 3


def _of_channels(image: Tensor, channels: int) -> Tensor:
    if len(image) != channels:
        raise ValueError(f"an image of {len(image)} channels; the network takes {channels}")
    return image


def _checked(image: Tensor) -> Tensor:
    if image.dtype == torch.uint8:
        return image
    if not image.is_floating_point():
        raise ValueError(f"values of type {image.dtype}; expected uint8, or floating-point in 0..1")
    low, high = image.aminmax()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"values of {float(low):.4g}..{float(high):.4g}; expected 0..1, or uint8")
    return image.float()
