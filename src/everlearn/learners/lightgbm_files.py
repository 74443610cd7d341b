"""LightGBM's text, checked before LightGBM reads it: its own reader ends the process on damaged text.

The text is a header and trees, each ``name=value`` a line; ``tree_sizes`` of the header says where each tree
begins. Checked is all that leads the reader or an answer from place to place: sizes, lengths, columns,
children and categories.
"""

from __future__ import annotations

import itertools
import math

_END = "end of trees"
_SPLITS = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_SPLIT_EXTRAS = ("split_gain", "internal_value", "internal_weight", "internal_count")
_LEAVES = ("leaf_value", "leaf_weight", "leaf_count")
_CATEGORICAL = 1  # the bit of decision_type for a split by categories


def trees_of(text: str) -> str:
    """The text up to its last tree, without importances and settings, which no answer depends on."""
    return text.partition(_END)[0] + _END + "\n"


def check(text: str, width: int, classes: int) -> None:
    """Raise ValueError unless a text holds whole trees on ``width`` columns for ``classes`` a round."""
    if not text.isascii() or "\r" in text or "\0" in text:
        raise ValueError("the text is not plain")
    start = text.find("Tree=0\n")
    if start < 0:
        raise ValueError("there are no trees")
    header = _pairs(text[:start].removeprefix("\ntree\n").removeprefix("tree\n"))
    fixed = {
        "version": "v4",
        "num_class": str(classes),
        "num_tree_per_iteration": str(classes),
        "max_feature_idx": str(width - 1),
    }
    for name, value in fixed.items():
        if header[name] != value:
            raise ValueError(f"{name} is {header[name][:20]!r}, not {value}")
    if len(header["feature_names"].split()) != width or len(header["feature_infos"].split(" ")) != width:
        raise ValueError("the header does not name each column")
    sizes = [_whole(size) for size in header["tree_sizes"].split()]
    if min(sizes) <= 0 or len(sizes) % classes or set(header) - _HEADER:
        raise ValueError("the header is not whole")
    for number, size in enumerate(sizes):
        lines = text[start : start + size]
        if not lines.startswith(f"Tree={number}\n") or not lines.endswith("\n"):
            raise ValueError(f"tree {number} is not where it should be")
        _check_tree(_pairs(lines), width)
        start += size
    if text[start:] != _END + "\n":
        raise ValueError("something follows the trees")


_HEADER = {
    *("version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx", "objective"),
    *("feature_names", "feature_infos", "tree_sizes"),
}
_TREE = {
    *("Tree", "num_leaves", "num_cat", "cat_boundaries", "cat_threshold", "is_linear", "shrinkage"),
    *_SPLITS,
    *_SPLIT_EXTRAS,
    *_LEAVES,
}


def _check_tree(tree: dict[str, str], width: int) -> None:
    leaves, categories = _whole(tree["num_leaves"]), _whole(tree["num_cat"])
    if leaves < 1 or categories < 0 or tree.get("is_linear", "0") != "0" or set(tree) - _TREE:
        raise ValueError("a tree is of another kind")
    if not math.isfinite(float(tree["shrinkage"])):
        raise ValueError("a tree's shrinkage is not finite")
    lengths = {**dict.fromkeys(_SPLITS + _SPLIT_EXTRAS, leaves - 1), **dict.fromkeys(_LEAVES, leaves)}
    for name, length in lengths.items():
        values = tree.get(name, "").split()
        absent = not values and (leaves == 1 and name != "leaf_value")
        if not absent and len(values) != length:
            raise ValueError(f"{name} has {len(values)} values, not {length}")
        # A threshold may be infinite: all that is not missing on one side.
        allowed = math.isfinite if name in _LEAVES else _is_number
        if not all(allowed(float(value)) for value in values):
            raise ValueError(f"{name} is not finite")
    ends = [_whole(end) for end in tree.get("cat_boundaries", "0").split()]
    bits = [_whole(part) for part in tree.get("cat_threshold", "").split()]
    rising = all(a < b for a, b in itertools.pairwise(ends))
    if len(ends) != categories + 1 or ends[0] != 0 or ends[-1] != len(bits) or not rising:
        raise ValueError("the categories of a tree are not whole")
    if leaves > 1:
        _check_splits(tree, leaves, categories, width)


def _check_splits(tree: dict[str, str], leaves: int, categories: int, width: int) -> None:
    """Columns and categories that are there; children that come later, so that every way ends in a leaf."""
    features, thresholds, kinds, left, right = (tree[name].split() for name in _SPLITS)
    for node in range(leaves - 1):
        if not 0 <= _whole(features[node]) < width:
            raise ValueError(f"there is no column {features[node]}")
        for child in (_whole(left[node]), _whole(right[node])):
            if not (node < child < leaves - 1 or -leaves <= child < 0):
                raise ValueError(f"node {node} leads to {child}")
        if _whole(kinds[node]) & _CATEGORICAL and not 0 <= _whole(thresholds[node]) < categories:
            raise ValueError(f"node {node} has no categories")


def _pairs(lines: str) -> dict[str, str]:
    pairs = [line.partition("=") for line in lines.split("\n") if line]
    found = {name: value for name, sign, value in pairs if sign}
    if len(found) != len(pairs):
        raise ValueError("a line is no 'name=value', or comes twice")
    return found


def _is_number(value: float) -> bool:
    return not math.isnan(value)


def _whole(text: str) -> int:
    if not text.removeprefix("-").isdecimal():
        raise ValueError(f"{text[:20]!r} is no whole number")
    return int(text)
