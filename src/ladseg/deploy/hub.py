"""Delivered networks in folders with a model card, and on the Hugging Face Hub."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ladseg.deploy.student_file import save_student
from ladseg.errors import ModelError, first_words
from ladseg.files import write_text
from ladseg.results import STUDENT

if TYPE_CHECKING:
    from ladseg.deploy.predictor import Student

CARD = "README.md"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def weights_file(name: str | Path) -> Path:
    """Return the path of weights, downloaded first if ``name`` is no path here but ``org/name`` on the Hub.

    Raises:
        ModelError: The Hub has no such repository or file, or can't be reached.
    """
    path = Path(name)
    # In a folder that exists, a path without a file is a slip of the pen, of which the Hub need not hear.
    if path.exists() or path.parent.exists() or path.suffix == ".safetensors" or not REPOSITORY.fullmatch(str(name)):
        return path
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(str(name), STUDENT))
    except Exception as error:  # of the Hub's client and of the network
        raise ModelError(
            f"{name}: no file or folder here, and not loaded from the Hugging Face Hub ({first_words(error)}); "
            "check the name, the connection and, for a private repository, `hf auth login`"
        ) from error


def save_folder(
    student: "Student",
    folder: Path,
    figures: Mapping[str, float] | None = None,
    license: str | None = None,
    dataset: str | None = None,
    repository: str = "org/name",
) -> None:
    """Write ``student.safetensors`` and a model card; arguments as for :meth:`ladseg.Student.save_pretrained`.

    Args:
        student: What is written.
        folder: The folder.
        figures: As there.
        license: As there.
        dataset: As there.
        repository: Name on the Hub for the card's example.
    """
    from huggingface_hub import ModelCardData

    data = asdict(student.header.data)
    if data["recipe"]:
        # Where the data lay is nobody else's business.
        data["recipe"] = {key: value for key, value in data["recipe"].items() if key != "root"}
    save_student(folder / STUDENT, student.network, data)
    about = ModelCardData(
        license=license,
        library_name="ladseg",
        pipeline_tag="image-segmentation",
        tags=["semantic-segmentation", "ladseg", student.header.model],
    )
    write_text(folder / CARD, f"---\n{about.to_yaml()}\n---\n\n{_text(student, figures, license, dataset, repository)}")


def push(student: "Student", repository: str, private: bool, token: str | None, facts: Mapping[str, object]) -> str:
    """Upload what :func:`save_folder` writes; arguments as for :meth:`ladseg.Student.push_to_hub`.

    Args:
        student: What is uploaded.
        repository: As there.
        private: As there.
        token: As there.
        facts: ``figures``, ``license`` and ``dataset`` of :func:`save_folder`.

    Returns:
        The address of the commit.

    Raises:
        ModelError: The Hub refuses, or can't be reached.
    """
    import tempfile

    import huggingface_hub

    with tempfile.TemporaryDirectory(prefix="ladseg-") as folder:
        save_folder(student, Path(folder), **facts, repository=repository)  # type: ignore[arg-type]
        api = huggingface_hub.HfApi(token=token)
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload by ladseg"))
        except Exception as error:  # of the Hub's client and of the network
            raise ModelError(
                f"{repository}: the Hugging Face Hub did not take it ({first_words(error)}); check the name, the "
                "connection and `hf auth login`"
            ) from error


def _text(
    student: "Student",
    figures: Mapping[str, float] | None,
    license: str | None,
    dataset: str | None,
    repository: str,
) -> str:
    """Return the model card below its metadata."""
    header = student.header
    parameters = sum(parameter.numel() for parameter in student.network.parameters())
    custom = f', model="{header.model}"' if ":" in header.model else ""
    rows = [f"| {name} | {value:g} |" for name, value in (figures or {}).items()]
    parts = [
        f"# {header.model}, {header.num_classes} classes",
        f"A network for semantic segmentation with {parameters:,} parameters, trained and written by ladseg.",
        "## Use",
        f'```python\nimport ladseg\n\nstudent = ladseg.load("{repository}"{custom})\n'
        'ids = student.predict("image.jpg")  # (H, W) class ids\n```',
        "Images are RGB; normalisation and upsampling are inside. `ladseg export` writes ONNX or a torch.export "
        "program.",
        "## Figures",
        "\n".join(["| figure | value |", "|---|---|", *rows])
        if rows
        else "None were given. Measure with `ladseg eval`.",
        "## Data",
        f"Trained on {dataset or 'a data set that was not named'}. Classes, in the order of their ids: "
        f"{', '.join(student.class_names)}.",
        "## Licence",
        f"{license or 'None was given'}. That of the data set and of pretrained weights may bind too.",
    ]
    return "\n\n".join(parts) + "\n"
