"""params.yaml as frozen, typed objects: read once, and checked as a whole before any work."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from car_or_truck.errors import Failure, summarize
from car_or_truck.train.recipe import Checksum, Count, Recipe, Share, Side, Strict

FILE = Path("params.yaml")

Source = Literal["kaggle", "archive", "directory", "rendered"]
VariantName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=32)]  # as figures have room
# The name of one folder
ClassName = Annotated[str, StringConstraints(pattern=r"^[^/\\.\x00-\x1f][^/\\\x00-\x1f]*$", max_length=100)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Kaggle(Strict):
    """A data set on Kaggle."""

    dataset: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+(/versions/\d+)?$")]


class Archive(Strict):
    """A zip or tar that holds the images."""

    url: str | None = None
    sha256: Checksum | None = None
    max_files: Annotated[int, Field(ge=1)]
    max_gigabytes: Annotated[float, Field(gt=0)]


class Directory(Strict):
    """A folder that holds the images."""

    path: str | None = None


class Rendered(Strict):
    """The synthetic images that the project draws. Eight or more hold both classes."""

    train: Annotated[int, Field(ge=8)]
    valid: Annotated[int, Field(ge=8)]
    seed: Seed


def _distinct(items: tuple[Any, ...]) -> tuple[Any, ...]:
    for item in items:
        if items.count(item) > 1:
            raise ValueError(f"{item} is listed twice")
    return items


class Data(Strict):
    """Where the images come from, and how they are prepared."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1, strict=False), AfterValidator(_distinct)]
    classes: Annotated[
        tuple[ClassName, ...], Field(min_length=2, max_length=2, strict=False), AfterValidator(_distinct)
    ]
    kaggle: Kaggle
    archive: Archive
    directory: Directory
    rendered: Rendered
    valid_fraction: Annotated[float, Field(gt=0, lt=1)] | None
    test_fraction: Share
    leaks: Literal["drop", "keep", "fail"]
    exclude: Annotated[str, Field(min_length=1)]  # a file: `prepare` depends on it, and DVC knows no dep that is null
    image_size: Side

    @model_validator(mode="after")
    def _sources_are_described(self) -> Self:
        for source, key, value in (("archive", "url", self.archive.url), ("directory", "path", self.directory.path)):
            if source in self.sources and not value:
                raise ValueError(f"sources lists {source}, so data.{source}.{key} must be given")
        return self


class Train(Strict):
    """Which variants to train with which seeds, and what they share."""

    variants: Annotated[tuple[VariantName, ...], Field(min_length=1, strict=False), AfterValidator(_distinct)]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, strict=False), AfterValidator(_distinct)]
    batch_size: Count
    precision: Literal["auto", "float32", "mixed_bfloat16"]
    threads: Annotated[int, Field(ge=1, le=1024)] | None


Strength = Annotated[float, Field(gt=0, lt=1)]
Quality = Annotated[int, Field(ge=1, le=95)]
Strengths = Annotated[tuple[Strength, Strength], Field(strict=False)]


class Corruptions(Strict):
    """The mild and the strong strength of each corruption in evaluate/corruptions.py; all but jpeg are shares of 1."""

    blur: Strengths
    noise: Strengths
    jpeg: Annotated[tuple[Quality, Quality], Field(strict=False)]
    darkening: Strengths
    occlusion: Strengths

    @model_validator(mode="after")
    def _the_second_is_stronger(self) -> Self:
        for name, (mild, strong) in self:
            if not (strong < mild if name == "jpeg" else strong > mild):
                raise ValueError(f"{name} is [{mild}, {strong}]: the second strength must be the stronger one")
        return self


class Evaluate(Strict):
    """Whether and how `evaluate` looks for the images on which a model is weak."""

    slices: bool
    corrupted_share: Annotated[float, Field(gt=0, le=1)]
    corruptions: Corruptions


class Promotion(Strict):
    """The limits that a model must meet to become the champion; all are shares in 0..1."""

    min_accuracy: Annotated[float, Field(ge=0, le=1)]
    margin: Annotated[float, Field(ge=0, le=1)]
    max_gap: Annotated[float, Field(ge=0, le=1)]
    max_calibration_worsening: Annotated[float, Field(ge=0, le=1)]
    tolerance: Annotated[float, Field(ge=0, le=1)]
    max_slice_drop: Annotated[float, Field(ge=0, le=1)] | None = None


class Params(Strict):
    """The whole of params.yaml."""

    data: Data
    train: Train
    evaluate: Evaluate
    promotion: Promotion
    variants: Annotated[dict[VariantName, Recipe], Field(min_length=1)]

    @property
    def cells(self) -> list[tuple[str, int]]:
        """(variant, seed) of every model to train, in the order of params.yaml."""
        return [(variant, seed) for variant in self.train.variants for seed in self.train.seeds]


def load(path: Path = FILE) -> Params:
    """Read and check `path`."""
    try:
        with path.open(encoding="utf-8") as file:
            tree = YAML(typ="safe").load(file)  # DVC's reader: 1e-4 is a number, a duplicate key an error
    except FileNotFoundError:
        raise Failure(f"There is no {path} here ({Path.cwd()}); run this from the project's root.") from None
    except (YAMLError, ValueError) as error:  # ValueError: bytes that are no UTF-8, the 31st of February
        # libyaml, in which DVC reads this file too, wants quotes that YAML 1.2 does not
        hint = " Put quotes around a value with a colon." if "unexpected ':'" in str(error) else ""
        raise Failure(f"{path} is not valid YAML: {summarize(error)}{hint}") from None
    if not isinstance(tree, dict):
        raise Failure(f"{path} must hold the keys {', '.join(Params.model_fields)}.")
    return check(tree, str(path))


def check(tree: dict[str, Any], source: str) -> Params:
    """The parameters in `tree`, or a Failure that names `source`, each wrong key, its value and what is allowed."""
    try:
        params = Params.model_validate(tree)
    except ValidationError as error:
        # pydantic also reports a tuple with wrong items as too short: once is enough
        others = {detail["type"] for detail in error.errors()} != {"too_short"}
        wrong = [_explain(err) for err in error.errors() if err["type"] != "too_short" or not (others and err["input"])]
        raise Failure(_listed(source, wrong)) from None
    if wrong := list(_contradictions(params)):
        raise Failure(_listed(source, wrong))
    return params


def load_with(variant: str) -> Params:
    """Read and check params.yaml. Raises Failure when it does not define `variant`."""
    params = load()
    if variant not in params.variants:
        raise Failure(f"params.yaml defines no variant {variant!r}; it defines {', '.join(params.variants)}.")
    return params


def _listed(source: str, wrong: list[str], most: int = 3) -> str:
    """The first errors, one a line: YAML's merge keys repeat one typo in every variant that inherits it."""
    lines = [f"{source}: {line}" for line in wrong[:most]]
    lines += [f"{source}: and {len(wrong) - most} more like these"] * (len(wrong) > most)
    return "\n".join(lines)


def _contradictions(params: Params) -> Iterator[str]:
    """Errors between keys that are each valid by themselves."""
    defined = ", ".join(params.variants)
    for name in params.train.variants:
        if name not in params.variants:
            hint = _suggestion(name, params.variants)
            yield f"train.variants lists {name!r}, which is not defined;{hint} defined: {defined}"
    for name, recipe in params.variants.items():
        sides = [] if recipe.base else recipe.map_sides(params.data.image_size)
        if 0 in sides:
            key = "image_size" if recipe.image_size else "data.image_size"
            yield (
                f"variants.{name}.blocks has {len(recipe.blocks)} blocks, which pool "
                f"{recipe.side(params.data.image_size)} pixels ({key}) away to nothing; at most {sides.index(0)} fit"
            )


def _explain(detail: ErrorDetails) -> str:
    """One of pydantic's errors as a line: the key, its value and what is allowed."""
    keys = detail["loc"][:-1] if detail["loc"][-1] in {"bool", "str"} else detail["loc"]  # the kinds of a union
    where = ".".join(str(part) for part in keys if part != "[key]")
    if detail["type"] == "extra_forbidden":
        key, allowed = str(detail["loc"][-1]), _allowed_keys(detail["loc"][:-1])
        return f"{where} is an unknown key;{_suggestion(key, allowed)} allowed here: {', '.join(allowed)}"
    if detail["type"] == "missing":
        return f"{where} is missing"
    text = re.sub(r"^(Value error, |Input |String |Tuple )| after validation, not \d+$", "", detail["msg"])
    text = re.sub(r"valid dictionary( or instance of \w+)?", "mapping of keys to values", text)
    text = text.replace("valid tuple", "number or a list of numbers" if keys[-1] == "units" else "list")
    if isinstance(detail["input"], dict) and detail["type"] == "value_error":  # a rule over several keys: it names them
        return f"{where}: {text}"
    return f"{where} is {detail['input']!r}: {text}"


def _suggestion(word: str, candidates: Any) -> str:
    match = difflib.get_close_matches(word, list(candidates), n=1)
    return f" did you mean {match[0]!r}?" if match else ""


def _allowed_keys(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the mapping at `loc` may hold."""
    model: Any = Params
    for part in loc:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[str(part)].annotation
        else:  # the value type of a dict or a tuple
            model = model.__args__[-1] if model.__args__[-1] is not ... else model.__args__[0]
        if isinstance(model, UnionType):  # a mapping that may be left out
            model = next(option for option in model.__args__ if option is not type(None))
    return list(model.model_fields)
