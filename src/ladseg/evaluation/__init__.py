"""Measuring: one code for student, teacher and their agreement."""

from .confusion_matrix import ConfusionMatrix as ConfusionMatrix
from .evaluate import Predictor as Predictor
from .evaluate import evaluate as evaluate
from .stability import mean_pairwise_kl as mean_pairwise_kl
