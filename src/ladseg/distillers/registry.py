"""The distillers by the name that a recipe gives them."""

from collections.abc import Callable

from ladseg.distillers.at import AT
from ladseg.distillers.base import Distiller
from ladseg.distillers.cirkd import CIRKD
from ladseg.distillers.cwd import CWD
from ladseg.distillers.cwd_full import FEATURES_WEIGHT, CWDFeatures, CWDFull
from ladseg.distillers.dist import DIST
from ladseg.distillers.dsd import DSD
from ladseg.distillers.feature import Feature, FitNet
from ladseg.distillers.ifvd import IFVD
from ladseg.distillers.kd import KD
from ladseg.distillers.maskd import MasKD
from ladseg.distillers.match import feature_of
from ladseg.distillers.mgd import MGD
from ladseg.distillers.none import NoDistillation
from ladseg.distillers.several import Several
from ladseg.distillers.skd import SKD
from ladseg.errors import RecipeError
from ladseg.outputs import SegmentationOutput
from ladseg.recipe import Distill

# From the recipe and one output of each network, whose widths projectors need.
Build = Callable[[Distill, SegmentationOutput, SegmentationOutput], Distiller]

DISTILLERS: dict[str, Build] = {
    "none": lambda distill, student, teacher: NoDistillation(),
    "kd": lambda distill, student, teacher: KD(distill.tau or 1.0),
    "feature": lambda distill, student, teacher: Feature(*_widths(distill, student, teacher), distill.layer),
    "at": lambda distill, student, teacher: AT(distill.layer),
    "fitnet": lambda distill, student, teacher: FitNet(*_widths(distill, student, teacher), distill.layer),
    "cwd": lambda distill, student, teacher: _cwd(distill, student, teacher),
    "skd": lambda distill, student, teacher: SKD(_classes(teacher), distill.layer),
    "ifvd": lambda distill, student, teacher: IFVD(_classes(teacher), distill.layer),
    "cirkd": lambda distill, student, teacher: CIRKD(
        *_widths(distill, student, teacher), _classes(teacher), distill.layer
    ),
    "maskd": lambda distill, student, teacher: MasKD(_classes(teacher)),
    "dsd": lambda distill, student, teacher: DSD(),
    "dist": lambda distill, student, teacher: DIST(distill.tau or 1.0),
    "mgd": lambda distill, student, teacher: MGD(*_widths(distill, student, teacher), distill.layer),
}


def build_distiller(distill: Distill, student: SegmentationOutput, teacher: SegmentationOutput) -> Distiller:
    """The distiller of a recipe, with the weights that the recipe gives.

    Args:
        distill: The section; what it has in ``also`` is added.
        student: Any output of the student.
        teacher: Any output of the teacher.

    Raises:
        RecipeError: No such method, or two that give one term, or a weight of a term that there is not.
        ModelError: A network does not give the feature map that a method reads.
    """
    parts = []
    for one in (distill, *(Distill(**settings) for settings in distill.also)):
        if one.method not in DISTILLERS:
            raise RecipeError(f"distill.method '{one.method}' is not one of {', '.join(DISTILLERS)}")
        part = DISTILLERS[one.method](one, student, teacher)
        named = dict(one.term_weights or {})
        if one.weight is not None and part.terms:
            # What a method is named for; KD beside it keeps its weight.
            named = {next(iter(part.terms)): one.weight} | named
        for term in named.keys() - part.terms:
            raise RecipeError(
                f"distill.term_weights: '{term}' is no term of {one.method}, which gives {', '.join(part.terms)}"
            )
        part.terms = part.terms | named
        parts.append(part)
    return parts[0] if len(parts) == 1 else Several(parts)


def _cwd(distill: Distill, student: SegmentationOutput, teacher: SegmentationOutput) -> Distiller:
    tau, full = distill.tau or 4.0, distill.recipe == "full"
    if not full and not distill.features_weight:
        return CWD(tau)
    weight = FEATURES_WEIGHT if distill.features_weight is None else distill.features_weight
    features = CWDFeatures(*_widths(distill, student, teacher), weight, tau, distill.layer)
    return CWDFull(features, _classes(teacher) if full else None)


def _classes(teacher: SegmentationOutput) -> int:
    return teacher.logits.shape[1]


def _widths(distill: Distill, student: SegmentationOutput, teacher: SegmentationOutput) -> tuple[int, int]:
    return feature_of(student, distill.layer).shape[1], feature_of(teacher, distill.layer).shape[1]
