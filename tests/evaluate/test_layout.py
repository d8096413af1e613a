import numpy as np
import pytest

from preftrace.evaluate.layout import Layout, collapse, ways


def layout(clusters, crossed="", units=""):
    pad = len(clusters)
    return Layout(list(clusters), list(crossed) or [""] * pad, list(units) or [""] * pad)


def test_units_are_averaged_and_keep_the_labels_of_their_first_item():
    values = np.array([[1.0, 0.0], [3.0, 1.0], [5.0, 1.0], [7.0, 0.0]])
    found, own = collapse(values, Layout(list("aabb"), list("xyxy"), ["u", "", "u", ""]))
    np.testing.assert_allclose(found, [[3, 0.5], [3, 1], [7, 0]])
    assert own.clusters == ["a", "a", "b"] and own.crossed == ["x", "y", "y"]


def test_without_units_nothing_changes():
    values = np.eye(3)
    assert collapse(values, layout("abc"))[0] is values


@pytest.mark.parametrize(
    ("clusters", "crossed", "counts", "why"),
    [
        ("aabb", "xyxy", (2, 2), "they cross"),
        ("aabb", "xxxx", (2, 0), "one second cluster says nothing"),
        ("aaaa", "xyzx", (3, 0), "one first cluster: the second is what there is"),
        ("aabb", "wxyz", (2, 0), "the second lies within the first, which is the coarser"),
        ("abcd", "xxyy", (2, 0), "the first lies within the second"),
        ("aabb", ["x", "", "x", "y"], (2, 3), "an item without a second cluster has its own cluster there"),
    ],
)
def test_a_way_that_says_nothing_is_dropped(clusters, crossed, counts, why):
    assert ways(layout(clusters, crossed)).counts == counts, why
