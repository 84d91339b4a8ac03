"""The generator of synthetic transactions."""

from __future__ import annotations

import numpy as np

from models.fraud_lstm.generator import FEATURES, STEPS, generate


def test_same_seed_same_bytes() -> None:
    first, second, other = generate(300, 5), generate(300, 5), generate(300, 6)
    assert [a.tobytes() for a in first] == [a.tobytes() for a in second]
    assert first[0].tobytes() != other[0].tobytes()


def test_shape_scale_and_share_of_fraud() -> None:
    transactions, labels = generate(3000, 8)
    assert transactions.shape == (3000, STEPS, len(FEATURES)) == (3000, 32, 24)
    assert transactions.dtype == np.float32
    assert labels.dtype == np.int64
    assert np.isfinite(transactions).all()
    assert np.abs(transactions).max() <= 3
    assert 0.07 < labels.mean() < 0.13
    for group in ("channel_", "category_"):
        one_hot = transactions[..., [name.startswith(group) for name in FEATURES]]
        assert (one_hot.sum(axis=2) == 1).all()


def test_frauds_differ_from_honest_sequences_only_at_the_end() -> None:
    transactions, labels = generate(6000, 9)
    unknown = transactions[..., FEATURES.index("new_merchant")]
    fraud, honest = unknown[labels == 1].mean(axis=0), unknown[labels == 0].mean(axis=0)
    assert np.abs(fraud[:20] - honest[:20]).max() < 0.1
    assert (fraud - honest)[-1] > 0.3
