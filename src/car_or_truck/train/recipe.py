"""The vocabulary of `variants:` in params.yaml: how a convnet is built and trained.

Nothing here imports Keras: commands that never train read parameters too.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

POOL = 2  # a block's pool halves the side of its maps
THRESHOLD = 0.5  # P(second class) above it is a prediction of the second class

Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=65536)]
Side = Annotated[int, Field(ge=8, le=1024)]
Checksum = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")]


class Strict(BaseModel):
    """Frozen. An unknown key is an error, and no value is converted from another type."""

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
    """A convnet of keras.applications without its top, preceded by its own preprocessing."""

    application: Annotated[str, AfterValidator(_known_application)]  # the class in keras.applications
    weights: str | None = "imagenet"  # imagenet (downloaded by Keras), the path of a file, or null for random weights
    sha256: Checksum | None = None  # of the weights file: a path alone does not say what is in it
    trainable: bool | str = False  # or the name of the first trainable layer

    @property
    def file(self) -> str | None:
        """The path of the weights file, if the weights come from one."""
        return self.weights if self.weights not in (None, "imagenet") else None

    @model_validator(mode="after")
    def _a_file_has_a_checksum(self) -> Self:
        if self.file and not self.sha256:
            raise ValueError(
                f"weights is the file {self.weights!r}, so sha256 must be given beside it (`sha256sum {self.weights}`)"
            )
        if self.sha256 and not self.file:
            raise ValueError(f"sha256 is for a weights file, but weights is {self.weights}")
        return self


class Block(Strict):
    """`convs` convolutions with same padding, then a 2x2 pool."""

    filters: Annotated[int, Field(ge=1, le=4096)]
    kernel_size: Annotated[int, Field(ge=1, le=31)] = 3
    convs: Annotated[int, Field(ge=1, le=16)] = 1
    strides: Annotated[int, Field(ge=1, le=8)] = 1  # of the first convolution
    activation: Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh"] = "relu"
    batch_norm: bool = False  # between each convolution and its activation
    residual: bool = False  # adds the block's input before its last activation, projected where shapes differ
    separable: bool = False  # depthwise, then pointwise
    pool: Literal["max", "average", "none"] = "max"
    dropout: Share = 0.0  # after the pool

    @model_validator(mode="after")
    def _can_run(self) -> Self:
        if self.batch_norm and self.activation == "tanh":  # TensorFlow 2.21 fuses the two, but lacks the kernel
            raise ValueError("TensorFlow cannot run activation tanh after batch_norm; use another activation")
        return self


class Head(Strict):
    """From feature maps to a single sigmoid unit, P(second class)."""

    pooling: Literal["flatten", "global_average", "global_max"] = "flatten"
    units: Annotated[
        tuple[Count, ...], BeforeValidator(lambda units: (units,) if isinstance(units, int) else units)
    ] = Field(default=(), strict=False)  # one hidden relu layer, or a list of them
    dropout: Share = 0.0  # after each hidden layer; after the pooling where there is none


class Augment(Strict):
    """Random changes to the training images, drawn anew each epoch. Validation images are never changed."""

    flip: bool = False  # left to right, with probability 0.5
    shift: Share = 0.0  # up to this share of the side, in both directions
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0  # up to this many degrees, either way
    zoom: Share = 0.0  # by up to this share, in or out
    contrast: Share = 0.0  # scaled by 1 - c to 1 + c about the image's mean
    brightness: Share = 0.0  # shifted by up to this, where white is 1
    erase: Share = 0.0  # a grey square at a random place, its side up to this share of the image's
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0  # alpha of the Beta distribution; 0: no mixup


_ADAM = frozenset({"learning_rate", "beta_1", "beta_2", "epsilon", "weight_decay"})
OPTIMIZERS = {  # which of the arguments of `Optimizer` each of Keras's optimizers takes
    "adam": _ADAM,
    "adamw": _ADAM,
    "muon": frozenset({"learning_rate", "momentum", "weight_decay"}),
    "nadam": _ADAM,
    "rmsprop": frozenset({"learning_rate", "momentum", "epsilon", "weight_decay"}),
    "sgd": frozenset({"learning_rate", "momentum", "nesterov", "weight_decay"}),
}


class Optimizer(Strict):
    """One of Keras's optimizers; muon as in train/muon.py. An argument that is left out keeps Keras's default."""

    name: Literal["adam", "adamw", "muon", "nadam", "rmsprop", "sgd"]
    learning_rate: Annotated[float, Field(gt=0)]
    beta_1: Share | None = None
    beta_2: Share | None = None
    epsilon: Annotated[float, Field(gt=0)] | None = None
    momentum: Share | None = None
    nesterov: bool | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None

    @property
    def arguments(self) -> dict[str, float]:
        """The given arguments by their Keras names."""
        return self.model_dump(exclude={"name"}, exclude_none=True)

    @model_validator(mode="after")
    def _takes_its_arguments(self) -> Self:
        taken = OPTIMIZERS[self.name]
        for argument, value in self.arguments.items():
            if argument not in taken:
                raise ValueError(f"{self.name} takes no {argument} ({value}); it takes {', '.join(sorted(taken))}")
        return self


class Schedule(Strict):
    """The learning rate over the steps of the whole training."""

    name: Literal["constant", "cosine", "one_cycle"] = "constant"  # one_cycle: cosine after a warm-up of 30%
    warm_up: Share | None = None  # share of all steps over which the rate rises linearly; null: 0, for one_cycle 0.3

    @property
    def rising(self) -> float:
        """The share of all steps that warm up."""
        return self.warm_up if self.warm_up is not None else {"one_cycle": 0.3}.get(self.name, 0.0)


class Loss(Strict):
    """Binary cross-entropy."""

    label_smoothing: Share = 0.0  # of training labels only, so that val_loss stays comparable between variants


class EarlyStopping(Strict):
    """Stop after `patience` epochs without improvement on validation, which makes its accuracy optimistic."""

    patience: Annotated[int, Field(ge=1)]
    monitor: Literal["val_loss", "val_binary_accuracy"] = "val_loss"


class Recipe(Strict):
    """A variant: a convnet and how it is trained."""

    image_size: Side | None = None  # pixels a side of the model's input; null: data.image_size
    base: Base | None = None
    blocks: Annotated[tuple[Block, ...], Field(strict=False)] = ()
    head: Head
    augment: Augment = Augment()
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    class_weight: Literal["balanced"] | None = None  # weighs each class by the inverse of its count
    l2: Annotated[float, Field(ge=0)] = 0.0  # penalty on squared kernels, not of a base; in the training loss only
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    early_stopping: EarlyStopping | None = None
    shuffle: Literal["once", "each_epoch"] = "once"
    keep: Literal["last", "best"] = "last"

    @model_validator(mode="after")
    def _has_a_body(self) -> Self:
        if not self.blocks and self.base is None:
            raise ValueError("a variant needs blocks, a base, or both")
        return self

    def side(self, image_size: int) -> int:
        """Pixels a side of the model's input, where data.image_size is `image_size`."""
        return self.image_size or image_size

    def map_sides(self, image_size: int) -> list[int]:
        """The side of the feature maps after each block of a model without a base; 0 where nothing is left."""
        sides, side = [], self.side(image_size)
        for block in self.blocks:
            side = -(-side // block.strides)
            side = side // POOL if block.pool != "none" else side
            sides.append(side)
        return sides


class Setup(Strict):
    """All that decides a training's numbers besides the images, the code and the libraries."""

    recipe: Recipe
    seed: int
    batch_size: int
    precision: Literal["float32", "mixed_bfloat16"]
    threads: int  # another number adds up in another order, and so rounds differently
