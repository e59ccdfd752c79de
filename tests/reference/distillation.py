"""The rivals' losses from their papers' formulas, value by value in float64."""

import math
import statistics

import torch
from torch import Tensor, nn

from tests.reference.equations import softmax


def feature(student: Tensor, teacher: Tensor) -> float:
    """Mean of squared differences."""
    pairs = zip(student.double().flatten().tolist(), teacher.double().flatten().tolist(), strict=True)
    return statistics.fmean((s - t) ** 2 for s, t in pairs)


def attention(feature: Tensor) -> list[list[float]]:
    """Of each image: the mean of squares over channels at each position, over the Euclidean length of them all."""
    rows = []
    for image in feature.double():
        values = []
        for y in range(image.shape[1]):
            values += [statistics.fmean(v * v for v in image[:, y, x].tolist()) for x in range(image.shape[2])]
        length = math.sqrt(sum(v * v for v in values))
        rows.append([v / length for v in values])
    return rows


def at(student: Tensor, teacher: Tensor) -> float:
    """Mean over images and positions of squared differences of the two attention maps."""
    total, count = 0.0, 0
    for s_row, t_row in zip(attention(student), attention(teacher), strict=True):
        for s, t in zip(s_row, t_row, strict=True):
            total, count = total + (s - t) ** 2, count + 1
    return total / count


def dist(student: Tensor, teacher: Tensor, tau: float) -> tuple[float, float]:
    """DIST's Eq. 8 to 10 by Python's own Pearson correlation: over classes at each position, then the other way."""
    images, classes, height, width = student.shape
    probabilities: list[list[list[float]]] = []
    for logits in (student.double(), teacher.double()):
        places = [(n, y, x) for n in range(images) for y in range(height) for x in range(width)]
        probabilities.append([softmax([v / tau for v in logits[n, :, y, x].tolist()]) for n, y, x in places])
    by_place = zip(*probabilities, strict=True)
    inter = statistics.fmean(1 - statistics.correlation(s, t) for s, t in by_place)
    by_class = [[[row[c] for row in rows] for c in range(classes)] for rows in probabilities]
    intra = statistics.fmean(1 - statistics.correlation(s, t) for s, t in zip(*by_class, strict=True))
    return tau**2 * inter, tau**2 * intra


def cosine(a: list[float], b: list[float]) -> float:
    lengths = math.sqrt(sum(v * v for v in a)) * math.sqrt(sum(v * v for v in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths


def pairwise(student: Tensor, teacher: Tensor) -> float:
    """SKD: cosines between all pairs of positions of 2x2-max-pooled maps; the mean squared difference."""
    matrices = []
    for feature in (student.double(), teacher.double()):
        rows = []
        for image in feature:
            height, width = image.shape[1:]
            places = [
                [max(image[c, y : y + 2, x : x + 2].flatten().tolist()) for c in range(len(image))]
                for y in range(0, height, 2)
                for x in range(0, width, 2)
            ]
            rows += [cosine(a, b) for a in places for b in places]
        matrices.append(rows)
    return statistics.fmean((s - t) ** 2 for s, t in zip(*matrices, strict=True))


def ifv(student: Tensor, teacher: Tensor, label: Tensor, classes: int) -> float:
    """IFVD: cosine of each position's feature to its class's mean one in its image; the label has the map's size."""
    likeness: list[list[float]] = []
    for feature in (student.double(), teacher.double()):
        found = []
        for image, ids in zip(feature, label, strict=True):
            vectors = image.flatten(1).T.tolist()
            flat = ids.flatten().tolist()
            for vector, own in zip(vectors, flat, strict=True):
                members = [v for v, other in zip(vectors, flat, strict=True) if other == own]
                centre = [statistics.fmean(column) for column in zip(*members, strict=True)]
                found.append(cosine(vector, centre) if 0 <= own < classes else 1.0)
        likeness.append(found)
    return statistics.fmean((s - t) ** 2 for s, t in zip(*likeness, strict=True))


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length for v in vector]


def relation(
    student: list[list[float]],
    teacher: list[list[float]],
    student_keys: list[list[list[float]]],
    teacher_keys: list[list[list[float]]],
    temperature: float = 0.1,
) -> float:
    """CIRKD: of each row and group of keys, KL(teacher || student) of the softmaxes over scaled dot products."""

    def distribution(row: list[float], keys: list[list[float]]) -> list[float]:
        return softmax([sum(a * b for a, b in zip(row, key, strict=True)) / temperature for key in keys])

    total = []
    for s, t in zip(student, teacher, strict=True):
        for s_keys, t_keys in zip(student_keys, teacher_keys, strict=True):
            ours, theirs = distribution(s, s_keys), distribution(t, t_keys)
            total.append(sum(q * (math.log(q) - math.log(p)) for p, q in zip(ours, theirs, strict=True) if q > 0))
    return statistics.fmean(total)


def rows(feature: Tensor) -> list[list[list[float]]]:
    """Of each image, the features of its positions, each of length one."""
    return [
        [unit(image[:, y, x].tolist()) for y in range(image.shape[1]) for x in range(image.shape[2])]
        for image in feature.double()
    ]


def batch_relations(student: Tensor, teacher: Tensor) -> float:
    """CIRKD, Eq. 6 and 7: the positions of each image to those of each."""
    ours, theirs = rows(student), rows(teacher)
    return statistics.fmean(relation(s, t, ours, theirs) for s, t in zip(ours, theirs, strict=True))


def psd(students: list[Tensor], teachers: list[Tensor]) -> float:
    """DSD: squared differences of the directions in which attention changes between each two maps of a network."""

    def changes(maps: list[Tensor]) -> list[list[list[float]]]:
        attentions = [attention(feature) for feature in maps]
        found = []
        for n in range(len(maps)):
            for m in range(n + 1, len(maps)):
                pairs = zip(attentions[n], attentions[m], strict=True)
                found.append([unit([b - a for a, b in zip(before, after, strict=True)]) for before, after in pairs])
        return found

    means = []
    for ours, theirs in zip(changes(students), changes(teachers), strict=True):
        rows = zip(ours, theirs, strict=True)
        means.append(statistics.fmean((s - t) ** 2 for a, b in rows for s, t in zip(a, b, strict=True)))
    return statistics.fmean(means)


def csd(student: Tensor, teacher: Tensor, tau: float) -> float:
    """DSD: squared differences of Gram matrices of softmaxes over 2x2 means of the scores of each class."""

    def overlaps(logits: Tensor) -> list[float]:
        values = []
        for image in logits.double():
            places = []
            for score in image:
                height, width = score.shape
                corners = [(y, x) for y in range(0, height, 2) for x in range(0, width, 2)]
                means = [statistics.fmean(score[y : y + 2, x : x + 2].flatten().tolist()) for y, x in corners]
                places.append(softmax([v / tau for v in means]))
            values += [sum(p * q for p, q in zip(a, b, strict=True)) for a in places for b in places]
        return values

    return statistics.fmean((s - t) ** 2 for s, t in zip(overlaps(student), overlaps(teacher), strict=True))


def masks(logits: Tensor, tokens: Tensor) -> list[list[list[float]]]:
    """MasKD: of each image and token, the sigmoid of its product with each position's logits."""
    found = []
    for image in logits.double():
        positions = [image[:, y, x].tolist() for y in range(image.shape[1]) for x in range(image.shape[2])]
        products = [[sum(a * b for a, b in zip(token, p, strict=True)) for p in positions] for token in tokens.tolist()]
        found.append([[1 / (1 + math.exp(-v)) for v in row] for row in products])
    return found


def maskd(student: Tensor, teacher: Tensor, tokens: Tensor) -> float:
    """MasKD: half the mean over images, masks and classes of masked squared errors over the mask's size.

    Masks are of the teacher's logits that are given.
    """
    terms = []
    for s, t, regions in zip(student.double(), teacher.double(), masks(teacher, tokens), strict=True):
        for mask in regions:
            for a, b in zip(s.flatten(1).tolist(), t.flatten(1).tolist(), strict=True):
                errors = [(m * x - m * y) ** 2 for m, x, y in zip(mask, a, b, strict=True)]
                terms.append(sum(errors) / (sum(mask) + 1e-5))
    return 0.5 * statistics.fmean(terms)


def cwd_features(projected: Tensor, teacher: Tensor, tau: float, divisor: int) -> float:
    """CWD of features: KL of each channel's softmaxes over positions, summed, over images times ``divisor``."""
    total = 0.0
    for s_image, t_image in zip(projected.double().flatten(2), teacher.double().flatten(2), strict=True):
        for s_channel, t_channel in zip(s_image.tolist(), t_image.tolist(), strict=True):
            ours, theirs = (softmax([v / tau for v in channel]) for channel in (s_channel, t_channel))
            total += sum(q * (math.log(q) - math.log(p)) for p, q in zip(ours, theirs, strict=True))
    return tau**2 * total / (len(teacher) * divisor)


def dice(logits: Tensor, tokens: Tensor) -> float:
    """MasKD: mean Dice coefficient of each two masks of an image."""
    found = []
    for regions in masks(logits, tokens):
        for i, a in enumerate(regions):
            for j, b in enumerate(regions):
                if i != j:
                    product = sum(x * y for x, y in zip(a, b, strict=True))
                    found.append(2 * product / (sum(x * x for x in a) + sum(y * y for y in b)))
    return statistics.fmean(found)


def convolution(image: Tensor, weight: Tensor, bias: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """The sum over a kernel's places of what it sees there, in float64."""
    image, weight = image.double(), weight.double()
    height, width = image.shape[2] + 2 * padding, image.shape[3] + 2 * padding
    padded = torch.zeros(*image.shape[:2], height, width, dtype=torch.float64)
    padded[:, :, padding : height - padding, padding : width - padding] = image
    rows, columns = weight.shape[2:]
    total: Tensor | float = 0.0
    for y in range(rows):
        for x in range(columns):
            seen = padded[:, :, y : height - rows + y + 1 : stride, x : width - columns + x + 1 : stride]
            total = total + torch.einsum("oi,nihw->nohw", weight[:, :, y, x], seen)
    return total + bias.double()[:, None, None]


def mgd(student: Tensor, teacher: Tensor, kept: Tensor, first: nn.Conv2d, second: nn.Conv2d) -> float:
    """MGD, Eq. 4 and 5: the sum over channels and positions of squared errors of what is generated, mean over images.

    ``student`` has the teacher's width; ``kept`` ``(N, 1, h, w)`` is 0 where it is masked out.
    """
    hidden = convolution(student * kept, first.weight, first.bias, padding=1).clamp(min=0)
    generated = convolution(hidden, second.weight, second.bias, padding=1)
    errors = (generated - teacher.double()).square().flatten(1).tolist()
    return statistics.fmean(sum(image) for image in errors)


def discriminator(scores: Tensor, norm: nn.BatchNorm2d, layers: nn.Sequential) -> Tensor:
    """Batch norm; convolutions of spectral norm one, stride 2; self-attention; a last convolution. In float64.

    ``layers`` gives the weights; what each does is written out here.
    """
    x = scores.double()
    mean, spread = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    x = (x - mean) / (spread + norm.eps).sqrt() * norm.weight.double()[:, None, None]
    x = x + norm.bias.double()[:, None, None]
    for layer in layers[:-1]:
        if isinstance(layer, nn.Conv2d):
            raw = layer.parametrizations.weight.original.double()
            x = convolution(x, raw / torch.linalg.matrix_norm(raw.flatten(1), 2), layer.bias, stride=2, padding=1)
        elif isinstance(layer, nn.LeakyReLU):
            x = torch.where(x > 0, x, 0.1 * x)
        else:
            query, key, value = (
                convolution(x, part.weight, part.bias).flatten(2) for part in (layer.query, layer.key, layer.value)
            )
            weights = (query.transpose(1, 2) @ key).exp()  # of each position to all
            weights = weights / weights.sum(2, keepdim=True)
            x = x + layer.gamma.double() * (value @ weights.transpose(1, 2)).view_as(x)
    return convolution(x, layers[-1].weight, layers[-1].bias)
