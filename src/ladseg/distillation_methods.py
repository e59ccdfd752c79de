"""The table of distillation methods, which recipes, :mod:`ladseg.distillers` and the command line read.

It does not import torch, so that commands can list and check methods without delay.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from math import inf
from types import MappingProxyType
from typing import Any

# The default weight of every loss term, equal in all methods that have the term.
TERM_WEIGHTS = {
    "kd": 1.0,
    "cwd": 3.0,
    "cwd_features": 50.0,
    "feature": 1.0,
    "fitnet": 10.0,
    "at": 1e4,
    "dist_inter": 1.0,
    "dist_intra": 1.0,
    "skd": 10.0,
    "ifvd": 20.0,
    "cirkd_batch": 1.0,
    "cirkd_pixel": 0.1,
    "cirkd_region": 0.1,
    "maskd": 1.0,
    "dsd_pixel": 1000.0,
    "dsd_category": 10.0,
    "mgd": 2e-5,
    "adversarial": 1e-3,
    "discriminator": 0.1,
}


@dataclass(frozen=True)
class Option:
    """A setting of a single method, given in ``distill.options``.

    Attributes:
        default: The published value.
        meaning: What it sets, in one line.
        choices: The allowed values of a text.
        most: The largest allowed number; the smallest is 0.
    """

    default: bool | int | float | str
    meaning: str
    choices: tuple[str, ...] = ()
    most: float = inf

    def fault(self, value: object) -> str | None:
        """Return what is wrong with a value, or None if it is valid."""
        if isinstance(self.default, str):
            return None if value in self.choices else f"it is one of {', '.join(self.choices)}"
        if isinstance(self.default, bool):
            return None if isinstance(value, bool) else "it is true or false"
        whole = isinstance(self.default, int)
        number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if number and 0 <= value <= self.most:  # type: ignore[operator]
            return None
        kind = "a whole number" if whole else "a number"
        return f"it is {kind}, 0 or more" if self.most == inf else f"it is {kind} from 0 to {self.most:g}"


@dataclass(frozen=True)
class DistillationMethod:
    """The properties of a method that are known before any network is built.

    Attributes:
        summary: What the student imitates, in one line.
        place: Module and class in :mod:`ladseg.distillers`, such as ``"kd:KD"``.
        terms: Its loss terms; ``distill.weight`` sets the weight of the first.
        tau: The default temperature; None if the method has none.
        layer: The default feature map; None if the method reads no feature map.
        projects: Whether its class takes the widths of the two feature maps, for a trained projector.
        counts_classes: Whether its class takes the number of classes.
        options: Its own settings.
    """

    summary: str
    place: str
    terms: tuple[str, ...] = ()
    tau: float | None = None
    layer: str | None = None
    projects: bool = False
    counts_classes: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)

    @property
    def class_name(self) -> str:
        """The class's name in :mod:`ladseg.distillers`."""
        return self.place.partition(":")[2]

    def load(self) -> Any:
        """Import and return the class; this imports torch."""
        return getattr(import_module(f"ladseg.distillers.{self.place.partition(':')[0]}"), self.class_name)


ADVERSARIAL = ("adversarial", "discriminator")
DIVIDE_BY = {
    "divide_by": Option(
        "student",
        "the network whose width divides the sum over channels; teacher gives the mean over the summed channels",
        choices=("student", "teacher"),
    )
}
AUX_WEIGHT = {"aux_weight": Option(0.4, "weight of the auxiliary logits relative to the main ones; 0 leaves them out")}

METHODS: Mapping[str, DistillationMethod] = MappingProxyType(
    {
        "none": DistillationMethod("nothing: the student learns from its labels alone", "distiller:NoDistillation"),
        "kd": DistillationMethod("the class probabilities at each position", "kd:KD", ("kd",), tau=1.0),
        "feature": DistillationMethod(
            "a feature map, through a projector", "feature:Feature", ("feature",), layer="head", projects=True
        ),
        "at": DistillationMethod("the attention map of a feature map", "at:AT", ("at", "kd"), layer="head"),
        "fitnet": DistillationMethod(
            "a feature map, through a projector, and the class probabilities",
            "feature:FitNet",
            ("fitnet", "kd"),
            layer="head",
            projects=True,
        ),
        "cwd": DistillationMethod("where in the image each class lies", "cwd:CWD", ("cwd",), tau=4.0),
        "cwd-features": DistillationMethod(
            "where in the image each channel of a feature map is active",
            "cwd_full:CWDFeatures",
            ("cwd_features",),
            tau=4.0,
            layer="head",
            projects=True,
            options=DIVIDE_BY,
        ),
        "cwd-full": DistillationMethod(
            "cwd of logits and of features, kd and an adversary: what the field's tables call CWD",
            "cwd_full:CWDFull",
            ("cwd", "cwd_features", "kd", *ADVERSARIAL),
            tau=4.0,
            layer="head",
            projects=True,
            counts_classes=True,
            options=DIVIDE_BY,
        ),
        "skd": DistillationMethod(
            "how similar each two positions are",
            "skd:SKD",
            ("skd", "kd", *ADVERSARIAL),
            layer="head",
            counts_classes=True,
        ),
        "ifvd": DistillationMethod(
            "how similar each position is to the mean of its class",
            "ifvd:IFVD",
            ("ifvd", "kd", *ADVERSARIAL),
            layer="head",
            counts_classes=True,
        ),
        "cirkd": DistillationMethod(
            "how similar each position is to those of other images, in the batch and in memory banks",
            "cirkd:CIRKD",
            ("cirkd_batch", "cirkd_pixel", "cirkd_region", "kd"),
            layer="head",
            projects=True,
            counts_classes=True,
            options={
                "group": Option(0, "form pairs within groups of this many images; 0 means all of the process"),
                "gather": Option(False, "form pairs over the images of all processes"),
            },
        ),
        "maskd": DistillationMethod(
            "the logits within regions that learned tokens select",
            "maskd:MasKD",
            ("maskd",),
            counts_classes=True,
            options={
                **AUX_WEIGHT,
                "train_mode": Option(True, "whether the teacher is in train mode while the tokens are learned"),
            },
        ),
        "dsd": DistillationMethod(
            "how attention changes from map to map, and how classes overlap",
            "dsd:DSD",
            ("dsd_pixel", "dsd_category"),
            layer="head",
        ),
        "dist": DistillationMethod(
            "how class probabilities correlate, over classes and over positions",
            "dist:DIST",
            ("dist_inter", "dist_intra"),
            tau=1.0,
            options=AUX_WEIGHT,
        ),
        "mgd": DistillationMethod(
            "a feature map, generated from the student's masked one, and where in the image each class lies",
            "mgd:MGD",
            ("mgd", "cwd"),
            tau=4.0,
            layer="backbone",
            projects=True,
            options={"masked": Option(0.75, "share of the student's positions that are masked out", most=1.0)},
        ),
    }
)


def default_weights(*terms: str) -> dict[str, float]:
    """Return the default weights of these loss terms."""
    return {term: TERM_WEIGHTS[term] for term in terms}


# What the paper's tables have beside a method's defaults, as keys of a recipe's distill section: CIRKD pairs the two
# images of one of eight GPUs, and MasKD's student has a weight decay and a floor of the learning rate of its own.
IN_THE_TABLES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"cirkd": {"options": {"group": 2}}, "maskd": {"weight_decay": 5e-4, "min_lr": 1e-4}}
)
