"""D_time of Table 1: the student's step under each method, against the paper's figures.

    python benchmarks/step_times.py --crop 128x256 --batch 2

builds Table 1's networks (DeepLabV3-R101 as the classic teacher, DeepLabV3-R18 or PSPNet-R18 as student, and as
label-assisted teacher), random weights, 19 classes; times one step of each in turns; prints milliseconds, the ratio to
LAD, the paper's ratio to LAD, and the ratio of multiply-accumulates, which is what the formulas cost.
"""

import argparse
import json
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from ladseg.comparison.costs import trainings_of
from ladseg.comparison.methods import classic_teacher, make_method
from ladseg.measure.step_costs import step_macs, step_times
from ladseg.recipe import Recipe, Schedule, StudentSettings

CLASSES = 19
# Table 1, milliseconds.
PAPER = {
    "deeplabv3_r18": {"skd": 780, "ifvd": 1018, "cwd-full": 415, "cirkd": 1295, "maskd": 846, "lad": 270},
    "pspnet_r18": {"skd": 758, "ifvd": 944, "cwd-full": 402, "cirkd": 1210, "maskd": 757, "lad": 259},
}
OTHERS = ("none", "kd", "cwd", "feature", "fitnet", "at", "dsd", "dist", "mgd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="deeplabv3_r18", choices=list(PAPER))
    parser.add_argument("--crop", default="512x1024")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--only", help="only these methods, separated by commas; lad is always among them")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    height, width = map(int, arguments.crop.split("x"))
    schedule = Schedule(crop=(height, width), batch_size=arguments.batch)
    base = Recipe(student=StudentSettings(model=arguments.student), schedule=schedule)
    classic = classic_teacher(base, "deeplabv3_r101")
    paper = PAPER[arguments.student]
    words = [*OTHERS, *paper]
    if arguments.only:
        words = [word for word in words if word in {"lad", *arguments.only.split(",")}]
    steps = {word: trainings_of(make_method(base, word, classic).recipe, CLASSES)[-1] for word in words}
    macs = {word: step_macs(training, CLASSES) for word, training in steps.items()}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    times = step_times(steps, CLASSES, device)
    table = Table(title=f"{arguments.student}, {arguments.batch} crops of {arguments.crop}, {device.type}")
    for head in ("method", "ms", "x lad", "paper x lad", "MACs x lad", "MB"):
        table.add_column(head, justify="left" if head == "method" else "right")
    for word in sorted(words, key=lambda word: times[word].milliseconds):
        memory = times[word].memory
        table.add_row(
            word,
            f"{times[word].milliseconds:.0f}",
            f"{times[word].milliseconds / times['lad'].milliseconds:.2f}",
            f"{paper[word] / paper['lad']:.2f}" if word in paper else "",
            f"{macs[word] / macs['lad']:.2f}",
            "" if memory is None else f"{memory / 1e6:.0f}",
        )
    Console().print(table)
    if arguments.json:
        figures = {word: {"milliseconds": times[word].milliseconds, "memory": times[word].memory, "macs": macs[word],
                          "paper": paper.get(word)} for word in words}  # fmt: skip
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
