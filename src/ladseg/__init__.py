"""ladseg makes light semantic-segmentation networks more accurate by label-assisted distillation."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import distillers as distillers
    from .deploy.predictor import Student as Student
    from .deploy.predictor import load as load
    from .evaluation import ConfusionMatrix as ConfusionMatrix
    from .evaluation import Inference as Inference
    from .label_noise import LabelNoise as LabelNoise
    from .models import Segmenter as Segmenter
    from .models import build_model as build_model
    from .models import list_models as list_models
    from .models import widen_input as widen_input
    from .models.adapt import adapt as adapt
    from .objectives import LabelAssisted as LabelAssisted
    from .objectives import Plain as Plain
    from .objectives import StudentObjective as StudentObjective
    from .objectives import TeacherObjective as TeacherObjective
    from .outputs import SegmentationOutput as SegmentationOutput
    from .recipe import Recipe as Recipe
    from .recipe_files import load_recipe as load_recipe
    from .results import ComparisonResults as ComparisonResults
    from .results import RunResults as RunResults
    from .workflows import compare as compare
    from .workflows import train as train
else:
    from ladseg.contents import on_first_use

    __getattr__, __dir__, __all__ = on_first_use(__name__, __file__)

__version__ = "0.1.0"
