"""The table of layouts by name."""

from ladseg.data.layouts.ade20k import ADE20K
from ladseg.data.layouts.camvid import CAMVID
from ladseg.data.layouts.cityscapes import CITYSCAPES
from ladseg.data.layouts.coco_json import COCO_JSON
from ladseg.data.layouts.coco_stuff import COCO_STUFF_10K, COCO_STUFF_164K
from ladseg.data.layouts.folder import FOLDER
from ladseg.data.layouts.huggingface import HUGGINGFACE
from ladseg.data.layouts.labelme import LABELME
from ladseg.data.layouts.layout import Layout
from ladseg.data.layouts.pair_list import PAIR_LIST
from ladseg.data.layouts.shards import SHARDS
from ladseg.data.layouts.voc import VOC
from ladseg.data.layouts.yolo import YOLO
from ladseg.errors import DataError, nearest

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        CITYSCAPES,
        ADE20K,
        VOC,
        COCO_STUFF_10K,
        COCO_STUFF_164K,
        CAMVID,
        # Before folders, whose trees these have too.
        COCO_JSON,
        LABELME,
        YOLO,
        FOLDER,
        PAIR_LIST,
        HUGGINGFACE,
        SHARDS,
    )
}


def get_layout(name: str) -> Layout:
    """Return the layout of this name.

    Raises:
        DataError: There is no such layout.
    """
    if name not in LAYOUTS:
        close = nearest(name, list(LAYOUTS), listed=False)
        raise DataError(f"data.layout '{name}' is not one of {', '.join(LAYOUTS)}{close}")
    return LAYOUTS[name]
