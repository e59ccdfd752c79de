"""The built-in data set: small stylised landscapes in which colour alone does not determine the class.

Water has the sky's colours and differs by context and ripples; brick and plank walls share colours and differ by
texture; discs, boxes and triangles share colours and differ by shape. The dark hood at the bottom, like that of a car
that carries the camera, is void.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image
from rich.progress import track

from ladseg.errors import UserError
from ladseg.files import make_folder, write_text

CLASSES = ("sky", "ground", "water", "bricks", "planks", "disc", "box", "triangle", "pole")
VOID = len(CLASSES)
# Scenes are drawn at twice the size and averaged down, so that edges are smooth.
OVERSAMPLING = 2

Array = np.ndarray


def write_demo_scenes(
    root: Path | str, train: int = 320, val: int = 80, size: tuple[int, int] = (96, 128), seed: int = 0
) -> None:
    """Write the scenes as a data set of the layout ``folder``; the files are byte for byte the same every time.

    classes.txt is written last. If it exists, the scenes are complete and nothing is written.

    Args:
        root: Folder for images/{train,val}/NNNN.png, masks/{train,val}/NNNN.png and classes.txt. Mask value 9 is void.
        train: Number of training scenes.
        val: Number of validation scenes.
        size: Height and width in pixels.
        seed: Seed of the scenes. A scene depends on it, its split, its number and its size alone.
    """
    root = Path(root)
    if (root / "classes.txt").exists():
        return
    scenes = [(split, number) for split, count in (("train", train), ("val", val)) for number in range(count)]
    for split, number in track(scenes, f"drawing {len(scenes)} scenes"):
        pixels = draw_scene(size, (seed, ("train", "val").index(split), number))
        for kind, values in zip(("images", "masks"), pixels, strict=True):
            folder = root / kind / split
            make_folder(folder)
            try:
                Image.fromarray(values).save(folder / f"{number:04d}.png")
            except OSError as error:
                raise UserError(f"{folder}: can't be written to ({error.strerror}); write to another place") from None
    write_text(root / "classes.txt", "".join(f"{name}\n" for name in CLASSES))


def draw_scene(size: tuple[int, int], seed: tuple[int, ...]) -> tuple[Array, Array]:
    """Draw one scene.

    Args:
        size: Height and width in pixels.
        seed: Any integers that identify the scene.

    Returns:
        The image, ``(H, W, 3)`` uint8, and its mask, ``(H, W)`` uint8.
    """
    scene = Scene(size, np.random.default_rng(seed))
    scene.draw_backdrop()
    for _ in range(scene.rng.integers(1, 3)):
        scene.draw_wall()
    for _ in range(scene.rng.integers(1, 3)):
        scene.draw_pole()
    for _ in range(scene.rng.integers(2, 5)):
        scene.draw_object()
    scene.draw_hood()
    return scene.photograph(), np.ascontiguousarray(scene.mask[::OVERSAMPLING, ::OVERSAMPLING])


class Scene:
    """A canvas ``(h, w, 3)`` of colours in 0..1 and its mask ``(h, w)``, both at the oversampled size."""

    def __init__(self, size: tuple[int, int], rng: Generator) -> None:
        self.rng = rng
        self.height, self.width = size[0] * OVERSAMPLING, size[1] * OVERSAMPLING
        self.y, self.x = np.mgrid[0 : self.height, 0 : self.width].astype(np.float32)
        self.image = np.zeros((self.height, self.width, 3), dtype=np.float32)
        self.mask = np.zeros((self.height, self.width), dtype=np.uint8)
        self.horizon = self.height * rng.uniform(0.3, 0.5)

    def draw_backdrop(self) -> None:
        """Draw sky above ground, three times out of four with water."""
        rng = self.rng
        depth = (self.y / self.height)[..., None]
        sky = rng.uniform([0.35, 0.45, 0.6], [0.75, 0.75, 0.95])
        haze = np.clip(sky + rng.uniform(0.0, 0.25), 0, 1)
        clouds = smooth_noise(rng, self.mask.shape, 24)[..., None] * rng.uniform(0.02, 0.12)
        above = sky + (haze - sky) * (self.y / self.horizon)[..., None] + clouds
        self._paint(self.y < self.horizon, "sky", above)
        soil = rng.uniform([0.25, 0.28, 0.12], [0.6, 0.58, 0.45])
        grain = (
            0.05 * rng.standard_normal(self.mask.shape, dtype=np.float32)[..., None]
            + smooth_noise(rng, self.mask.shape, 10)[..., None] * 0.05
        )
        self._paint(self.y >= self.horizon, "ground", soil * (0.8 + 0.4 * depth) + grain)
        if rng.random() < 0.75:
            self._draw_water(sky, haze)

    def _draw_water(self, sky: Array, haze: Array) -> None:
        rng = self.rng
        below = self.height - self.horizon
        center = self.horizon + below * rng.uniform(0.1, 0.6), self.width * rng.uniform(0, 1)
        radii = below * rng.uniform(0.15, 0.4), self.width * rng.uniform(0.25, 0.7)
        shore = 0.25 * smooth_noise(rng, self.mask.shape, 16)
        distance = ((self.y - center[0]) / radii[0]) ** 2 + ((self.x - center[1]) / radii[1]) ** 2
        lake = (distance + shore < 1) & (self.y >= self.horizon)
        wobble = 3 * smooth_noise(rng, self.mask.shape, 20)
        ripples = np.sin(self.y * rng.uniform(0.7, 1.2) + wobble)[..., None] * rng.uniform(0.02, 0.06)
        mix = rng.uniform(0, 1)
        self._paint(lake, "water", sky * mix + haze * (1 - mix) + ripples)

    def draw_wall(self) -> None:
        """Draw a wall of bricks or of planks; both have the same ranges of colours and sizes."""
        rng = self.rng
        width, height = self.width * rng.uniform(0.2, 0.45), self.height * rng.uniform(0.25, 0.45)
        left = self.width * rng.uniform(-0.1, 0.9)
        bottom = self.horizon + (self.height - self.horizon) * rng.uniform(0.05, 0.5)
        area = (self.x >= left) & (self.x < left + width) & (self.y >= bottom - height) & (self.y < bottom)
        kind = "bricks" if rng.random() < 0.5 else "planks"
        pitch = rng.uniform(7, 11)
        y, x = self.y - bottom, self.x - left
        if kind == "bricks":
            row = np.floor(y / pitch)
            seams = (y % pitch < 1.6) | ((x + (row % 2) * pitch) % (2 * pitch) < 1.6)
            tone = cell_noise(rng, row, np.floor((x + (row % 2) * pitch) / (2 * pitch)))
        else:
            seams = x % pitch < 1.6
            tone = cell_noise(rng, np.zeros_like(y), np.floor(x / pitch))
        base = rng.uniform([0.35, 0.25, 0.2], [0.75, 0.6, 0.55])
        colors = base * (1 + 0.12 * tone[..., None]) * np.where(seams, rng.uniform(0.55, 0.75), 1.0)[..., None]
        self._paint(area, kind, colors)

    def draw_pole(self) -> None:
        """Draw a thin upright pole from the ground into the sky."""
        rng = self.rng
        foot = self.horizon + (self.height - self.horizon) * rng.uniform(0.15, 0.6)
        top = self.horizon * rng.uniform(0.05, 0.5)
        center, half = self.width * rng.uniform(0.05, 0.95), rng.uniform(3.0, 4.5)
        area = (np.abs(self.x - center) < half) & (self.y > top) & (self.y < foot)
        shade = 0.75 + 0.25 * np.cos((self.x - center) / half * 1.4)
        self._paint(area, "pole", rng.uniform(0.15, 0.75) * shade[..., None] * np.ones(3))

    def draw_object(self) -> None:
        """Draw a disc, box or triangle of any colour on the ground, rotated at random."""
        rng = self.rng
        bottom = self.horizon + (self.height - self.horizon) * rng.uniform(0.2, 0.9)
        radius = 15 + 26 * (bottom - self.horizon) / (self.height - self.horizon) * rng.uniform(0.7, 1.1)
        center_y, center_x = bottom - radius, self.width * rng.uniform(0.05, 0.95)
        turn = rng.uniform(0, 2 * np.pi)
        u = ((self.x - center_x) * np.cos(turn) + (self.y - center_y) * np.sin(turn)) / radius
        v = (-(self.x - center_x) * np.sin(turn) + (self.y - center_y) * np.cos(turn)) / radius
        kind = ("disc", "box", "triangle")[rng.integers(3)]
        area = SHAPES[kind](u, v)
        light = 1.0 - 0.25 * (self.y - center_y) / radius
        stripes = 0.12 * np.sin(6 * u) if rng.random() < 0.3 else 0.0
        colors = rng.uniform(0.1, 0.9, 3) * (light + stripes)[..., None]
        shadow = ((self.x - center_x) / radius) ** 2 + ((self.y - bottom) / (0.25 * radius)) ** 2 < 1
        self.image[shadow] *= 0.7
        self._paint(area, kind, colors)

    def draw_hood(self) -> None:
        """Draw the hood of the camera's own car, which is void."""
        rng = self.rng
        rise = self.height * rng.uniform(0.04, 0.1)
        bow = rise * (1 - ((self.x - self.width * rng.uniform(0.4, 0.6)) / (0.7 * self.width)) ** 2)
        area = self.y > self.height - bow
        self.image[area] = rng.uniform(0.05, 0.25)
        self.mask[area] = VOID

    def photograph(self) -> Array:
        """Vary the lighting, average down and add sensor noise; return ``(H, W, 3)`` uint8 at the final size."""
        rng = self.rng
        image = self.image * rng.uniform(0.65, 1.1) * rng.uniform(0.88, 1.12, 3)
        image = image * (1 + 0.15 * smooth_noise(rng, self.mask.shape, 60))[..., None]
        small = image.reshape(self.height // 2, 2, self.width // 2, 2, 3).mean((1, 3))
        noisy = small + rng.uniform(0.015, 0.04) * rng.standard_normal(small.shape, dtype=np.float32)
        return (np.clip(noisy, 0, 1) * 255).round().astype(np.uint8)

    def _paint(self, area: Array, name: str, colors: Array) -> None:
        self.image[area] = np.broadcast_to(colors, self.image.shape)[area]
        self.mask[area] = CLASSES.index(name)


SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "disc": lambda u, v: u**2 + v**2 < 0.85,
    "box": lambda u, v: np.maximum(np.abs(u), np.abs(v)) < 0.75,
    "triangle": lambda u, v: (v < 0.55) & (v > 1.75 * np.abs(u) - 1.05),
}


def smooth_noise(rng: Generator, shape: tuple[int, int], cell: int) -> Array:
    """Draw normal noise on a grid of ``cell`` pixels and interpolate it smoothly to ``shape``."""
    rows, columns = shape[0] // cell + 3, shape[1] // cell + 3
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    y, x = (np.arange(length, dtype=np.float32) / cell for length in shape)
    top, left = y.astype(int), x.astype(int)
    fy, fx = (y - top)[:, None], (x - left)[None]
    fy, fx = fy * fy * (3 - 2 * fy), fx * fx * (3 - 2 * fx)
    upper = grid[np.ix_(top, left)] * (1 - fx) + grid[np.ix_(top, left + 1)] * fx
    lower = grid[np.ix_(top + 1, left)] * (1 - fx) + grid[np.ix_(top + 1, left + 1)] * fx
    return upper * (1 - fy) + lower * fy


def cell_noise(rng: Generator, row: Array, column: Array) -> Array:
    """Draw one value in -1..1 for each cell of a grid and look it up by the cell's row and column."""
    values = rng.uniform(-1, 1, (64, 64)).astype(np.float32)
    return values[row.astype(int) % 64, column.astype(int) % 64]
