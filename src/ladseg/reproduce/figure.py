"""Reproduce Figure 4: train one teacher on the noised and one on the clean label, and attribute their predictions."""

from dataclasses import replace
from pathlib import Path

import torch

from ladseg.comparison.cells import make_cells
from ladseg.data import eval_loader
from ladseg.errors import RecipeError
from ladseg.files import write_text
from ladseg.measure.environment import describe_environment, is_main_process
from ladseg.objectives import LabelAssisted, noise_generators, segmenter
from ladseg.report.contributions import (
    FigureResults,
    Strip,
    TeacherShares,
    figure_markdown,
    figure_page,
    save_contributions,
)
from ladseg.report.reproduced import TINY
from ladseg.reproduce.experiments import CLEAN, NOISED, Experiment
from ladseg.reproduce.layer_cam import Contribution, contribution
from ladseg.reproduce.table import Request, refuse_one_folder_for_many
from ladseg.results import NetworkRow, write_json
from ladseg.runs.finished import Log
from ladseg.runs.preparation import Workspace, open_workspace
from ladseg.runs.run import Run
from ladseg.runs.trainings import teacher_training

NAMES = {NOISED: "noised label", CLEAN: "clean label"}
# The paper's class, and one in the built-in scenes.
CLASSES = ("car", "box")
# Number of images for the measurement, those with the most pixels of the class, and number of them to draw.
MEASURED, DRAWN = 20, 3


def reproduce_figure(experiment: Experiment, request: Request, log: Log = print) -> list[Path] | None:
    """Train the two teachers unless they are trained, in the folder that Table 9 shares, and write the figure.

    Args:
        experiment: Figure 4.
        request: The output folder and the data; only the first seed is used.
        log: Receives lines about the progress.

    Returns:
        The files; None in all processes of torchrun but the main one.

    Raises:
        UserError: There is a fault that a user can correct.
    """
    (setting,) = experiment.settings
    refuse_one_folder_for_many([setting], request)
    recipe = replace(request.recipe(setting), baseline=True, seed=0)
    log = log if is_main_process() else lambda line: None
    workspace = open_workspace(recipe, log)
    class_id, class_name = _chosen_class(workspace)
    methods = [request.method(recipe, word) for word in NAMES]
    trained: list[tuple[LabelAssisted, NetworkRow]] = []
    for cell in make_cells(recipe, methods, request.seeds[:1]):
        run = Run(cell.recipe, log, workspace, cell.shared)
        run.stages = ["teacher"]
        network, row = run.fit(teacher_training(cell.recipe, workspace.num_classes, None))
        assert isinstance(network, LabelAssisted)
        trained.append((network, row))
    workspace.accelerator.end_training()
    if not is_main_process():
        return None
    indices = _images_with(workspace, class_id)
    found = [_contributions(network, workspace, class_id, indices) for network, _ in trained]
    teachers = [
        TeacherShares(
            name,
            word,
            [one.share_of_label for one in shares],
            [one.integrated_share_of_label for one in shares],
            row.mean_iou,
            row.mean_iou_without_label,
            row.mean_iou_without_image,
        )
        for (word, name), shares, (_, row) in zip(NAMES.items(), found, trained, strict=True)
    ]
    remark = TINY if request.tiny else ""
    figure = FigureResults(experiment.title, remark, class_name, teachers, describe_environment())
    return _write(request.out / experiment.name, figure, _strips(workspace, class_id, indices, found))


def _chosen_class(workspace: Workspace) -> tuple[int, str]:
    names = workspace.train_set.spec.class_names
    for name in CLASSES:
        if name in names:
            return names.index(name), name
    raise RecipeError(f"figure-4 shows class {' or '.join(CLASSES)}, which the data does not have")


def _images_with(workspace: Workspace, class_id: int) -> list[int]:
    """Return the indices of the validation images with the most pixels of the class, in descending order."""
    val = workspace.val_set
    pixels = [int((val.read(index)[1] == class_id).sum()) for index in range(len(val))]
    order = sorted(range(len(val)), key=lambda index: -pixels[index])
    return [index for index in order[:MEASURED] if pixels[index]]


def _contributions(
    network: LabelAssisted, workspace: Workspace, class_id: int, indices: list[int]
) -> list[Contribution]:
    inner, device = segmenter(network).eval(), workspace.accelerator.device
    network.to(device)
    found = []
    for batch in eval_loader(workspace.val_set, mean=inner.input_mean, std=inner.input_std, indices=indices):
        image, label = batch["image"].to(device), batch["label"].long().to(device)
        generators = noise_generators({**batch, "label": label}, 1)
        one = contribution(network, image, label, class_id, generators)
        found.append(replace(one, image=one.image.cpu(), label=one.label.cpu()))
    return found


def _strips(workspace: Workspace, class_id: int, indices: list[int], found: list[list[Contribution]]) -> list[Strip]:
    strips = []
    for place, index in enumerate(indices[:DRAWN]):
        image, label = workspace.val_set.read(index)
        maps = [(shares[place].image.numpy(), shares[place].label.numpy()) for shares in found]
        strips.append(Strip(image.permute(1, 2, 0).numpy(), (label == class_id).to(torch.float32).numpy(), maps))
    return strips


def _write(stem: Path, figure: FigureResults, strips: list[Strip]) -> list[Path]:
    picture = stem.with_suffix(".png")
    save_contributions(picture, figure, strips)
    write_json(stem.with_suffix(".json"), figure)
    texts = {".md": figure_markdown(figure), ".html": figure_page(figure, picture)}
    for suffix, text in texts.items():
        write_text(stem.with_suffix(suffix), text)
    return [picture, *(stem.with_suffix(suffix) for suffix in (".json", *texts))]
