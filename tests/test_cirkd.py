"""CIRKD's relations and memories, beyond what every distiller is tested for."""

from itertools import chain, compress
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from ladseg import SegmentationOutput
from ladseg.distillers import build_distiller
from ladseg.distillers.cirkd import MemoryDistillation, random_pixels
from ladseg.distillers.memory_bank import MemoryBank
from ladseg.distillers.similarity_kl import similarity_kl_loss
from ladseg.errors import RecipeError
from ladseg.recipe import Distill
from tests.reference import distillation
from tests.test_distillers import LABEL, outputs
from tests.training.test_two_processes import start_two


@pytest.mark.parametrize("size", [(3, 5), (1, 1), (4, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_relations_within_the_batch_equal_the_formula(size: tuple[int, int], seed: int) -> None:
    student, teacher = outputs(seed, (3, 6), size)
    distiller = build_distiller(Distill(method="cirkd"), student, teacher)
    expected = distillation.batch_relations(student.features["head"], teacher.features["head"])
    assert distiller(student, teacher, LABEL)["cirkd_batch"].item() == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_pairs_within_groups_are_those_of_the_published_two_images_a_process() -> None:
    """Five images in groups of two: each group as a process of its own, weighted by its images."""
    source = torch.Generator().manual_seed(0)
    maps = [torch.randn(5, width, 2, 3, generator=source) for width in (3, 6)]
    student, teacher = (SegmentationOutput(torch.zeros(5, 4, 2, 3), {"head": feature}) for feature in maps)
    distiller = build_distiller(Distill(method="cirkd", options={"group": 2}), student, teacher)
    label = torch.zeros(5, 16, 24, dtype=torch.int64)
    groups = [distillation.batch_relations(*(m[i : i + 2] for m in maps)) for i in (0, 2, 4)]
    expected = (2 * groups[0] + 2 * groups[1] + groups[2]) / 5
    assert distiller(student, teacher, label)["cirkd_batch"].item() == pytest.approx(expected, rel=1e-4)
    with pytest.raises(RecipeError, match="choose one"):
        build_distiller(Distill(method="cirkd", options={"group": 2, "gather": True}), student, teacher)


def test_relations_to_the_memories_equal_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = outputs(0, (3, 6), (3, 4))
    relations = MemoryDistillation(3, 6, classes=4).eval()
    sampled = {}
    for name, queues in (("cirkd_pixel", relations.pixels), ("cirkd_region", relations.regions)):
        memory = queues.sample(5)
        assert memory.shape == (20, 6)
        sampled[name] = memory
        monkeypatch.setattr(queues, "sample", lambda count, memory=memory: memory)
    terms = relations(student, teacher, LABEL)
    # Where the map's positions lie on the label; ignored ones don't count.
    counted = (LABEL[:, [0, 13, 26]][:, :, [0, 14, 28, 42]] < 4).flatten().tolist()
    assert 0 < sum(counted) < len(counted)
    ours = [*compress(chain(*distillation.rows(relations.projector(student.features["head"]).detach())), counted)]
    theirs = [*compress(chain(*distillation.rows(teacher.features["head"])), counted)]
    for name, memory in sampled.items():
        keys = [memory.double().tolist()]
        assert terms[name].item() == pytest.approx(distillation.relation(ours, theirs, keys, keys), rel=1e-4)


def test_no_relation_is_left_to_an_equal_teacher() -> None:
    student, _ = outputs()
    distiller = build_distiller(Distill(method="cirkd"), student, student)
    relations = distiller.parts[1]
    relations.projector = nn.Identity()
    terms = distiller(student, student, LABEL)
    assert all(value.item() == pytest.approx(0.0, abs=1e-6) for value in terms.values())


def test_relations_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """With their gradients; and gradcheck, which the parts' recomputation must pass too."""
    source = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> torch.Tensor:
        return F.normalize(torch.randn(*shape, generator=source, dtype=torch.float64), dim=-1)

    student, teacher, s_keys, t_keys = unit(7, 3), unit(7, 4), unit(2, 5, 3), unit(2, 5, 4)
    leaves = [student.requires_grad_(), s_keys.requires_grad_()]
    whole = similarity_kl_loss(student, teacher, s_keys, t_keys)
    expected = torch.autograd.grad(whole, leaves)
    monkeypatch.setattr("ladseg.distillers.similarity_kl.AT_ONCE", 30)
    parts = similarity_kl_loss(student, teacher, s_keys, t_keys)
    torch.testing.assert_close(parts, whole)
    for found, gradient in zip(torch.autograd.grad(parts, leaves), expected, strict=True):
        torch.testing.assert_close(found, gradient)
    assert torch.autograd.gradcheck(lambda s, k: similarity_kl_loss(s, teacher, k, t_keys), leaves)


def test_queues_forget_the_oldest_first() -> None:
    queues = MemoryBank(classes=3, size=4, width=1)
    model: dict[int, list[float]] = {0: [], 1: [], 2: []}
    source = torch.Generator().manual_seed(0)
    value = 0.0
    for count in (1, 5, 0, 3, 17):
        classes = torch.randint(0, 3, (count,), generator=source)
        vectors = torch.arange(count) + value
        value += count
        queues.push(vectors[:, None], classes)
        for number, kind in zip(vectors.tolist(), classes.tolist(), strict=True):
            model[kind] = [*model[kind], number][-4:]
    for kind, expected in model.items():
        assert sorted(queues.vectors[kind, :, 0].tolist()) == expected
    assert queues.cursor.sum() == 26


def test_random_pixels_are_of_their_class_and_distinct() -> None:
    label = torch.tensor([[0, 0, 0, 2, 2, 3], [3, 3, 3, 3, 3, 3]])  # 3 is no class
    positions, valid = random_pixels(label, classes=3, count=2)
    assert valid.sum(2).tolist() == [[2, 0, 2], [0, 0, 0]]
    assert set(positions[0, 2].tolist()) == {3, 4}
    first = positions[0, 0].tolist()
    assert len(set(first)) == 2
    assert set(first) < {0, 1, 2}
    seen = {frozenset(random_pixels(label, 3, 2)[0][0, 0].tolist()) for _ in range(50)}
    assert len(seen) == 3


def test_memories_hold_pixels_and_means_of_the_teacher() -> None:
    student, teacher = outputs(0, (3, 6))
    relations = MemoryDistillation(3, 6, classes=4)
    relations(student, teacher, LABEL)
    small = LABEL[:, ::8, ::8].flatten(1)
    flat = F.normalize(teacher.features["head"], dim=1).flatten(2)
    for kind in range(4):
        members = [flat[n][:, small[n] == kind] for n in range(2)]
        pixels = torch.cat(members, 1).half()
        held = relations.pixels.vectors[kind, : int(relations.pixels.cursor[kind])]
        # Fewer than 16 an image here: all are remembered.
        assert sorted(map(tuple, held.tolist())) == sorted(map(tuple, pixels.T.tolist()))
        means = [F.normalize(image.mean(1), dim=0) for image in members if image.shape[1]]
        assert relations.regions.cursor[kind] == len(means)
        torch.testing.assert_close(
            relations.regions.vectors[kind, : len(means)].float(), torch.stack(means), atol=1e-3, rtol=0
        )
    before = relations.pixels.vectors.clone()
    relations.eval()(student, teacher, LABEL)
    assert torch.equal(relations.pixels.vectors, before)


def rows_and_counts() -> tuple[list[torch.Tensor], torch.Tensor]:
    """Eight rows of both networks; what counts lies unevenly in their halves."""
    source = torch.Generator().manual_seed(0)
    rows = [F.normalize(torch.randn(8, 3, generator=source), dim=1) for _ in range(2)]
    return rows, torch.tensor([True, True, True, True, False, True, False, False])


KEYS = [F.normalize(torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(1)), dim=2)] * 2


def halves(folder: Path) -> None:
    """One process's half of the comparison below."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    student, teacher = outputs(0, (3, 6))
    leaf = student.features["head"].requires_grad_()
    part = slice(rank, rank + 1)
    torch.manual_seed(0)
    distiller = build_distiller(Distill(method="cirkd", options={"gather": True}), student, teacher)
    distiller.parts[1].projector.eval()
    mine = distiller(student.map(lambda value: value[part]), teacher.map(lambda value: value[part]), LABEL[part])
    mine["cirkd_batch"].backward()
    distiller.parts[0].gather = False
    own = distiller.parts[0](student.map(lambda value: value[part]), teacher.map(lambda value: value[part]), LABEL)
    relations = distiller.parts[1]
    queues = {name: value for name, value in relations.named_buffers() if "vectors" in name or "cursor" in name}
    rows, counts = rows_and_counts()
    counted = similarity_kl_loss(
        *(x[4 * rank : 4 * rank + 4] for x in rows), *KEYS, counts=counts[4 * rank : 4 * rank + 4]
    )
    losses = {
        "loss": mine["cirkd_batch"].detach(),
        "cirkd_pixel": mine["cirkd_pixel"].detach(),
        "cirkd_region": mine["cirkd_region"].detach(),
        "gradient": leaf.grad,
        "counted": counted,
        "own": own["cirkd_batch"].detach(),
    }
    torch.save({**losses, **queues}, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_relate_and_remember_as_one(tmp_path: Path) -> None:
    start_two(halves, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    student, teacher = outputs(0, (3, 6))
    leaf = student.features["head"].requires_grad_()
    torch.manual_seed(0)
    distiller = build_distiller(Distill(method="cirkd"), student, teacher)
    distiller.parts[1].projector.eval()
    terms = distiller(student, teacher, LABEL)
    terms["cirkd_batch"].backward()
    # Losses and gradients are means over processes, as DDP takes them.
    torch.testing.assert_close((first["loss"] + second["loss"]) / 2, terms["cirkd_batch"].detach())
    torch.testing.assert_close((first["gradient"] + second["gradient"]) / 2, leaf.grad)
    # Both processes sample the memories at the places that one process would draw.
    for name in ("cirkd_pixel", "cirkd_region"):
        torch.testing.assert_close((first[name] + second[name]) / 2, terms[name].detach())
    # Without gathering each process relates its own image to itself.
    for rank, found in enumerate((first, second)):
        maps = (output.features["head"][rank : rank + 1].detach() for output in (student, teacher))
        assert found["own"].item() == pytest.approx(distillation.batch_relations(*maps), rel=1e-4)
    rows, counts = rows_and_counts()
    torch.testing.assert_close(
        (first["counted"] + second["counted"]) / 2, similarity_kl_loss(*rows, *KEYS, counts=counts)
    )
    relations = distiller.parts[1]
    for name in (name for name in first if name.startswith(("pixels.", "regions."))):
        assert torch.equal(first[name], second[name]), name
    assert torch.equal(first["pixels.cursor"], relations.pixels.cursor)
    assert torch.equal(first["pixels.vectors"], relations.pixels.vectors)
    assert torch.equal(first["regions.vectors"], relations.regions.vectors)
