"""Derive seeds from their purpose, so that nothing depends on the state of a global generator.

A random draw that is a function of (seed, step, position) does not depend on the number of workers, processes or
restarts.
"""

import hashlib

import torch


def derive_seed(*parts: int | str) -> int:
    """Hash the parts into one seed in ``[0, 2**63)``; equal parts give the same seed on every machine."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_for(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a new generator on ``device``, seeded with :func:`derive_seed` of the parts."""
    return torch.Generator(device=device).manual_seed(derive_seed(*parts))
