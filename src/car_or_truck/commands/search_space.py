"""What `tune` may change: keys of a variant with a range or choices, as `--over` names them.

The vocabulary of params.yaml is the only judge of a value: both ends of a range and every choice are checked
by it before any work, and so is each trial's combination.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from car_or_truck import params as parameters
from car_or_truck.errors import Failure
from car_or_truck.params import Params
from car_or_truck.train.checks import check_weights

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

RANGE = re.compile(r"(?P<low>[^:]+):(?P<high>[^:]+?)(?P<log>:log)?")
FORMS = "give KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=A|B, as in optimizer.learning_rate=1e-4:1e-2:log"


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, or the integers among them."""

    key: str
    low: float
    high: float
    log: bool  # whether each order of magnitude is as likely as the next
    whole: bool

    @property
    def ends(self) -> list[float]:
        """The extreme values."""
        return [self.low, self.high]

    def suggest(self, trial: BaseTrial) -> float:
        """The trial's value; three digits of it or of a narrower range, so that it can be read, and typed."""
        if self.whole:
            return int(trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log))
        value = trial.suggest_float(self.key, self.low, self.high, log=self.log)
        step = min(abs(value) or math.inf, self.high - self.low)
        return float(min(max(round(value, 2 - math.floor(math.log10(step))), self.low), self.high))

    def as_suggested(self, value: Any) -> Any:
        """`value` as Optuna knows it; None if it lies outside."""
        inside = isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high
        return value if inside else None


@dataclass(frozen=True)
class Choices:
    """One of several values, as YAML writes them."""

    key: str
    texts: tuple[str, ...]

    @property
    def ends(self) -> list[Any]:
        """All values."""
        return [_read(text) for text in self.texts]

    def suggest(self, trial: BaseTrial) -> Any:
        """The trial's value."""
        return _read(trial.suggest_categorical(self.key, self.texts))

    def as_suggested(self, value: Any) -> str | None:
        """The text that stands for `value`; None if there is none."""

        def same(own: Any) -> bool:
            return own in (value, [value]) and isinstance(own, bool) == isinstance(value, bool)  # 0 is 0.0, not false

        return next((text for text in self.texts if same(_read(text))), None)


Dimension = Range | Choices


def parse(over: Sequence[str], params: Params, variant: str) -> list[Dimension]:
    """The dimensions that `over` names. Raises Failure for one that cannot be read, or that no variant could have."""
    dimensions = [_dimension(text, params, variant) for text in over]
    keys = [dimension.key for dimension in dimensions]
    for place, key in enumerate(keys):
        for other in keys[:place] + keys[place + 1 :]:
            if f"{key}.".startswith(f"{other}."):
                raise Failure(f"--over names {other} twice, the second time as {key}: give it once.")
    return dimensions


def _dimension(text: str, params: Params, variant: str) -> Dimension:
    source = f"--over {text}"
    key, _, values = text.partition("=")
    if "|" in values:
        texts = tuple(part.strip() for part in values.split("|"))
        if "" in texts or len({*texts}) < len(texts):
            raise Failure(f"{source}: a choice is empty or given twice.")
        for choice in texts:
            check_weights(set_values(params, variant, {key: _read(choice)}, source).variants[variant].base)
        return Choices(key, texts)
    match = RANGE.fullmatch(values)
    if not key or match is None:
        raise Failure(f"{source}: {FORMS}.")
    low, high, log = _number(match["low"], source), _number(match["high"], source), match["log"] is not None
    for end in (low, high):
        set_values(params, variant, {key: end}, source)
    if low >= high:
        raise Failure(f"{source}: the lower end {low:g} is not below the upper end {high:g}.")
    if log and low <= 0:
        raise Failure(f"{source}: the lower end of a logarithmic range is {low:g}, but must be above 0.")
    # 0:20 is a range of integers only where the vocabulary wants one: between two integers it refuses what lies there.
    whole = isinstance(low, int) and isinstance(high, int) and not _accepts(params, variant, {key: low + 0.5})
    return Range(key, low, high, log, whole)


def _number(text: str, source: str) -> int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    raise Failure(f"{source}: {text!r} is no number; {FORMS}.")


def _read(text: str) -> Any:
    try:
        return YAML(typ="safe").load(text)
    except (YAMLError, ValueError):
        return text  # the vocabulary says what is allowed instead


def _accepts(params: Params, variant: str, values: Mapping[str, Any]) -> bool:
    try:
        set_values(params, variant, values, "")
    except Failure:
        return False
    return True


def set_values(params: Params, variant: str, values: Mapping[str, Any], source: str) -> Params:
    """The parameters with these values in the variant, checked; a Failure begins with `source`."""
    tree = params.model_dump(mode="json", exclude_unset=True)
    for key, value in values.items():
        *groups, last = key.split(".")
        place: Any = tree["variants"][variant]
        for group in groups:
            place = _enter(place, group, key, source)
        _check_place(place, last, key, source)
        place[int(last) if isinstance(place, list) else last] = value
    return parameters.check(tree, source)


def value_of(params: Params, variant: str, key: str) -> Any:
    """The value that the variant has there, its default included; None where there is none."""
    place: Any = params.variants[variant].model_dump(mode="json")
    for part in key.split("."):
        place = place[int(part)] if isinstance(place, list) else (place or {}).get(part)
    return place[0] if key == "head.units" and isinstance(place, list) and len(place) == 1 else place  # 6 for [6]


def _enter(place: Any, group: str, key: str, source: str) -> Any:
    """The group of that name inside `place`, made if it was left out."""
    _check_place(place, group, key, source)
    if isinstance(place, list):
        return place[int(group)]
    if place.get(group) is None:
        place[group] = {}
    return place[group]


def _check_place(place: Any, name: str, key: str, source: str) -> None:
    if isinstance(place, list) and not (name.isdecimal() and int(name) < len(place)):
        raise Failure(f"{source}: {name!r} in {key} should be the number of a list's item, 0 to {len(place) - 1}.")
    if not isinstance(place, list | dict):
        raise Failure(f"{source}: {key} goes too deep: what stands before {name!r} is the value {place!r}.")
