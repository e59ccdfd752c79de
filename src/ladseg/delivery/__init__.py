"""What a run leaves for its user: the student's weights file and its exports, the table and the picture."""

from .check_page import PageSample as PageSample
from .check_page import check_page as check_page
from .check_table import print_check as print_check
from .compare_plot import save_compare_plot as save_compare_plot
from .compare_table import compare_latex as compare_latex
from .compare_table import compare_markdown as compare_markdown
from .compare_table import compare_tables as compare_tables
from .export import export_student as export_student
from .layouts import layout_page as layout_page
from .layouts import layouts_list as layouts_list
from .models_table import models_markdown as models_markdown
from .models_table import models_table as models_table
from .paper_table import paper_rows as paper_rows
from .paper_table import paper_tables as paper_tables
from .picture import Panel as Panel
from .picture import save_picture as save_picture
from .table import iou_table as iou_table
from .table import results_table as results_table
from .table import teacher_remark as teacher_remark
from .table import verdict as verdict
from .weights import load_student as load_student
from .weights import save_student as save_student
