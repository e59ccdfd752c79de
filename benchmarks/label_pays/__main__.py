"""The laboratory of docs/j-notes.md: candidates for label help against the plain student, at equal compute.

    python -m benchmarks.label_pays run HOME NAME SETTING SEED
    python -m benchmarks.label_pays queue HOME QUEUE.txt
    python -m benchmarks.label_pays table HOME SETTING [BASE]
    python -m benchmarks.label_pays teachers HOME SETTING FORM-RATIO KIND ...
    python -m benchmarks.label_pays draw HOME CURVE.png SETTING [NAME ...]

HOME holds the data of :data:`SETTINGS` as ``smaller_set.py`` makes it, for settings from ImageNet the backbone's file
tf_efficientnet_lite0.safetensors, and receives results.jsonl, the weights with the
counts of each validation image (w/), and the augmented batches of each seed (stream/), which all candidates share.
``queue`` works off lines "NAME SETTING SEED", by several processes at once if they are started; a line waits until
what it needs is there. Names:

    plain                      the whole schedule; keeps its state at the trunk's end, from which the others branch
    plain3000                  the whole schedule, so many steps long
    teacher-KIND               self (no label), fixed, random, less, placebos shuffled and blank; @noc: no consistency,
                               @one: one path, twice the steps, @long: ten times as long, @full: for as many steps as
                               the plain student, @cold: the same, from its initial weights
    reuse-KIND-FORM-RATIO      one more student of it: cwd, kd, right, wrong, edge, swap; shufright: placebo. KIND may
                               be plain, the finished plain student; @own: of the student's own seed, @pair: of that
                               plus 10, @11: of seed 11, @10+11: the mean of two seeds' teachers; @strong: of a
                               pretrained network; @half: it sees images of half the size; @every3: it is asked in every
                               third step; @kept100: the same 100 batches again and again
    on-none, on-none@600       the finished plain student trained on for half of its schedule, or for 600 steps more
    on-KIND-FORM-RATIO         the same for as much compute, taught
    scratch-KIND-FORM-RATIO    taught from the first step on, for the plain student's compute
    total-KIND-FORM-RATIO      the same as reuse, the teacher trained within the budget from the seed's own trunk
    free-KIND-FORM-RATIO       the same as reuse, as if the teacher's answers cost nothing
    emaself[-FORM]-RATIO       the student's own moving average teaches
    pilot-RATIO[-PLACEBO]      regions of the label pool the student's own features: placebo shuffled or noise
    classmix, cutmix           regions of the label, or rectangles, pasted from image to image
    weighted-POWER             cross-entropy weighted by class frequency to the power
    ocrpilot-FORM-RATIO[-PLACEBO]  OCRNet's context part by the label's regions: shared, or own weights and detached
    shown-K[-shuffled]         one network that sees the label in every K-th step, batch norm's statistics kept apart
    soft-RATIO                 the label's shares as a target at the logits' size
    gradnorm                   the norm of CWD's gradient beside the cross-entropy's, by classes, map size and tau

RATIO is that of the gradients on the logits (see :class:`~benchmarks.label_pays.student.Balance`); w3 is a weight of 3.
Compute is counted in plain steps: forward and backward of the student on 8 crops is 1, a forward pass alone 1/3.
"""

import argparse
import os
import time
import traceback
from pathlib import Path

import torch

from ladseg.data.memory import keep_freed_memory

from .controls import pasted, weighted_cross_entropy
from .gradients import gradient_table
from .pilots import label_shown, ocr_pilot, region_pilot, soft_target
from .setting import SETTINGS, SHARED, TEACHER_SEED, home, use_home, weights_file
from .student import branch, finished, plain
from .tables import draw, table, teachers
from .taught import self_average, taught
from .teachers import members, teacher, teacher_file


def run(name: str, setting: str, seed: int) -> None:
    total = SETTINGS[setting].steps
    kind, _, rest = name.partition("-")
    if kind.startswith("plain"):
        own = int(kind[5:] or total)
        plain(f"plain{own}", setting, seed, own, round(total * SHARED) if kind == "plain" else None)
    elif kind == "teacher":
        teacher(rest, setting, seed)
    elif name.startswith("on-none"):
        branch(name, setting, seed, 1.0, start=finished(setting, seed, int(name.partition("@")[2] or 0)))
    elif kind in ("reuse", "free", "on", "scratch", "total"):
        taught(name, setting, seed)
    elif kind in ("classmix", "cutmix"):
        branch(name, setting, seed, 1.0, prepare=lambda batch: pasted(batch, kind == "classmix"))
    elif kind == "weighted":
        branch(name, setting, seed, 1.0, supervise=weighted_cross_entropy(setting, float(rest)))
    elif kind == "gradnorm":
        gradient_table(setting)
    else:
        {
            "emaself": self_average,
            "pilot": region_pilot,
            "ocrpilot": ocr_pilot,
            "shown": label_shown,
            "soft": soft_target,
        }[kind](name, setting, seed)


def needs(name: str, setting: str, seed: int) -> list[Path]:
    """The files without which a line of the queue can't be run."""
    kind, _, rest = name.partition("-")
    own = weights_file(f"plain{SETTINGS[setting].steps}", setting, seed)
    if kind.startswith("plain"):
        return []
    if kind in ("reuse", "free", "on", "scratch") and not rest.startswith("none"):
        return [own, *(teacher_file(member, setting, seed) for member in members(rest.split("-")[0]))]
    return [own, weights_file("teacher-fixed", setting, TEACHER_SEED)] if kind == "gradnorm" else [own]


def work_off(queue: Path) -> None:
    claims = home() / "claims"
    claims.mkdir(exist_ok=True)
    while True:
        lines = [line.split() for line in queue.read_text().splitlines() if line.strip() and not line.startswith("#")]
        open_lines = [line for line in lines if not (claims / "_".join(line)).exists()]
        if not open_lines:
            return
        ready = [line for line in open_lines if all(path.exists() for path in needs(line[0], line[1], int(line[2])))]
        if not ready:
            time.sleep(5)
            continue
        try:
            os.close(os.open(claims / "_".join(ready[0]), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        try:
            run(ready[0][0], ready[0][1], int(ready[0][2]))
        except Exception:
            traceback.print_exc()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "queue", "table", "teachers", "draw"])
    parser.add_argument("home", type=Path)
    parser.add_argument("rest", nargs="+", help="as listed above")
    arguments = parser.parse_args()
    use_home(arguments.home)
    torch.set_num_threads(1)
    keep_freed_memory()
    if arguments.what == "run":
        name, setting, seed = arguments.rest
        run(name, setting, int(seed))
    elif arguments.what == "queue":
        work_off(Path(arguments.rest[0]))
    elif arguments.what == "teachers":
        teachers(*arguments.rest)
    elif arguments.what == "draw":
        draw(*arguments.rest)
    else:
        table(*arguments.rest)


if __name__ == "__main__":
    main()
