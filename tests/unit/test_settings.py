"""Settings: JSON in and out, and strict `set`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from matgen.errors import ConfigError
from matgen.settings import from_dict, set_value, to_dict


@dataclass(frozen=True, kw_only=True)
class Inner:
    kind: Literal["cosine", "linear"] = "cosine"
    limit: int | None = None
    rates: tuple[float, ...] = ()
    pair: tuple[int, int] = (1, 2)

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 0:
            raise ValueError(f"limit must not be negative, not {self.limit}")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    steps: int = 10
    rate: float = 0.1
    flag: bool = False
    path: Path = Path("a")
    inner: Inner = field(default_factory=Inner)


BASE = Outer(name="x")


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("steps=2000", 2000),
        ("steps=1e6", 1_000_000),
        ("rate=3", 3.0),
        ("rate=1e-4", 1e-4),
        ("flag=true", True),
        ("name=a=b", "a=b"),
        ("path=/b/c", Path("/b/c")),
        ("inner.kind=linear", "linear"),
        ("inner.limit=5", 5),
        ("inner.limit=none", None),
        ("inner.rates=0.1, 0.2", (0.1, 0.2)),
        ("inner.rates=[]", ()),
        ("inner.pair=3,4", (3, 4)),
    ],
)
def test_set(assignment: str, value: object) -> None:
    changed: object = set_value(BASE, assignment)
    for key in assignment.split("=")[0].split("."):
        changed = getattr(changed, key)
    assert changed == value and type(changed) is type(value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("step=5", r"unknown key 'step'; did you mean steps\? \(valid: name, steps, rate, flag, path, inner\)"),
        ("inner.knd=linear", r"did you mean inner.kind\? \(valid in inner: kind, limit, rates, pair\)"),
        ("inner=5", r"inner is a group of keys; set one of them: inner.kind"),
        ("steps.more=5", r"steps is a single value \(int\)"),
        ("steps=1.5", r"steps: expected int, got 1.5"),
        ("steps=nan", r"steps: expected int"),
        ("flag=1", r"flag: expected bool"),
        ("rate=fast", r"rate: expected float, got 'fast'"),
        ("inner.kind=square", r"expected one of 'cosine', 'linear', got 'square'"),
        ("inner.limit=many", r"expected int or none"),
        ("inner.limit=-1", r"inner.limit: limit must not be negative, not -1"),
        ("inner.pair=1", r"expected 2 values \(int, int\)"),
        ("steps", r"KEY=VALUE"),
        ("=5", r"KEY=VALUE"),
    ],
)
def test_set_refuses(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        set_value(BASE, assignment)


def test_round_trip_and_strictness() -> None:
    full = set_value(set_value(BASE, "inner.rates=0.5"), "inner.limit=3")
    assert from_dict(Outer, to_dict(full)) == full
    for values, message in [
        ({}, "missing name"),
        ({"name": "x", "stepz": 1}, "unknown key 'stepz'"),
        ({"name": "x", "steps": "10"}, "steps: expected int, got '10'"),
        ({"name": "x", "steps": True}, "steps: expected int"),
        ({"name": "x", "inner": {"pair": [1]}}, "inner.pair: expected 2 values"),
        ({"name": "x", "inner": 5}, "inner: expected an object"),
    ]:
        with pytest.raises(ConfigError, match=message):
            from_dict(Outer, values)
