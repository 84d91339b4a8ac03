"""Each metric against an independent computation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import jaccard_score, roc_auc_score

from dsedge.errors import LoadError
from dsedge.metrics import METRICS
from dsedge.metrics.sequences import edit_distance


def value(name: str, outputs: object, labels: object, batches: int = 1) -> float:
    """The metric of one output, its samples in so many batches."""
    metric = METRICS[name]
    pairs = zip(np.array_split(np.asarray(outputs), batches), np.array_split(np.asarray(labels), batches), strict=True)
    return metric.total([metric.partial([output], label) for output, label in pairs])


def test_top_k() -> None:
    scores = [[0.1, 0.9, 0.5], [0.7, 0.7, 0.1], [0.0, 0.2, 0.3], [0.3, 0.2, 0.1]]
    assert value("top1", scores, [1, 1, 2, 0]) == 75.0, "of equal scores argmax takes the first"
    assert value("top5", scores, [0, 0, 0, 0]) == 100.0
    assert value("top5", np.arange(20.0)[None].repeat(2, 0), [15, 14]) == 50.0
    assert value("top1", np.array([1, 2, 3]), [1, 2, 2]) == pytest.approx(100 * 2 / 3), "class ids"
    assert value("top1", np.array([[1], [2]]), [[1], [0]]) == 50.0
    assert value("top1", np.eye(3)[:, :, None, None], [0, 1, 0]) == pytest.approx(100 * 2 / 3), "as pooling leaves it"


@pytest.mark.parametrize(
    ("metric", "outputs", "labels", "words"),
    [
        ("top1", [[0.1, 0.9]], [1.0], "integer labels"),
        ("top1", [[0.1, 0.9]], [2], "2 classes"),
        ("top1", [[0.1, 0.9]], [-1], "labels go from -1"),
        ("top5", [[0.1, 0.9]], [0, 1], "2 labels for 1 rows"),
        ("auc", [0.1, 0.9], [1, 1], "both must occur"),
        ("auc", [0.1, 0.9], [1, 2], "0 or 1"),
        ("auc", [[0.1, 0.9, 0.2]], [1], "two classes"),
        ("spearman", [0.1, 0.9], [1, 1], "labels that differ"),
        ("spearman", [[0.1, 0.9]], [1], "a number a sample"),
        ("mae", [[0.1, 0.9]], [1.0], "2 outputs"),
        ("psnr", [[0.1, 0.9]], [[1.0, 255.0]], "from 0 to 1"),
        ("psnr", [[0.1, 0.9]], [[1.0, 0.5, 0.2]], "3 labels"),
        ("si-sdr", [[0.1, 0.9]], [[0.0, 0.0]], "not silent"),
        ("miou", np.zeros((1, 2, 3, 3)), np.zeros((1, 3, 4), int), r"labels \[1, 3, 4\]"),
        ("miou", np.zeros((1, 1, 3, 3)), np.zeros((1, 3, 3), int), "no classes"),
        ("miou", np.zeros((1, 2, 3, 3)), np.full((1, 3, 3), 2), "from 0 to 2"),
        ("miou", np.zeros((1, 2, 3, 3)), np.full((1, 3, 3), -1), "from -1"),
        ("miou", np.zeros((1, 2, 3, 3)), np.full((1, 3, 3), 255), "labelled pixel"),
        ("miou", np.zeros((1, 3, 3), np.int64), np.full((1, 3, 3), 1 << 40), "limit"),
        ("exact", np.zeros((1, 4, 3)), np.zeros((1, 5), int), "class scores"),
        ("wer", np.zeros((1, 4), int), np.zeros((1, 5)), "float64"),
        ("wer", np.zeros((1, 4), int), np.full((1, 5), -1), "hold ids"),
        ("wer", np.zeros((1, 9000), int), np.zeros((1, 5), int), "at most"),
        ("map", np.zeros((1, 8, 6)), np.zeros((1, 5)), r"\[n, M, 5\]"),
        ("map", np.zeros((1, 4, 5)), np.zeros((1, 1, 5)), "tell boxes"),
        ("map", np.zeros((1, 8, 6)), np.full((1, 1, 5), -1.0), "hold objects"),
        ("agreement", np.zeros((3, 1)), [np.zeros((3, 1))], "class scores"),
    ],
)
def test_labels_that_do_not_fit(metric: str, outputs: object, labels: object, words: str) -> None:
    judge = METRICS[metric]
    with pytest.raises(LoadError, match=words) as caught:
        judge.total([judge.partial([np.asarray(outputs)], labels if judge.against_float else np.asarray(labels))])
    assert caught.value.code == "DS124"


def test_auc() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 200)
    two = rng.integers(0, 6, (200, 2)).astype(np.uint8)
    assert value("auc", two, labels) == pytest.approx(100 * roc_auc_score(labels, two[:, 1] - two[:, 0].astype(float)))
    assert value("auc", [1.0, 1.0, 1.0], [0, 1, 0]) == 50.0


def test_spearman() -> None:
    rng = np.random.default_rng(3)
    labels = np.round(rng.uniform(0, 5, 150), 1)
    scores = np.round(labels + rng.standard_normal(150))[:, None]
    assert value("spearman", scores, labels, batches=4) == pytest.approx(
        100 * spearmanr(scores[:, 0], labels).statistic
    )
    assert value("spearman", -labels[:20], labels[:20]) == pytest.approx(-100)
    assert value("spearman", np.ones(5), np.arange(5)) == 0.0


def test_mae_and_drop() -> None:
    assert value("mae", [[1.0], [2.0]], [1.5, 2.5]) == 0.5
    assert METRICS["mae"].drop(0.5, 0.75) == 0.25
    assert METRICS["wer"].drop(10.0, 12.0) == 2.0
    assert METRICS["top1"].drop(99.0, 98.5) == 0.5
    assert METRICS["top1"].drop(99.0, 99.5) == -0.5
    assert METRICS["sqnr"].drop(200.0, 40.0) == pytest.approx(1.0)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "ids"])
def test_miou_is_the_mean_of_jaccard_over_the_classes_that_occur(layout: str) -> None:
    rng = np.random.default_rng(4)
    scores = rng.standard_normal((6, 7, 9, 11))
    scores[:, 5] = -100  # never predicted
    labels = rng.integers(0, 5, (6, 9, 11))
    labels[:, 0] = 255
    counted = labels != 255
    occur = [0, 1, 2, 3, 4, 6]  # 6 only in predictions, 5 nowhere
    predicted = scores.argmax(1)
    outputs = {"NCHW": scores, "NHWC": scores.transpose(0, 2, 3, 1), "ids": predicted}[layout]
    expected = jaccard_score(labels[counted], predicted[counted], labels=occur, average="macro")
    assert value("miou", outputs, labels, batches=3) == pytest.approx(100 * expected)


def test_psnr() -> None:
    rng = np.random.default_rng(5)
    wanted = rng.uniform(0, 1, (3, 1, 8, 8))
    got = wanted + rng.standard_normal(wanted.shape) * 0.01
    errors = [np.mean((a - b) ** 2) for a, b in zip(got, wanted, strict=True)]
    assert value("psnr", got, wanted, batches=2) == pytest.approx(np.mean([-10 * np.log10(e) for e in errors]))
    pixels = np.full((1, 3, 4, 4), 100, np.uint8)
    assert value("psnr", pixels + 2.0, pixels) == pytest.approx(20 * np.log10(255 / 2))
    assert value("psnr", wanted, wanted) == 120.0, "bounded"


def test_si_sdr() -> None:
    rng = np.random.default_rng(6)
    wanted = rng.standard_normal((4, 1, 1000))
    noise = rng.standard_normal(wanted.shape)
    noise -= wanted * (noise * wanted).sum(-1, keepdims=True) / (wanted**2).sum(-1, keepdims=True)
    expected = np.mean(10 * np.log10((wanted**2).sum(-1) / (0.01 * (noise**2).sum(-1))))
    for gain in (1.0, -7.0):
        assert value("si-sdr", gain * (wanted + 0.1 * noise), wanted) == pytest.approx(expected), "any scale"


def reference_distance(a: list[int], b: list[int]) -> int:
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return reference_distance(a[1:], b[1:])
    return 1 + min(reference_distance(*pair) for pair in ((a[1:], b), (a, b[1:]), (a[1:], b[1:])))


def test_edit_distance() -> None:
    short = [list(ids) for n in range(4) for ids in product(range(3), repeat=n)]
    for a, b in product(short, short):
        assert edit_distance(np.array(a), np.array(b)) == reference_distance(a, b)


def test_sequences() -> None:
    labels = np.array([[1, 2, 3], [4, 5, -1], [6, -1, -1]])
    outputs = np.array([[1, 2, 3, -1], [4, 9, 5, -1], [-1, -1, -1, -1]])
    assert value("exact", outputs, labels) == pytest.approx(100 / 3)
    assert value("wer", outputs, labels, batches=3) == pytest.approx(100 * 2 / 6), "an insertion and a deletion"
    scores = np.eye(10)[[[1, 2, 3], [4, 5, 0], [6, 7, 8]]]
    assert value("exact", scores, labels) == 100.0, "what has no label does not count"


def test_agreement_and_sqnr() -> None:
    rng = np.random.default_rng(7)
    reference = rng.standard_normal((100, 4))
    got = reference.copy()
    got[:10] *= -1
    metric = METRICS["agreement"]
    assert metric.total([metric.partial([got], [reference])]) == 90.0
    assert metric.total([metric.partial([np.array([1, 2, 2])], [np.array([1, 2, 3])])]) == pytest.approx(200 / 3)
    sqnr = METRICS["sqnr"]
    parts = [sqnr.partial([reference * 1.1, np.array([1])], [reference, np.array([2])]) for _ in range(3)]
    assert sqnr.total(parts) == pytest.approx(20.0)
    assert sqnr.total([sqnr.partial([reference], [reference])]) == 200.0
    infinite = np.where(np.arange(4) == 3, -np.inf, reference)
    assert sqnr.total([sqnr.partial([infinite], [infinite])]) == 200.0, "a mask of -inf is no error"
