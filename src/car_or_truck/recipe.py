"""The vocabulary of `variants:` in params.yaml: how a convnet is designed and trained.

Every default here can decide a model's numbers, so this file is a dependency of `train`. Nothing
here imports Keras: parameters are read by commands that never train.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

POOL = 2  # each block's maximum pool halves the picture's side


class Strict(BaseModel):
    """Frozen; an unknown key is an error; a number is not taken from a text nor a whole one from a fraction."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Block(Strict):
    """`convs` convolutions with relu, then a maximum pool that halves the picture."""

    filters: Annotated[int, Field(ge=1, le=4096)]
    kernel_size: Annotated[int, Field(ge=1, le=31)] = 3
    convs: Annotated[int, Field(ge=1, le=16)] = 1


class Head(Strict):
    """Flatten, a hidden relu layer of `units`, dropout; one sigmoid unit ends every net."""

    units: Annotated[int, Field(ge=1, le=65536)]
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


_ADAM = frozenset({"learning_rate", "beta_1", "beta_2", "epsilon", "weight_decay"})
OPTIMIZERS = {  # the arguments that each of Keras's optimizers takes, of those below
    "adam": _ADAM,
    "adamw": _ADAM,
    "nadam": _ADAM,
    "rmsprop": frozenset({"learning_rate", "momentum", "epsilon", "weight_decay"}),
    "sgd": frozenset({"learning_rate", "momentum", "weight_decay"}),
}
_Share = Annotated[float, Field(ge=0, lt=1)]


class Optimizer(Strict):
    """One of Keras's optimizers, by its name in lower case; an argument left out keeps Keras's default."""

    name: Literal["adam", "adamw", "nadam", "rmsprop", "sgd"]
    learning_rate: Annotated[float, Field(gt=0)]
    beta_1: _Share | None = None
    beta_2: _Share | None = None
    epsilon: Annotated[float, Field(gt=0)] | None = None
    momentum: _Share | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None

    @property
    def arguments(self) -> dict[str, float]:
        """The arguments given, by their Keras names."""
        return self.model_dump(exclude={"name"}, exclude_none=True)

    @model_validator(mode="after")
    def _takes_its_arguments(self) -> Self:
        taken = OPTIMIZERS[self.name]
        for argument, value in self.arguments.items():
            if argument not in taken:
                raise ValueError(f"{self.name} takes no {argument} ({value}); it takes {', '.join(sorted(taken))}")
        return self


class Recipe(Strict):
    """A variant: a convnet and how it is trained."""

    blocks: Annotated[tuple[Block, ...], Field(min_length=1, strict=False)]
    head: Head
    optimizer: Optimizer
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    shuffle: Literal["once", "each_epoch"] = "once"
    keep: Literal["last", "best"] = "last"
