"""Save delivered networks with a model card in folders, and on the Hugging Face Hub."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ladseg.deploy.student_file import save_student
from ladseg.deploy.student_header import StudentHeader
from ladseg.errors import ModelError, first_words
from ladseg.files import write_text
from ladseg.models import Segmenter
from ladseg.results import STUDENT

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

CARD = "README.md"
UNNAMED = "an unnamed data set"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class CardFacts:
    """The content of a model card that the delivered file lacks.

    Attributes:
        figures: Measured figures by name, such as ``{"mIoU % on val": 71.2}``.
        license: The Hub's name of a licence, such as ``apache-2.0``.
        dataset: Name of the training data set.
    """

    figures: Mapping[str, float] | None = None
    license: str | None = None
    dataset: str | None = None


def weights_file(name: str | Path) -> Path:
    """Return the path of weights, and download them first if ``name`` is not a path but ``org/name`` on the Hub.

    Raises:
        ModelError: The Hub has no such repository or file, or can't be reached.
    """
    path = Path(name)
    # A missing file in an existing folder is a typing error, not a repository, so the Hub is not asked.
    if path.exists() or path.parent.exists() or path.suffix == ".safetensors" or not REPOSITORY.fullmatch(str(name)):
        return path
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(str(name), STUDENT))
    except Exception as error:  # the Hub's client and the connection raise many kinds of exceptions
        raise ModelError(
            f"{name}: no file or folder here, and not loaded from the Hugging Face Hub ({first_words(error)}); "
            "check the name, the connection and, for a private repository, `hf auth login`"
        ) from error


def save_folder(
    network: Segmenter, header: StudentHeader, folder: Path, facts: CardFacts, repository: str = "org/name"
) -> None:
    """Write ``student.safetensors``, without the path of its data set, and a model card.

    Args:
        network: The delivered network.
        header: The metadata of its file.
        folder: Where to write both.
        facts: The content of the card besides the metadata.
        repository: The name on the Hub in the card's example.

    Raises:
        UserError: The folder can't be written.
    """
    from huggingface_hub import ModelCardData

    data = asdict(header.data)
    if data["recipe"]:
        # The path of the data set is private.
        data["recipe"] = {key: value for key, value in data["recipe"].items() if key != "root"}
    save_student(folder / STUDENT, network, data)
    about = ModelCardData(
        license=facts.license,
        library_name="ladseg",
        pipeline_tag="image-segmentation",
        tags=["semantic-segmentation", "ladseg", header.model],
        model_name=header.model,
        eval_results=_hub_figures(facts) or None,
    )
    write_text(folder / CARD, f"---\n{about.to_yaml()}\n---\n\n{_text(network, header, facts, repository)}")


def _hub_figures(facts: CardFacts) -> list["EvalResult"]:
    """Return the figures as the Hub lists them beside a model."""
    from huggingface_hub import EvalResult

    dataset = facts.dataset or UNNAMED
    return [
        EvalResult("image-segmentation", _slug(dataset), dataset, _slug(name), value, metric_name=name)
        for name, value in (facts.figures or {}).items()
    ]


def _slug(name: str) -> str:
    """Return a name as an identifier, such as ``miou_on_val``."""
    return re.sub(r"\W+", "_", name.lower()).strip("_") or "unnamed"


def push(
    network: Segmenter, header: StudentHeader, repository: str, facts: CardFacts, private: bool, token: str | None
) -> str:
    """Upload the files of :func:`save_folder` to the Hub.

    Args:
        network: The delivered network.
        header: The metadata of its file.
        repository: ``org/name``; it is created if missing.
        facts: The content of the card besides the metadata.
        private: Whether a new repository is private.
        token: Token of the Hub; None takes that of ``hf auth login``.

    Returns:
        The address of the commit.

    Raises:
        ModelError: The Hub refuses, or can't be reached.
    """
    import tempfile

    import huggingface_hub

    with tempfile.TemporaryDirectory(prefix="ladseg-") as folder:
        save_folder(network, header, Path(folder), facts, repository)
        api = huggingface_hub.HfApi(token=token)
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload by ladseg"))
        except Exception as error:  # the Hub's client and the connection raise many kinds of exceptions
            raise ModelError(
                f"{repository}: the Hugging Face Hub did not take it ({first_words(error)}); check the name, the "
                "connection and `hf auth login`"
            ) from error


def _text(network: Segmenter, header: StudentHeader, facts: CardFacts, repository: str) -> str:
    """Return the model card below its metadata."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    images = "Images are RGB" if header.channels == 3 else f"Images have {header.channels} channels"
    custom = f', model="{header.model}"' if ":" in header.model else ""
    rows = [f"| {name} | {value:g} |" for name, value in (facts.figures or {}).items()]
    parts = [
        f"# {header.model}, {header.num_classes} classes",
        f"A network for semantic segmentation with {parameters:,} parameters, trained and written by ladseg.",
        "## Use",
        f'```python\nimport ladseg\n\nstudent = ladseg.load("{repository}"{custom})\n'
        'ids = student.predict("image.jpg")  # (H, W) class ids\n```',
        f"{images}; normalisation and upsampling are inside. `ladseg export` writes ONNX or a torch.export program.",
        "## Figures",
        "\n".join(["| figure | value |", "|---|---|", *rows])
        if rows
        else "None were given. Measure with `ladseg eval`.",
        "## Data",
        f"Trained on {facts.dataset or UNNAMED}. Classes, in the order of their ids: "
        f"{', '.join(header.data.class_names)}.",
        "## Licence",
        f"{facts.license or 'None was given'}. That of the data set and of pretrained weights may bind too.",
    ]
    return "\n\n".join(parts) + "\n"
