"""Unit quaternions (wxyz) and rotation matrices.

Letters: `...` any batch shape. Quaternions q and −q are the same rotation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def quats_to_matrices(quats: Tensor) -> Tensor:
    """Convert quaternions of any length to rotation matrices, [..., 4] → [..., 3, 3]."""
    w, x, y, z = F.normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).reshape(*quats.shape[:-1], 3, 3)


def matrices_to_quats(matrices: Tensor) -> Tensor:
    """Convert rotation matrices to unit quaternions with w ≥ 0, [..., 3, 3] → [..., 4].

    The largest component is computed first and the others are divided by it, so that neither sign
    nor precision is lost near half turns.
    """
    m = matrices
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    squares = torch.stack(
        [1 + trace, *(1 + 2 * m[..., i, i] - trace for i in range(3))], dim=-1
    )  # 4 w², 4 x², 4 y², 4 z²
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    w2, x2, y2, z2 = squares.unbind(-1)
    products = torch.stack(  # row k is 4 q_k q
        [
            torch.stack([w2, a, b, c], dim=-1),
            torch.stack([a, x2, d, e], dim=-1),
            torch.stack([b, d, y2, f], dim=-1),
            torch.stack([c, e, f, z2], dim=-1),
        ],
        dim=-2,
    )
    largest = squares.argmax(dim=-1)
    row = products.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4)).squeeze(-2)
    row = torch.where(row[..., :1] < 0, -row, row)
    return F.normalize(row, dim=-1)


def multiply_quats(left: Tensor, right: Tensor) -> Tensor:
    """Compute the Hamilton product: rotate by `right`, then by `left`. [..., 4] each, broadcast."""
    w1, x1, y1, z1 = left.unbind(-1)
    w2, x2, y2, z2 = right.unbind(-1)
    return torch.stack(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ],
        dim=-1,
    )


def invert_quats(quats: Tensor) -> Tensor:
    """Invert unit quaternions, [..., 4]."""
    return quats * quats.new_tensor([1.0, -1.0, -1.0, -1.0])


def rigid_motion(
    source: Tensor, target: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Find the rotation R and the offset o that minimize Σ w |R x + o − y|².

    Source: Kabsch, A solution for the best rotation to relate two sets of vectors, 1976.

    Args:
        source: x, [M, 3].
        target: y, [M, 3].
        weights: w, non-negative, [M]; None: equal weights.

    Returns:
        R [3, 3] and o [3].
    """
    weights = source.new_ones(len(source)) if weights is None else weights
    w = (weights / weights.sum())[:, None]
    x, y = (w * source).sum(0), (w * target).sum(0)
    u, _, vh = torch.linalg.svd((w * (source - x)).T @ (target - y))
    signs = source.new_ones(3)
    signs[2] = torch.linalg.det(vh.T @ u.T).sign()  # a rotation, not a reflection
    rotation = vh.T @ torch.diag(signs) @ u.T
    return rotation, y - rotation @ x
