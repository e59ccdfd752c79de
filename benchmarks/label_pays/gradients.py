"""The norm of CWD's gradient beside the cross-entropy's."""

from collections import defaultdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ladseg.distillers.cwd import cwd_loss
from ladseg.label_noise import LabelNoise
from ladseg.losses.cross_entropy import cross_entropy
from ladseg.training.schedule import poly_lr

from .batches import Stream, last
from .channels import noise_draws
from .networks import forward, optimizer, set_lr
from .records import record
from .setting import CLASSES, IGNORE, SETTINGS, TEACHER_SEED, Batch
from .student import gradient_norm, trunk
from .teachers import finished_teacher


def gradient_table(setting: str) -> None:
    for classes, factor in [(2, 1), (5, 1), (11, 1), (22, 1), (44, 1), (88, 1), (11, 0.5), (11, 2)]:
        student, tutor = trunk(setting, TEACHER_SEED).net, finished_teacher("fixed", setting, TEACHER_SEED).train()
        channel = LabelNoise(classes, 0.01, IGNORE, 1.0, "fixed")
        stream = Stream(setting, TEACHER_SEED + 1000)
        for net in (student, tutor):
            new_classifier(net, classes)
        opts = [optimizer(student), optimizer(tutor)]
        rows = defaultdict(list)
        for step in range(46):
            batch = scaled(relabelled(stream[step], classes), factor)
            four = last(torch.cat([batch["image"], channel(batch["label"], noise_draws(batch, 1))], 1))
            if step < 40:
                for net, opt, image in zip((student, tutor), opts, (batch["image"], four), strict=True):
                    set_lr(opt, poly_lr(step, SETTINGS[setting].lr / 2, 40, 5))
                    opt.zero_grad()
                    cross_entropy(forward(net, image).logits, batch["label"]).backward()
                    opt.step()
                continue
            with torch.no_grad():
                answer = forward(tutor.eval(), four).logits
            logits = forward(student, batch["image"]).logits
            supervised = cross_entropy(logits, batch["label"])
            for tau in (1.0, 4.0):
                distilled = cwd_loss(logits, answer, tau)
                places = ((logits,), tuple(student.parameters()))
                rows[tau].append([gradient_norm(loss, *at) for at in places for loss in (supervised, distilled)])
        for tau, norms in rows.items():
            means = np.mean(norms, 0)
            row = {"name": "gradnorm", "setting": setting, "seed": TEACHER_SEED, "classes": classes, "tau": tau}
            row |= {
                "map": list(logits.shape[-2:]),
                "logit_ratio": means[1] / means[0],
                "param_ratio": means[3] / means[2],
            }
            record(row)


def new_classifier(net: nn.Module, classes: int) -> None:
    """The head's last convolution with so many outputs; the eleven of the data set keep what they have learned."""
    path, old = [(path, part) for path, part in net.head.named_modules() if isinstance(part, nn.Conv2d)][-1]
    if classes != CLASSES:
        torch.manual_seed(0)
        parent, _, leaf = path.rpartition(".")
        setattr(net.head.get_submodule(parent), leaf, nn.Conv2d(old.in_channels, classes, 1))


def relabelled(batch: Batch, classes: int) -> Batch:
    """The classes merged to 2 or 5, or each split by brightness, which a network can tell apart."""
    label = batch["label"]
    ids = label.clamp(max=CLASSES - 1)
    if classes < CLASSES:
        merged = [0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1] if classes == 2 else [0, 1, 1, 2, 2, 3, 1, 1, 4, 4, 4]
        ids = torch.tensor(merged)[ids]
    elif classes > CLASSES:
        parts = classes // CLASSES
        grey = batch["image"].mean(1).contiguous()
        ids = ids * parts + torch.bucketize(grey, torch.quantile(grey.flatten()[::7], torch.arange(1, parts) / parts))
    return batch | {"label": torch.where(label == IGNORE, IGNORE, ids)}


def scaled(batch: Batch, factor: float) -> Batch:
    size = [round(side * factor) for side in batch["label"].shape[-2:]]
    image = F.interpolate(batch["image"], size, mode="bilinear", antialias=True)
    label = F.interpolate(batch["label"][:, None].float(), size, mode="nearest")[:, 0].long()
    return batch | {"image": last(image), "label": label}
