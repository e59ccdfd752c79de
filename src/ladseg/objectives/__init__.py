"""Training objectives, each of which maps a batch to ``{"loss": ..., name: term, ...}``."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .class_order import reorder_classes as reorder_classes
    from .label_assisted import LabelAssisted as LabelAssisted
    from .label_assisted import Network as Network
    from .label_assisted import noise_generators as noise_generators
    from .label_assisted import segmenter as segmenter
    from .plain import Plain as Plain
    from .snapshot import SnapshotObjective as SnapshotObjective
    from .student import FirstStageObjective as FirstStageObjective
    from .student import StudentObjective as StudentObjective
    from .teacher import TeacherObjective as TeacherObjective
else:
    from ladseg.contents import on_first_use

    __getattr__, __dir__, __all__ = on_first_use(__name__, __file__)
