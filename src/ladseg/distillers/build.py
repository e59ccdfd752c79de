"""Build the distiller that a recipe describes."""

from typing import Any

from ladseg.distillation_methods import METHODS
from ladseg.distillers.alignment import feature_map
from ladseg.distillers.distiller import Combined, Distiller
from ladseg.outputs import SegmentationOutput
from ladseg.recipe import Distill


def build_distiller(distill: Distill, student: SegmentationOutput, teacher: SegmentationOutput) -> Distiller:
    """Build the distiller of a recipe, with the weights that the recipe gives.

    Args:
        distill: The recipe's section; its ``also`` holds the further methods of a list.
        student: Any output of the student, for the widths of its feature maps.
        teacher: Any output of the teacher.

    Returns:
        The untrained distiller.

    Raises:
        RecipeError: A method, setting or term does not exist, or two methods give the same term.
        MissingFeatureMap: A network does not give the feature map that a method reads.
    """
    sections = (distill, *(Distill(**settings) for settings in distill.also))
    parts = [_build_one(section, student, teacher) for section in sections]
    return parts[0] if len(parts) == 1 else Combined(parts)


def _build_one(distill: Distill, student: SegmentationOutput, teacher: SegmentationOutput) -> Distiller:
    method = METHODS[distill.method]
    arguments: dict[str, Any] = dict(distill.options or {})
    if method.tau is not None:
        arguments["tau"] = distill.tau or method.tau
    if method.layer is not None:
        layer = arguments["layer"] = distill.layer or method.layer
        widths = feature_map(student, layer, "student").shape[1], feature_map(teacher, layer, "teacher").shape[1]
        if method.projects:
            arguments["student_width"], arguments["teacher_width"] = widths
    if method.counts_classes:
        arguments["classes"] = teacher.logits.shape[1]
    distiller: Distiller = method.load()(**arguments)
    distiller.terms = distiller.terms | distill.named_weights
    if distill.weight_for_classes is not None:
        distiller.terms["cwd"] *= teacher.logits.shape[1] / distill.weight_for_classes
    return distiller
