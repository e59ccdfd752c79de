"""The findings of ``ladseg check`` as one self-contained HTML page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ladseg.data import Report
from ladseg.data.check_report import SHOWN
from ladseg.report.check_table import check_summary, class_rows, percent, values_line
from ladseg.report.page import image_uri, render
from ladseg.report.picture import color_table

# Longer side of a sample on the page in pixels, and rows of the table of image sizes.
SIDE = 480
SIZES = 10


@dataclass(frozen=True)
class PageSample:
    """An image to show, and its label.

    Attributes:
        split: Its split.
        name: The image's file name.
        image: ``(3, H, W)`` uint8.
        label: ``(H, W)`` uint8 of class ids, 255 where ignored.
    """

    split: str
    name: str
    image: Tensor
    label: Tensor


def check_page(report: Report, samples: Sequence[PageSample]) -> str:
    """Return the page; it loads nothing and needs no script."""
    seen = sorted({int(value) for sample in samples for value in sample.label.unique()} - {255})
    return render(
        "check.html",
        root=report.root,
        layout=report.layout,
        class_names=report.class_names,
        level=report.level,
        summary=check_summary(report),
        splits=list(_splits(report)),
        findings=list(_findings(report)),
        classes=list(_classes(report)),
        sizes=list(_sizes(report)),
        legend=[{"name": report.class_names[value], "color": report.colors[value]} for value in seen],
        samples=[_sample(sample, report) for sample in samples],
    )


def _splits(report: Report) -> Iterator[dict[str, Any]]:
    for split in report.splits:
        yield {
            "name": split.name,
            "pairs": split.pairs,
            "published": split.published,
            "images": _kinds(
                {f"{kind} {values_line(split, kind)}".strip(): n for kind, n in split.image_kinds.items()}
            ),
            "masks": _kinds(split.mask_kinds),
            "ignored": percent(split.ignored_pixels, sum(split.mask_values.values())),
        }


def _kinds(kinds: dict[str, int]) -> str:
    return ", ".join(f"{kind} ({count:,})" for kind, count in kinds.items())


def _findings(report: Report) -> Iterator[dict[str, Any]]:
    for finding in report.findings:
        yield {**vars(finding), "files": finding.files[:SHOWN], "count": len(finding.files)}


def _classes(report: Report) -> Iterator[dict[str, Any]]:
    rows = class_rows(report)
    top = max(share for row in rows for share in row.shares) or 1.0
    for row in rows:
        yield {
            "name": report.class_names[row.index],
            "color": report.colors[row.index],
            "cells": row.cells,
            "widths": [100 * share / top for share in row.shares],
        }


def _sizes(report: Report) -> Iterator[dict[str, Any]]:
    top = max((count for split in report.splits for count in split.sizes.values()), default=1)
    for place, split in enumerate(report.splits):
        shown = list(split.sizes.items())[:SIZES]
        rest = sum(split.sizes.values()) - sum(count for _, count in shown)
        if rest:
            shown.append((f"{len(split.sizes) - SIZES} others", rest))
        for size, count in shown:
            color = "val" if place else "train"
            yield {
                "split": split.name,
                "size": size,
                "count": count,
                "width": min(100 * count / top, 100),
                "color": color,
            }


def _sample(sample: PageSample, report: Report) -> dict[str, str]:
    image = Image.fromarray(np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy()))
    label = Image.fromarray(sample.label.numpy())
    label.putpalette(color_table(report.colors).tobytes())
    image.thumbnail((SIDE, SIDE))
    label = label.resize(image.size, Image.Resampling.NEAREST)
    names = [report.class_names[value] for value in sample.label.unique().tolist() if value != 255]
    return {
        "split": sample.split,
        "name": sample.name,
        "image": image_uri(image, "JPEG", quality=85),
        "label": image_uri(label, "PNG"),
        "classes": ", ".join(names) or "nothing labelled",
    }
