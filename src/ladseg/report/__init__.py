"""Pages, tables, figures and pictures."""

from .bench_tables import bench_sheets as bench_sheets
from .check_page import PageSample as PageSample
from .check_page import check_page as check_page
from .check_table import print_check as print_check
from .comparison_page import comparison_page as comparison_page
from .comparison_plot import save_compare_plot as save_compare_plot
from .comparison_tables import compare_latex as compare_latex
from .comparison_tables import compare_markdown as compare_markdown
from .comparison_tables import compare_tables as compare_tables
from .layout_text import layout_page as layout_page
from .layout_text import layouts_list as layouts_list
from .model_table import models_markdown as models_markdown
from .model_table import models_table as models_table
from .paper_tables import paper_rows as paper_rows
from .paper_tables import paper_tables as paper_tables
from .picture import Panel as Panel
from .picture import save_picture as save_picture
from .run_page import RunRecord as RunRecord
from .run_page import run_page as run_page
from .run_tables import confusion_table as confusion_table
from .run_tables import iou_table as iou_table
from .run_tables import results_table as results_table
from .run_tables import teacher_remark as teacher_remark
from .run_tables import verdict as verdict
