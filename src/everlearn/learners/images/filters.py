"""Filters learned from patches of some images (Coates, Lee and Ng 2011; Coates and Ng 2012)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everlearn.learners.images.kernels import cut

Single = NDArray[np.float32]

LEAST = 10.0 / 255.0**2
"""Added to a patch's variance: contrast below that of noise is not blown up."""
_WHITEN = 0.1  # added to the eigenvalues
_PATCHES, _ROUNDS = 60_000, 8


@dataclass(frozen=True)
class Filters:
    """Filters ``weights`` float32 (channels * side * side, k), whitening included, and ``offset`` (k,)."""

    weights: Single
    offset: Single


def patches_of(images: Single, side: int, count: int, draw: np.random.Generator) -> Single:
    """About ``count`` patches float32 (n, channels * side * side) at places drawn by chance."""
    n, channels, height, width = images.shape
    spots = (height - side + 1) * (width - side + 1)
    each = min(-(-count // n), spots)
    whole = np.empty((spots, channels * side * side), dtype=np.float32)
    out = np.empty((n * each, whole.shape[1]), dtype=np.float32)
    for i, image in enumerate(images):
        cut(image, side, LEAST, whole)
        out[i * each : (i + 1) * each] = whole[draw.choice(spots, each, replace=False)]
    return out


def learned(images: Single, side: int, count: int, *, mirror: bool, draw: np.random.Generator) -> Filters:
    """Filters from images (n, channels, h, w): whitened patches, and their directions by spherical k-means.

    With ``mirror`` the second half of the filters are the first half's mirror images.
    """
    channels = images.shape[1]
    found = patches_of(images, side, _PATCHES, draw)
    if mirror:
        found = np.concatenate([found, _mirrored(found, channels, side)])
    mean = found.mean(axis=0, dtype=np.float64).astype(np.float32)
    found -= mean
    values, vectors = np.linalg.eigh((found.T @ found).astype(np.float64) / len(found))
    whiten = ((vectors / np.sqrt(np.maximum(values, 0.0) + _WHITEN)) @ vectors.T).astype(np.float32)
    directions = _spherical(found @ whiten, count // 2 if mirror else count, draw)
    weights = whiten @ directions.T
    if mirror:
        weights = np.concatenate([weights, _mirrored(weights.T, channels, side).T], axis=1)
    return Filters(np.ascontiguousarray(weights), np.ascontiguousarray(mean @ weights))


def random(channels: int, side: int, count: int, *, mirror: bool, draw: np.random.Generator) -> Filters:
    """Filters that depend on no image: directions by chance, with mean 0."""
    drawn = draw.normal(size=(count // 2 if mirror else count, channels * side * side))
    drawn -= drawn.mean(axis=1, keepdims=True)
    weights = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).T.astype(np.float32)
    if mirror:
        weights = np.concatenate([weights, _mirrored(weights.T, channels, side).T], axis=1)
    return Filters(np.ascontiguousarray(weights), np.zeros(weights.shape[1], dtype=np.float32))


def _mirrored(patches: Single, channels: int, side: int) -> Single:
    """Patches (n, channels * side * side) with left and right changed."""
    turned: Single = patches.reshape(-1, channels, side, side)[..., ::-1].reshape(len(patches), -1)
    return turned


def _spherical(found: Single, count: int, draw: np.random.Generator) -> Single:
    """``count`` unit directions (count, d): each patch pulls the one that it lies along most, or against."""
    directions = draw.normal(size=(count, found.shape[1])).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for _ in range(_ROUNDS):
        pulled = directions.copy()
        for at in range(0, len(found), 2000):
            part = found[at : at + 2000]
            along = part @ directions.T
            best = np.abs(along).argmax(axis=1)
            share = along[np.arange(len(part)), best]
            order = np.argsort(best, kind="stable")
            starts = np.flatnonzero(np.r_[True, np.diff(best[order]) > 0])
            sums = np.add.reduceat(part[order] * share[order, None], starts, axis=0)
            pulled[best[order][starts]] += sums
        directions = pulled / np.linalg.norm(pulled, axis=1, keepdims=True)
    return directions
