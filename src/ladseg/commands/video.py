"""Read and write the frames of a video with PyAV."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ladseg.errors import FileError, ModelError, first_words

DEFAULT_RATE = Fraction(25)


@contextmanager
def open_video(path: Path) -> Iterator[tuple[Iterator[np.ndarray], Fraction, int]]:
    """Open the first video stream.

    Yields:
        An iterator over frames ``(H, W, 3)`` uint8 RGB, the frame rate in 1/s, and the estimated number of frames.

    Raises:
        FileError: The file is not a readable video, or is truncated.
        ModelError: PyAV is not installed.
    """
    av = _av()
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            frames = (frame.to_ndarray(format="rgb24") for frame in container.decode(stream))
            yield frames, stream.average_rate or DEFAULT_RATE, stream.frames
    except (av.error.FFmpegError, IndexError) as error:
        what = f"can't be read as a video ({first_words(error)})"
        raise FileError(path, what, "convert or remove it") from None


class VideoWriter:
    """Writes an MP4 file frame by frame; odd heights and widths are cropped by one pixel, as the format requires.

    Args:
        path: The file.
        rate: Frames per second.
        size: Height and width of the frames.
    """

    def __init__(self, path: Path, rate: Fraction, size: tuple[int, int]) -> None:
        self.av = _av()
        self.container = self.av.open(str(path), "w", format="mp4")
        codec = "libx264" if "libx264" in self.av.codecs_available else "mpeg4"
        self.stream: Any = self.container.add_stream(codec, rate=rate)
        self.height, self.width = (side // 2 * 2 for side in size)
        self.stream.height, self.stream.width, self.stream.pix_fmt = self.height, self.width, "yuv420p"

    def write(self, pixels: np.ndarray) -> None:
        """Append a frame ``(H, W, 3)`` uint8."""
        inside = np.ascontiguousarray(pixels[: self.height, : self.width])
        self.container.mux(self.stream.encode(self.av.VideoFrame.from_ndarray(inside, format="rgb24")))

    def close(self) -> None:
        """Flush the encoder and finish the file."""
        self.container.mux(self.stream.encode())
        self.container.close()


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise ModelError("videos need PyAV, which is not installed: pip install 'ladseg[video]'") from None
    return av
