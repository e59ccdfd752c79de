"""What a word of the command line may be."""

import argparse


def seeds(word: str) -> list[int]:
    found = word.split(",")
    if not all(seed.isdigit() for seed in found):
        raise argparse.ArgumentTypeError(f"'{word}' is no list of seeds, such as 0,1,2")
    return [int(seed) for seed in found]


def cell(word: str) -> tuple[str, int]:
    method, _, seed = word.rpartition(":")
    if not method or not seed.isdigit():
        raise argparse.ArgumentTypeError(f"'{word}' is not METHOD:SEED, such as lad:0")
    return method, int(seed)


def scales(word: str) -> tuple[float, ...]:
    try:
        return tuple(float(scale) for scale in word.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{word}' is no list of factors, such as 0.75,1,1.25") from None


def size(word: str) -> tuple[int, int]:
    height, _, width = word.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"'{word}' is not HEIGHTxWIDTH, such as 512x1024")
    return int(height), int(width)
