"""The delivered file, the predictor that reads it, and its export to other runtimes."""

from .export import export_student as export_student
from .predictor import Student as Student
from .predictor import load as load
from .student_file import is_trained as is_trained
from .student_file import load_student as load_student
from .student_file import save_student as save_student
