# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Car or truck: the lesson's convnets, and what can be said about them
#
# [Custom Convnets](https://www.kaggle.com/code/ryanholbrook/custom-convnets), a lesson of Kaggle's computer-vision
# course, builds a convnet from scratch, and its exercise a slightly larger one. This notebook trains both as the lesson
# does, and then goes on to what the lesson leaves open: is the second one really better, or was it luck? How badly does
# each one overfit? What do they get wrong, and where do they look?
#
# **On Kaggle**, add the data set `ryanholbrook/car-or-truck` to the notebook, switch on the internet and a GPU, and set
# `PROJECT` in the next cell. **Anywhere else** it runs as it stands: without the photographs it trains on synthetic
# images that the project draws.

# %%
import importlib.util
import os
import subprocess
import sys

# What pip installs: a folder, or on Kaggle "git+" and the address of the project's repository
PROJECT = os.environ.get("PROJECT", "..")

if importlib.util.find_spec("car_or_truck") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", PROJECT], check=True)

# %%
from car_or_truck.train import runtime

SEED = 31415  # the lesson's
PRECISION = runtime.start(SEED, "auto")  # starts TensorFlow; bfloat16 where the processor or GPU has it

# %%
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
from IPython.display import display
from PIL import Image

from car_or_truck.compare import verdict
from car_or_truck.compare.overfitting import LEGEND, Overfitting
from car_or_truck.evaluate import figures, inspection, inspection_figures, scores
from car_or_truck.fetch import folders
from car_or_truck.fetch.standin.draw import draw, is_truck
from car_or_truck.prepare import images
from car_or_truck.tracking.progress import Progress
from car_or_truck.train import batches, convnet, fit, scaling
from car_or_truck.train.checkpoint import Checkpoint
from car_or_truck.train.history import derive
from car_or_truck.train.recipe import Recipe, Setup

# %% [markdown]
# ## 1. The images
#
# Both splits become arrays of 128 x 128 pixels. The label is 0 for a car and 1 for a truck, so the model's single
# output is the probability of a truck.

# %%
INPUT = Path("../input/car-or-truck")  # where Kaggle mounts the data set
CLASSES = ("Car", "Truck")
SIZE = 128  # pixels a side
DRAWN = {"train": 448, "valid": 128}  # synthetic images, if there are no photographs

photographs = (INPUT / "train").is_dir()


def load(split: str) -> tuple[batches.Split, list[str]]:
    """The images of a split, and their names."""
    if photographs:
        files = [(label, str(name)) for _, label, name in folders.list_images(INPUT, CLASSES, [split])]
        labels, names = [label for label, _ in files], [name for _, name in files]
        pixels = [images.decode(INPUT / split / name, SIZE).pixels for name in names]
    else:
        numbers = range(DRAWN[split])
        labels, names = [int(is_truck(number)) for number in numbers], [f"{number}.png" for number in numbers]
        pixels = [np.asarray(draw(SEED, split, number, SIZE)) for number in numbers]
    return batches.Split(np.stack(pixels), np.array(labels, np.uint8)), names


train, _ = load("train")
valid, names = load("valid")
if not photographs:
    print(f"There is no {INPUT}: these are SYNTHETIC images. Nothing below holds for photographs.")
for split, part in (("train", train), ("valid", valid)):
    print(f"{split}: {len(part)} images, {part.labels.mean():.1%} trucks")

# %% [markdown]
# Seven training photographs of the data set are in the validation set too. A model may remember those instead of
# recognizing them, so they are left out of the training.

# %%
in_valid = {hash(picture.tobytes()) for picture in valid.images}
fresh = np.array([hash(picture.tobytes()) not in in_valid for picture in train.images])
train = batches.Split(train.images[fresh], train.labels[fresh])
print(f"{(~fresh).sum()} left out, {len(train)} left")

# %%
rows = [np.hstack(train.images[start : start + 8]) for start in (0, 8)]
rows += [np.hstack(train.images[-8:])]
display(Image.fromarray(np.vstack(rows)))

# %% [markdown]
# ## 2. The first convnet
#
# Here a convnet is a *recipe*: blocks of convolutions, each ended by a pool that halves the side of the maps, then a
# head that decides. The numbers of filters double from block to block, because the maps shrink while what they stand
# for gets more complex. This recipe is the convnet that the lesson's tutorial builds, with its optimizer and its 40
# epochs.

# %%
tutorial = Recipe.model_validate(
    {
        "blocks": [{"filters": 32, "kernel_size": 5}, {"filters": 64}, {"filters": 128}],
        "head": {"units": 6},
        "optimizer": {"name": "adam", "learning_rate": 0.001, "epsilon": 0.01},
        "epochs": 40,
    }
)
net = convnet.build(tutorial, SIZE)
net.summary()


# %%
def show(draw_figure, *arguments):
    """Draw a figure of the project, and display it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "figure.png"
        draw_figure(*arguments, path)
        display(Image.open(path))


def diagram(net, title):
    """The layers from left to right."""
    show(inspection_figures.architecture, inspection.steps(net), inspection.multiply_adds(net), title)


diagram(net, "tutorial")

# %% [markdown]
# Two thirds of the parameters sit in the first dense layer, almost all the work in the convolutions.
#
# To train means: build the net, fit it, and predict both splits with the finished weights, without dropout. With the
# photographs that takes about 12 minutes on two processor cores that have bfloat16 arithmetic, and from twice that to
# two and a half hours on two that have not; with the synthetic images a few minutes; and far less on a GPU. (Set the
# environment variable `EPOCHS` to try everything out with fewer.)

# %%
EPOCHS = os.environ.get("EPOCHS")


class Model(NamedTuple):
    """A trained convnet."""

    net: object
    history: pd.DataFrame  # a row an epoch
    valid: figures.Predictions
    right: np.ndarray  # whether each validation image is predicted correctly
    accuracies: dict  # of the finished weights, by split


def train_model(name, recipe):
    """Train a recipe with the lesson's seed and batch size."""
    recipe = recipe.model_copy(update={"epochs": int(EPOCHS)}) if EPOCHS else recipe
    side = recipe.side(SIZE)
    splits = {"train": train, "valid": valid}
    if side != SIZE:
        splits = {key: batches.Split(scaling.resized(part.images, side), part.labels) for key, part in splits.items()}
    setup = Setup(recipe=recipe, seed=SEED, batch_size=64, precision=PRECISION, threads=runtime.available_threads())
    runtime.start(SEED, PRECISION)
    net = convnet.build(recipe, SIZE)
    with TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "checkpoint.npz")
        history, _ = fit.fit(net, setup, fit.Data(**splits), checkpoint, [Progress(len(train))])
    net = convnet.inference_copy(net)
    predicted = {key: net.predict(batches.in_order(part, 64), verbose=0)[:, 0] for key, part in splits.items()}
    table = pd.DataFrame({"name": names, "label": valid.labels, "probability": predicted["valid"].astype(float)})
    return Model(
        net,
        history,
        figures.Predictions(name, CLASSES, splits["valid"].images, table),
        (predicted["valid"] > 0.5) == (valid.labels == 1),
        {key: scores.accuracy(part.labels, predicted[key]) for key, part in splits.items()},
    )


# %%
models = {"tutorial": train_model("tutorial", tutorial)}

# %% [markdown]
# ## 3. Learning curves

# %%
show(figures.learning_curves, models["tutorial"].history, "tutorial", figures.only_in_training(tutorial))

# %% [markdown]
# Read the left plot first. While both losses fall, the model learns what holds for new images as well. Once the
# validation loss turns upwards (the vertical line is its lowest point) while the training loss goes on falling, what it
# learns holds for the training images alone: it overfits. The distance between the two accuracies on the right is what
# that has cost by the end. If both curves had stopped rising early and close together, the model would underfit
# instead, and would need more capacity or more epochs.
#
# ## 4. The exercise
#
# The exercise gives the third block a second convolution, puts dropout into the head, and trains longer with smaller
# steps: 1e-4, 50 epochs.

# %%
exercise = Recipe.model_validate(
    {
        "blocks": [{"filters": 32}, {"filters": 64}, {"filters": 128, "convs": 2}],
        "head": {"units": 6, "dropout": 0.2},
        "optimizer": {"name": "adam", "learning_rate": 0.0001},
        "epochs": 50,
    }
)
models["exercise"] = train_model("exercise", exercise)

# %%
models["exercise"].net.summary()
diagram(models["exercise"].net, "exercise")

# %%
show(figures.learning_curves, models["exercise"].history, "exercise", figures.only_in_training(exercise))

# %% [markdown]
# Two things to watch. If the accuracy on validation stands still for the first epochs, the model gives the same answer
# for every image: with so few units in the head and such small steps it takes a while to leave that plateau. And the
# training curve is drawn *with* dropout, which makes it look worse than the model is, so the distance between the
# curves understates the overfitting. Below, both accuracies are those of the finished weights without dropout.
#
# ## 5. A third one
#
# Nothing in the lesson says that a convnet needs 128 pixels or 50 epochs. `sprint` looks at 64 pixels, starts with
# strides instead of pooling, normalizes each batch, sees every image flipped and shifted anew, and takes steps of even
# strength in all directions of a kernel (Muon). It costs about a twentieth of the exercise's multiplications, for 6
# epochs.

# %%
sprint = Recipe.model_validate(
    {
        "image_size": 64,
        "blocks": [
            {"filters": 32, "strides": 2, "batch_norm": True},
            {"filters": 64, "batch_norm": True},
            {"filters": 128, "batch_norm": True},
            {"filters": 256, "batch_norm": True, "pool": "none"},
        ],
        "head": {"pooling": "global_max"},
        "augment": {"flip": True, "shift": 0.1},
        "optimizer": {"name": "muon", "learning_rate": 0.02, "momentum": 0.85},
        "schedule": {"name": "one_cycle"},
        "loss": {"label_smoothing": 0.05},
        "shuffle": "each_epoch",
        "epochs": 6,
    }
)
models["sprint"] = train_model("sprint", sprint)
diagram(models["sprint"].net, "sprint")
show(figures.learning_curves, models["sprint"].history, "sprint", figures.only_in_training(sprint))

# %% [markdown]
# ## 6. Which is best?
#
# An accuracy on a finite number of images is an estimate. The 95% confidence interval (Wilson's) says which accuracies
# on all such images would fit the one that was measured. The **gap** is the accuracy on train minus that on validation,
# in points; its grade also looks at how far the validation loss has risen from its lowest.


# %%
def overfitting(model):
    """How badly a model overfits."""
    derived = derive(model.history)
    return Overfitting(
        overfit_epoch=derived["overfit_epoch"],
        lowest=model.history["val_loss"].min(),
        rise=derived["overfit_rise"],
        kept_rise=derived["overfit_rise"],  # the weights of the last epoch are kept
        gap=model.accuracies["train"] - model.accuracies["valid"],
    )


def row(model):
    """A model's line in the table."""
    low, high = scores.wilson(int(model.right.sum()), len(valid))
    return {
        "accuracy": f"{model.accuracies['valid']:.1%}",
        "95% CI": f"{low:.1%} to {high:.1%}",
        "gap (points)": f"{100 * overfitting(model).gap:+.1f}",
        "grade": "collapsed" if scores.has_collapsed(model.valid.probability) else overfitting(model).grade,
        "parameters": f"{model.net.count_params():,}",
        "multiply-adds": f"{inspection.multiply_adds(model.net) / 1e6:,.0f} M",
    }


ranking = sorted(models, key=lambda name: -models[name].accuracies["valid"])
display(pd.DataFrame({name: row(models[name]) for name in ranking}).T)
print(LEGEND, "Collapsed: the same answer for every image.")

# %% [markdown]
# Two intervals that overlap do not settle which model is better, because both models saw the *same* images. The right
# question is on how many images only the one is right, and on how many only the other. McNemar's test answers it, and
# Holm's correction allows for asking it of every pair.

# %%
for pair in verdict.compare_recipes({name: model.right[None] for name, model in models.items()}):
    print(pair.words)
print(verdict.ONE_SEED)

# %% [markdown]
# On the photographs, the project trained all three with several seeds; its `results/` holds every prediction. There
# `exercise` leads `tutorial` by 4.1 points (95% CI 0.7 to 7.6), not significant after correction for all pairs.
# `sprint` beats `tutorial` by 8.9 points (95% CI 5.9 to 11.9), and `exercise` by 4.8 points (95% CI 2.8 to 6.7). The
# validation loss of `tutorial` was lowest at epoch 22 or 23 of 40 in all three seeds, that of `exercise` at epochs 29,
# 36 and 47 of 50, where the lesson prints 30.

# %% [markdown]
# ## 7. What the best one gets wrong
#
# Its most confident mistakes, worst first. Some are hard, a few may be mislabelled, and what they have in common is a
# hint at what to change.

# %%
best = models[ranking[0]]
show(figures.mistakes, best.valid)

# %% [markdown]
# ## 8. Where they look
#
# Grad-CAM lights up the regions that drove the answer. A model that looks at the vehicle has learned what it should;
# one that looks at the sky or at the black bars has found a shortcut in the data.

# %%
places = np.linspace(0, len(valid) - 1, 8).astype(int)
looks = {}
for name in ranking:
    predictions = models[name].valid
    pixels = predictions.images[places].astype(np.float32) / 255
    captions = [predictions.caption(place) for place in places]
    looks[name] = (pixels, inspection.grad_cam(models[name].net, pixels), captions)
show(inspection_figures.grad_cam, looks, "Eight validation images")

# %% [markdown]
# ## 9. On from here
#
# - Change a recipe, train it under a new name, and run the cells from section 6 on again.
# - Train each recipe with several seeds before you say which *recipe* is better: `verdict.compare_recipes` takes an
#   array of one row a seed.
# - The project does all of this as a pipeline: recipes in `params.yaml`, `dvc repro` to train what changed, MLflow to
#   browse the runs, and gates that a model must pass before it becomes the champion. Its README is the place to start.
