"""The names of the networks, and whose definition each is; nothing here loads torch, so a list of them is instant."""

SOURCES: dict[str, str] = {
    "fcn_r18": "mmseg R-18b-D8",
    "fcn_r50": "mmseg R-50b-D8",
    "pspnet_r18": "CIRKD",
    "pspnet_r50": "CIRKD",
    "pspnet_r101": "CIRKD",
    "deeplabv3_r18": "CIRKD",
    "deeplabv3_r50": "CIRKD",
    "deeplabv3_r101": "CIRKD",
    "pspnet_r50_mmseg": "mmseg R-50-D8",
    "pspnet_r101_mmseg": "mmseg R-101-D8",
    "deeplabv3_r50_mmseg": "mmseg R-50-D8",
    "stdc1": "STDC authors",
    "stdc2": "STDC authors",
    "stdc1_mmseg": "mmseg STDC1",
    "stdc2_mmseg": "mmseg STDC2",
    "ocrnet_w18s": "mmseg HR18s",
    "ocrnet_w18": "mmseg HR18",
    "ocrnet_w48": "mmseg HR48",
    "dinov2_s14": "DINOv2 linear",
    "dinov2_b14": "DINOv2 linear",
    "segformer_b0": "transformers",
    "segformer_b2": "transformers",
}


def list_models() -> list[str]:
    """Return the names of all networks; ``HEAD@BACKBONE`` with the heads pspnet, deeplabv3 and fcn makes many more."""
    return list(SOURCES)
