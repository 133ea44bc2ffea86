"""Dynamic trees of heads that read the path (tokens: "path"), for the simulation of tree_simulation.py.

Such heads propose anew for each path of the tree, so a tree takes a run of head k over all its nodes of depth k. The
static tree and the bound need none of that: along the true path, the only one they look at, the proposals are the
teacher-forced ones of `propose`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from .model import MedusaHeads
from .shards import Rollouts
from .tree_simulation import Path, depth_within


@torch.inference_mode()
def sequential_best_first_tree(
    heads: MedusaHeads, hidden: np.ndarray, root: int, temperatures: list[float], nodes: int, width: int = 32
) -> list[Path]:
    """The nodes - 1 most probable rank paths, most probable first. hidden [H]: the state that chose `root`.

    A level at a time: only nodes among the nodes - 1 best so far can have children in the tree (a child is never more
    probable than its parent), so those are all that the next head is run on.
    """
    state = torch.from_numpy(hidden).float()[None].to(heads.token_map.device)
    paths: list[Path] = [()]
    tokens = torch.tensor([[root]], device=state.device)
    above = torch.ones(1, device=state.device)
    found: list[tuple[float, Path]] = []
    for k in range(heads.config.heads):
        logits = torch.nn.functional.linear(heads.trunk(state.expand(len(paths), -1), k, tokens), heads.output_of(k))
        top = torch.softmax(logits / temperatures[k], -1).topk(min(width, logits.shape[1]), dim=-1)
        probabilities = (above[:, None] * top.values).flatten()
        # No more than nodes - 1 of a level can be in the tree.
        best = probabilities.topk(min(nodes - 1, len(probabilities)))
        parents = best.indices // top.values.shape[1]
        ranks = best.indices % top.values.shape[1]
        level = [(*paths[p], r) for p, r in zip(parents.tolist(), ranks.tolist(), strict=True)]
        chosen = heads.token_map[top.indices.flatten()[best.indices]]
        tokens = torch.cat((tokens[parents], chosen[:, None]), dim=1)
        found += zip(best.values.tolist(), level, strict=True)
        # Equal probabilities: the shallower first, so that a parent comes before its children.
        found.sort(key=lambda each: (-each[0], len(each[1])))
        found = found[: nodes - 1]
        kept = {path for _, path in found}
        open_rows = [i for i, path in enumerate(level) if path in kept]
        if not open_rows:
            break
        paths, tokens, above = [level[i] for i in open_rows], tokens[open_rows], best.values[open_rows]
    return [path for _, path in found]


def sequential_tree(
    heads: MedusaHeads, rollouts: Rollouts, temperatures: list[float], nodes: int, width: int = 32
) -> Callable[[int, list[int]], int]:
    """A fresh tree at every row, for `simulate` on the proposals that `propose` makes of the same rollouts."""

    def depth(row: int, ranks: list[int]) -> int:
        if not ranks or nodes < 2:
            return 0
        root = int(rollouts.tokens[row])
        tree = sequential_best_first_tree(heads, rollouts.hidden[row], root, temperatures, nodes, width)
        return depth_within(set(tree), ranks)

    return depth
