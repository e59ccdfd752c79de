"""Teachers: what they learn from, and where their files lie."""

import time
from pathlib import Path

import torch
from torch import Tensor, nn

from ladseg.distillers.cwd import cwd_loss
from ladseg.losses.cross_entropy import cross_entropy
from ladseg.models import widen_input
from ladseg.seeds import derive_seed, generator_for
from ladseg.training.schedule import poly_lr

from .batches import Stream, last
from .channels import Channel, Zero, noise_draws
from .networks import forward, network, optimizer, set_lr, supervision
from .records import evaluate, miou, record
from .setting import BLIND, LONG_UNITS, SETTINGS, TEACHER_SEED, TEACHER_UNITS, WARMUP, Batch, weights_file


def train_teacher(name: str, setting: str, seed: int, start: dict, units: int, peak: float) -> nn.Module:
    """A teacher from the weights of a plain student: two paths of half as many steps, or one path without a label."""
    kind, *tags = name.split("@")
    channel = None if kind == "self" else Channel(kind)
    net = network(setting, seed)
    net.load_state_dict(start)
    if channel:
        widen_input(net, 1, slice_std=0.1, generator=generator_for(seed, "slice"))
    net = net.to(memory_format=torch.channels_last).train()
    opt, stream = optimizer(net), Stream(setting, seed + 1000)
    torch.manual_seed(derive_seed(seed, "dropout", name))
    paths = 1 if channel is None or "one" in tags else 2
    steps = units // paths
    for step in range(steps):
        set_lr(opt, poly_lr(step, peak, steps, WARMUP))
        opt.zero_grad()
        teacher_loss(net, stream[step], channel, paths, 0.0 if "noc" in tags else 1.0).backward()
        opt.step()
    return net


def teacher_loss(net: nn.Module, batch: Batch, channel: Channel | None, paths: int, consistency: float) -> Tensor:
    image, label = batch["image"], batch["label"]
    if channel is None:
        return supervision(forward(net, image), label)
    shown = [torch.cat([image, channel(label, noise_draws(batch, path))], 1) for path in range(1, paths + 1)]
    answers = forward(net, last(torch.cat(shown))).logits.chunk(paths)
    loss = torch.stack([cross_entropy(answer, label) for answer in answers]).sum()
    return loss + consistency * cwd_loss(*answers) if consistency and paths == 2 else loss


def teacher(name: str, setting: str, seed: int) -> None:
    began = time.process_time()
    total, peak, units = SETTINGS[setting].steps, SETTINGS[setting].lr, own_units(name, setting)
    if "@cold" in name:
        net = train_teacher(name, setting, seed, network(setting, seed).state_dict(), units, peak)
    else:
        start = torch.load(weights_file(f"plain{total}", setting, seed))["last"]
        net = train_teacher(name, setting, seed, start, units, peak / 2)
    kind = name.split("@")[0]
    channel = None if kind == "self" else Channel(kind)
    torch.save(net.state_dict(), weights_file(f"teacher-{name}", setting, seed))
    row = {"name": f"teacher-{name}", "setting": setting, "seed": seed, "units": units}
    row |= {split: miou(evaluate(net, setting, split, channel)) for split in ("val", "train")}
    row["zero"] = miou(evaluate(net, setting, "val", channel and Zero()))
    record(row | {"cpu_s": time.process_time() - began})


def own_units(kind: str, setting: str) -> int:
    """The compute of a teacher's own training."""
    if "@cold" in kind or "@full" in kind:
        return SETTINGS[setting].steps
    return LONG_UNITS if "@long" in kind else TEACHER_UNITS


def teacher_file(kind: str, setting: str, seed: int) -> Path:
    """Of a teacher's kind, ``plain`` or with its tags, for the student of this seed."""
    name, *tags = kind.split("@")
    by_tag = {"own": seed, "pair": TEACHER_SEED + seed} | {tag: int(tag) for tag in tags if tag.isdigit()}
    whose = next((by_tag[tag] for tag in tags if tag in by_tag), TEACHER_SEED)
    made = "@".join([name, *(tag for tag in tags if tag in ("noc", "long", "one", "cold", "full"))])
    setting = teacher_setting(kind, setting)
    return weights_file(f"plain{SETTINGS[setting].steps}" if name == "plain" else f"teacher-{made}", setting, whose)


def members(kind: str) -> list[str]:
    """The kinds of a committee's teachers, ``self@10`` and ``self@11`` for ``self@10+11``; one for any other kind."""
    seeds = next((tag for tag in kind.split("@") if "+" in tag), None)
    return [kind.replace(seeds, seed) for seed in seeds.split("+")] if seeds else [kind]


def teacher_setting(kind: str, setting: str) -> str:
    return f"{setting}-strong" if "@strong" in kind else setting


def finished_teacher(kind: str, setting: str, seed: int) -> nn.Module:
    net = network(teacher_setting(kind, setting), seed, 3 if kind.startswith(BLIND) else 4)
    saved = torch.load(teacher_file(kind, setting, seed))
    net.load_state_dict(saved.get("last", saved))
    return net
