"""One joint batch or two passes for the teacher's two paths: accuracy, stability and speed.

    python benchmarks/two_paths_batch_norm.py runs/demo

takes a finished run (`ladseg demo`), trains its teacher once more each way from the same start, and prints mIoU, mean
pairwise KL over three noise draws (x100, Table 8's criterion) and training seconds.
"""

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from ladseg import LabelAssisted, load_recipe
from ladseg.data import eval_loader
from ladseg.evaluation import mean_pairwise_kl
from ladseg.objectives import noise_generators
from ladseg.runs.run import Run
from ladseg.runs.trainings import baseline_training, teacher_training

DRAWS = 3


def two_passes(self, image, label, first=None, second=None):
    """What `LabelAssisted.two_paths` does, one path after the other: each with batch statistics of its own."""
    return self(image, label, first), self(image, label, second)


@torch.inference_mode()
def stability(run: Run, teacher: LabelAssisted) -> float:
    network = teacher.network
    values = []
    for batch in eval_loader(run.val_set, mean=network.input_mean, std=network.input_std):
        draws = [teacher(batch["image"], batch["label"], noise_generators(batch, path)) for path in range(1, DRAWS + 1)]
        values.append(mean_pairwise_kl([draw.logits for draw in draws]))
    return 100 * sum(values) / len(values)


def main(finished: Path) -> None:
    joint = LabelAssisted.two_paths
    for name, forward in {"joint batch": joint, "two passes": two_passes}.items():
        LabelAssisted.two_paths = forward
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(finished / "baseline", Path(folder) / "baseline")
            recipe = replace(load_recipe(finished / "recipe.yaml"), out=folder)
            run = Run(recipe, log=lambda line: None)
            baseline, _ = run.fit(baseline_training(recipe, run.spec.num_classes))
            teacher, row = run.fit(teacher_training(recipe, run.spec.num_classes, baseline))
            score = f"mIoU {100 * row.mean_iou:.2f} %, mKL x100 {stability(run, teacher):.2f}"
            print(f"{name}: {score}, {row.seconds:.0f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
