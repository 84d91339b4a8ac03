"""Synthetic card transactions: cardholders with habits, and frauds that break them.

`generate` draws one sequence a cardholder, their latest `STEPS` transactions. Nothing here comes from real people or
real banks; the distributions are plausible guesses, chosen so that no single feature gives a fraud away.

A cardholder has a typical amount and its spread, an hour of day, a pace, favourite merchant categories and channels,
and a radius around home. Honest behaviour includes what fraud detection mistakes for fraud: trips abroad, shopping
sprees, single large purchases, declined payments.

A fraud takes over the last 1 to 12 transactions, in one of five patterns:

- card testing: a burst of tiny online payments, many declined, sometimes a large one at the end
- cash-out: large amounts for goods that resell, in quick succession, at unknown merchants
- cloned card: cash and chip payments far away, sooner than the cardholder could be there
- account takeover: online, at night, at unknown merchants, amounts moderately raised
- mimicry: the cardholder's own habits, but unknown merchants and slightly larger amounts

A sequence is labelled 1 when its last transaction is fraudulent. 3 % of frauds go unreported (label 0), and 0.1 % of
honest sequences are disputed (label 1), so no model can be perfect.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEPS = 32
FRAUD_RATE = 0.1
CHANNELS = ("chip", "contactless", "online", "atm")
CATEGORIES = ("grocery", "fuel", "restaurant", "travel", "electronics", "digital")
FEATURES = (
    "log_amount",
    "amount_score",
    "hour_sin",
    "hour_cos",
    "weekend",
    "log_gap",
    "count_24h",
    "log_home_km",
    "log_step_km",
    "log_speed",
    "foreign",
    "country_risk",
    "new_merchant",
    "declined",
    *(f"channel_{c}" for c in CHANNELS),
    *(f"category_{c}" for c in CATEGORIES),
)

_CHIP, _CONTACTLESS, _ONLINE, _ATM = range(4)
_TRAVEL, _ELECTRONICS, _DIGITAL = 3, 4, 5
_TESTING, _CASH_OUT, _CLONED, _TAKEOVER, _MIMICRY = range(5)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass
class _Stream:
    """Transactions before they become features; every array is [cards, STEPS], `x` and `y` are km from home."""

    amount: Floats  # natural logarithm of the amount
    gap: Floats  # hours since the transaction before
    start: Floats  # [cards, 1], hour of the first transaction, 0 = Monday 00:00
    x: Floats
    y: Floats
    channel: Ints
    category: Ints
    foreign: Mask
    risk: Floats
    unknown: Mask
    declined: Mask

    def put(self, where: Mask, **columns: NDArray[np.generic]) -> None:
        """Overwrite the named columns where the mask is set."""
        for name, values in columns.items():
            setattr(self, name, np.where(where, values, getattr(self, name)))


def generate(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw sequences.

    Args:
        count: how many sequences, one a cardholder.
        seed: the same seed draws the same sequences.

    Returns:
        `transactions`, float32 [count, STEPS, len(FEATURES)], oldest first, scaled to about -2..2 and rounded to
        1/128, and `labels`, int64 [count], 1 for fraud.
    """
    rng = np.random.default_rng(seed)
    stream = _honest(rng, count)
    _add_sprees(rng, stream)
    _add_trips(rng, stream)
    fraud = rng.random(count) < FRAUD_RATE
    _add_fraud(rng, stream, fraud)
    labels = np.where(fraud, rng.random(count) >= 0.03, rng.random(count) < 0.001)
    return _features(stream), labels.astype(np.int64)


def _honest(rng: np.random.Generator, count: int) -> _Stream:
    """Everyday transactions of `count` cardholders."""
    shape = (count, STEPS)
    pace = np.exp(rng.uniform(np.log(0.15), np.log(2.0), (count, 1)))  # days between transactions
    hour = rng.normal(14.5, 2.5, (count, 1)) + rng.normal(0, 1, shape) * rng.uniform(1.5, 4.0, (count, 1))
    times = (
        np.sort(np.cumsum(rng.poisson(pace, shape), axis=1) * 24 + hour % 24, axis=1)
        + rng.integers(7, size=(count, 1)) * 24
    )
    radius = np.exp(rng.normal(1.5, 0.8, (count, 1)))
    channel = _choose(rng, rng.dirichlet((3, 5, 3, 0.6), count), shape)
    away = np.where(channel == _ONLINE, 0.0, radius)  # an online payment counts as made at home
    typical = rng.normal(3.2, 0.5, (count, 1))
    amount = typical + rng.normal(0, 1, shape) * rng.uniform(0.35, 0.9, (count, 1))
    amount += (rng.random(shape) < 0.03) * rng.uniform(1.0, 2.8, shape)
    return _Stream(
        amount=amount,
        gap=np.diff(times, axis=1, prepend=times[:, :1] - 24 * pace),
        start=times[:, :1],
        x=away * rng.normal(0, 1, shape),
        y=away * rng.normal(0, 1, shape),
        channel=channel,
        category=_choose(rng, rng.dirichlet((4, 2, 3, 0.5, 0.7, 1.5), count), shape),
        foreign=(channel == _ONLINE) & (rng.random(shape) < 0.08),
        risk=np.zeros(shape),
        unknown=rng.random(shape) < rng.uniform(0.1, 0.6, (count, 1)),
        declined=rng.random(shape) < 0.02,
    )


def _add_trips(rng: np.random.Generator, stream: _Stream) -> None:
    """Let a quarter of the cardholders travel, at a speed a traveller can have."""
    shape = stream.amount.shape
    where = _span(rng, shape, 0.25, 3, 14)
    distance = np.exp(rng.normal(6.5, 1.0, (shape[0], 1)))
    angle = rng.uniform(0, 2 * np.pi, (shape[0], 1))
    abroad = rng.random((shape[0], 1)) < np.clip(distance / 1500, 0.1, 0.9)
    present = where & (stream.channel != _ONLINE)
    journey = distance / rng.uniform(150, 600, (shape[0], 1))
    there_and_back = np.diff(where, axis=1, prepend=False)
    stream.put(there_and_back, gap=stream.gap + journey)
    stream.put(present, x=stream.x + distance * np.cos(angle), y=stream.y + distance * np.sin(angle))
    stream.put(where & abroad, foreign=np.ones(shape, bool), risk=rng.beta(1.5, 3, (shape[0], 1)))
    stream.put(where, unknown=rng.random(shape) < 0.7)
    stream.put(where & (rng.random(shape) < 0.4), category=np.full(shape, _TRAVEL))


def _add_sprees(rng: np.random.Generator, stream: _Stream) -> None:
    """Let a fifth of the cardholders buy several things in an hour or two, some of them online."""
    shape = stream.amount.shape
    where = _span(rng, shape, 0.2, 3, 7)
    online = where & (rng.random((shape[0], 1)) < 0.4)
    stream.put(where, gap=rng.exponential(0.4, shape), unknown=rng.random(shape) < 0.6)
    stream.put(where, amount=stream.amount + rng.normal(0.5, 0.4, shape))
    stream.put(online, channel=np.full(shape, _ONLINE), x=np.zeros(shape), y=np.zeros(shape))


def _add_fraud(rng: np.random.Generator, stream: _Stream, fraud: Mask) -> None:
    """Overwrite the last transactions of the marked sequences with one of the five patterns."""
    shape = stream.amount.shape
    tail = fraud[:, None] & (np.arange(STEPS) >= STEPS - rng.integers(1, 13, (shape[0], 1)))
    pattern = rng.choice(5, (shape[0], 1))
    testing, cash_out, cloned, takeover, mimicry = (tail & (pattern == p) for p in range(5))
    first = np.diff(tail, axis=1, prepend=False)
    last = np.arange(STEPS) == STEPS - 1
    home = np.zeros(shape)

    big = last & (rng.random((shape[0], 1)) < 0.4)
    stream.put(testing, amount=np.where(big, rng.normal(5.2, 0.6, shape), rng.normal(1.0, 0.7, shape)))
    stream.put(testing, gap=rng.exponential(0.15, shape), declined=rng.random(shape) < 0.25)
    stream.put(testing, category=np.full(shape, _DIGITAL))

    resale = rng.choice((_ELECTRONICS, _DIGITAL, 0), shape, p=(0.45, 0.3, 0.25))
    stream.put(cash_out, amount=stream.amount + rng.uniform(0.6, 2.2, shape), gap=rng.exponential(0.8, shape))
    stream.put(cash_out, category=resale, declined=rng.random(shape) < 0.1)
    stream.put(cash_out, channel=rng.choice((_CONTACTLESS, _CHIP), shape, p=(0.7, 0.3)))
    stream.put(cash_out, x=rng.normal(0, 15, shape), y=rng.normal(0, 15, shape))

    distance = np.exp(rng.normal(6.8, 1.2, (shape[0], 1)))
    stream.put(cloned, x=distance + rng.normal(0, 5, shape), y=rng.normal(0, 5, shape), gap=rng.exponential(1.5, shape))
    stream.put(cloned, channel=rng.choice((_ATM, _CHIP), shape, p=(0.5, 0.5)))
    stream.put(cloned, amount=stream.amount + rng.normal(0.7, 0.5, shape))

    night = (rng.uniform(0, 5, shape) - (stream.start + np.cumsum(stream.gap, axis=1) - stream.gap[:, :1])) % 24
    stream.put(takeover, gap=np.where(first, stream.gap + night, rng.exponential(0.6, shape)))
    stream.put(takeover, amount=stream.amount + rng.normal(0.6, 0.6, shape))

    stream.put(mimicry, amount=stream.amount + rng.normal(0.4, 0.4, shape), gap=rng.exponential(5.0, shape))

    abroad = (cloned & (rng.random((shape[0], 1)) < 0.7)) | (takeover & (rng.random(shape) < 0.3))
    stream.put(abroad, foreign=np.ones(shape, bool), risk=rng.beta(2, 2.5, (shape[0], 1)))
    stream.put(testing | takeover, channel=np.full(shape, _ONLINE), x=home, y=home)
    stream.put(tail, unknown=rng.random(shape) < 0.8)


def _features(stream: _Stream) -> NDArray[np.float32]:
    """Compute what the model sees, float32 [cards, STEPS, len(FEATURES)]; each step knows only itself and its past."""
    times = stream.start + np.cumsum(stream.gap, axis=1) - stream.gap[:, :1]
    seen = np.arange(1, STEPS + 1)
    mean = np.cumsum(stream.amount, axis=1) / seen
    spread = np.sqrt(np.maximum(np.cumsum(stream.amount**2, axis=1) / seen - mean**2, 0))
    past_mean, past_spread = (np.concatenate([a[:, :1], a[:, :-1]], axis=1) for a in (mean, spread))
    recent = (times[:, :, None] - times[:, None, :] < 24) & (np.arange(STEPS)[:, None] > np.arange(STEPS))
    present = stream.channel != _ONLINE
    east, north = (np.diff(a, axis=1, prepend=a[:, :1]) for a in (stream.x, stream.y))
    step = np.hypot(east, north)
    step *= present & np.concatenate([present[:, :1], present[:, :-1]], axis=1)
    hour = times % 24 * (2 * np.pi / 24)
    columns = [
        stream.amount / 4,
        np.clip((stream.amount - past_mean) / (past_spread + 0.3) / 2, -3, 3),
        np.sin(hour),
        np.cos(hour),
        (times // 24 % 7 >= 5),
        np.log1p(stream.gap * 60) / 6,
        np.log1p(recent.sum(axis=2)) / 2,
        np.log1p(np.hypot(stream.x, stream.y)) / 4,
        np.log1p(step) / 4,
        np.log1p(step / (stream.gap + 0.25)) / 4,
        stream.foreign,
        stream.risk,
        stream.unknown,
        stream.declined,
        *(stream.channel == c for c in range(len(CHANNELS))),
        *(stream.category == c for c in range(len(CATEGORIES))),
    ]
    # Finer than 1/128 carries no information, and round numbers compress.
    return (np.round(np.stack(columns, axis=2) * 128) / 128).astype(np.float32)


def _choose(rng: np.random.Generator, odds: Floats, shape: tuple[int, int]) -> Ints:
    """One index an entry, by each card's own odds [cards, choices]."""
    chosen: Ints = (rng.random(shape)[:, :, None] > np.cumsum(odds, axis=1)[:, None, :-1]).sum(axis=2)
    return chosen


def _span(rng: np.random.Generator, shape: tuple[int, int], share: float, shortest: int, longest: int) -> Mask:
    """Choose a run of steps, never from the first step on, in the sequences of a share of the cards."""
    length = rng.integers(shortest, longest + 1, (shape[0], 1))
    begin = rng.integers(1, STEPS, (shape[0], 1))
    cards = rng.random((shape[0], 1)) < share
    steps = np.arange(STEPS)
    return cards & (steps >= begin) & (steps < begin + length)
