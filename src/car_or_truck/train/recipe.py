"""The vocabulary of `variants:` in params.yaml: how a convnet is designed and trained.

Every default here can decide a model's numbers, so this file is a dependency of `train`. Nothing
here imports Keras: parameters are read by commands that never train.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

POOL = 2  # a block's pool halves the picture's side

Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=65536)]
Side = Annotated[int, Field(ge=8, le=1024)]


class Strict(BaseModel):
    """Frozen; an unknown key is an error; a number is not taken from a text nor a whole one from a fraction."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


APPLICATIONS = tuple(
    """
    ConvNeXtBase ConvNeXtLarge ConvNeXtSmall ConvNeXtTiny ConvNeXtXLarge DenseNet121 DenseNet169 DenseNet201
    EfficientNetB0 EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4 EfficientNetB5 EfficientNetB6
    EfficientNetB7 EfficientNetV2B0 EfficientNetV2B1 EfficientNetV2B2 EfficientNetV2B3 EfficientNetV2L EfficientNetV2M
    EfficientNetV2S InceptionResNetV2 InceptionV3 MobileNet MobileNetV2 MobileNetV3Large MobileNetV3Small NASNetLarge
    NASNetMobile ResNet101 ResNet101V2 ResNet152 ResNet152V2 ResNet50 ResNet50V2 VGG16 VGG19 Xception
    """.split()  # noqa: SIM905
)


def _known_application(name: str) -> str:
    if name not in APPLICATIONS:
        raise ValueError(f"should be one of keras.applications: {', '.join(APPLICATIONS)}")
    return name


class Base(Strict):
    """A convnet of keras.applications without its top, and its own input preprocessing before it."""

    application: Annotated[str, AfterValidator(_known_application)]  # its class there
    weights: str | None = "imagenet"  # imagenet (Keras's own store), a file's path, or null for random ones
    trainable: bool | str = False  # or the name of the first layer that is trained


class Block(Strict):
    """`convs` convolutions, zero-padded to the same size, then a pool of 2x2."""

    filters: Annotated[int, Field(ge=1, le=4096)]
    kernel_size: Annotated[int, Field(ge=1, le=31)] = 3
    convs: Annotated[int, Field(ge=1, le=16)] = 1
    strides: Annotated[int, Field(ge=1, le=8)] = 1  # of the first convolution
    activation: Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh"] = "relu"
    batch_norm: bool = False  # between each convolution and its activation
    residual: bool = False  # the block's input is added before its last activation, projected where shapes differ
    separable: bool = False  # depthwise, then pointwise
    pool: Literal["max", "average", "none"] = "max"
    dropout: Share = 0.0  # at the block's end


class Head(Strict):
    """From feature maps to one sigmoid unit, P(second class)."""

    pooling: Literal["flatten", "global_average", "global_max"] = "flatten"
    units: Annotated[
        tuple[Count, ...], BeforeValidator(lambda units: (units,) if isinstance(units, int) else units)
    ] = Field(default=(), strict=False)  # one hidden relu layer, or a list of them
    dropout: Share = 0.0  # after each hidden layer; after the pooling where there is none


class Augment(Strict):
    """Random changes to the training images, anew each epoch; valid is never touched."""

    flip: bool = False  # left to right, every other image
    shift: Share = 0.0  # up to this share of the side, in both directions
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0  # up to so many degrees, either way
    zoom: Share = 0.0  # by up to this share, in or out
    contrast: Share = 0.0  # times 1 - c to 1 + c, about the image's mean
    brightness: Share = 0.0  # plus or minus up to this, of 1
    erase: Share = 0.0  # a grey square of up to this share of the side, somewhere
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0  # alpha of the Beta distribution of the blend; 0: none


_ADAM = frozenset({"learning_rate", "beta_1", "beta_2", "epsilon", "weight_decay"})
OPTIMIZERS = {  # the arguments that each of Keras's optimizers takes, of those below
    "adam": _ADAM,
    "adamw": _ADAM,
    "nadam": _ADAM,
    "rmsprop": frozenset({"learning_rate", "momentum", "epsilon", "weight_decay"}),
    "sgd": frozenset({"learning_rate", "momentum", "nesterov", "weight_decay"}),
}


class Optimizer(Strict):
    """One of Keras's optimizers, by its name in lower case; an argument left out keeps Keras's default."""

    name: Literal["adam", "adamw", "nadam", "rmsprop", "sgd"]
    learning_rate: Annotated[float, Field(gt=0)]
    beta_1: Share | None = None
    beta_2: Share | None = None
    epsilon: Annotated[float, Field(gt=0)] | None = None
    momentum: Share | None = None
    nesterov: bool | None = None
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


class Schedule(Strict):
    """How the learning rate moves, step by step, over the whole training."""

    name: Literal["constant", "cosine", "one_cycle"] = "constant"  # one_cycle: a cosine after a warm-up of 30 %
    warm_up: Share | None = None  # the share of all steps in which the rate rises linearly; null: none, or one_cycle's

    @property
    def rising(self) -> float:
        """The share of the steps that warm up."""
        return self.warm_up if self.warm_up is not None else {"one_cycle": 0.3}.get(self.name, 0.0)


class Loss(Strict):
    """Binary cross-entropy."""

    label_smoothing: Share = 0.0  # of the training labels only: val_loss stays comparable


class EarlyStopping(Strict):
    """Stop when valid has not got better for `patience` epochs. Chosen on valid: its accuracy flatters."""

    patience: Annotated[int, Field(ge=1)]
    monitor: Literal["val_loss", "val_binary_accuracy"] = "val_loss"


def _written_out(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(
            f"should be a variant, not its name, so that a change to it is a change here too: mark it with "
            f"`{value}: &{value}` and write `initial_from: *{value}`"
        )
    return value


class Recipe(Strict):
    """A variant: a convnet and how it is trained."""

    initial_from: Annotated[Recipe | None, BeforeValidator(_written_out)] = None  # start from its trained weights
    image_size: Side | None = None  # pixels a side that the net sees; null: data.image_size
    base: Base | None = None
    blocks: Annotated[tuple[Block, ...], Field(strict=False)] = ()
    head: Head
    augment: Augment = Augment()
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    class_weight: Literal["balanced"] | None = None  # weigh each class by the inverse of its count
    l2: Annotated[float, Field(ge=0)] = 0.0  # penalty on the squares of all kernels, in training's loss only
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    early_stopping: EarlyStopping | None = None
    shuffle: Literal["once", "each_epoch"] = "once"
    keep: Literal["last", "best"] = "last"

    @model_validator(mode="after")
    def _has_a_body(self) -> Self:
        if not self.blocks and self.base is None:
            raise ValueError("it has neither blocks nor a base")
        return self

    def side(self, image_size: int) -> int:
        """Pixels a side that the net sees, where data.image_size is `image_size`."""
        return self.image_size or image_size

    def map_sides(self, image_size: int) -> list[int]:
        """The side of the feature maps after each block of a net without a base; 0 where nothing is left."""
        sides, side = [], self.side(image_size)
        for block in self.blocks:
            side = -(-side // block.strides)
            side = side // POOL if block.pool != "none" else side
            sides.append(side)
        return sides
