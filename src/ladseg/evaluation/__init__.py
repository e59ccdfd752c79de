"""Accuracy measures and their statistics, the same code for student, teacher and their agreement."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bootstrap import interval_over_seeds as interval_over_seeds
    from .bootstrap import paired_interval as paired_interval
    from .boundary_iou import BoundaryIoU as BoundaryIoU
    from .confusion_matrix import ConfusionMatrix as ConfusionMatrix
    from .confusion_matrix import iou_of as iou_of
    from .evaluate import Evaluation as Evaluation
    from .evaluate import Predictor as Predictor
    from .evaluate import by_argmax as by_argmax
    from .inference import WHOLE as WHOLE
    from .inference import Inference as Inference
    from .inference import class_ids as class_ids
    from .inference import probabilities as probabilities
    from .paired_tests import PairedTest as PairedTest
    from .paired_tests import holm as holm
    from .paired_tests import paired_test as paired_test
    from .stability import mean_pairwise_kl as mean_pairwise_kl
else:
    from ladseg.contents import on_first_use

    __getattr__, __dir__, __all__ = on_first_use(__name__, __file__)
