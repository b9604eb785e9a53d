"""The prepared images as MLflow's datasets: where they are from, what they look like and how many there are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.types import Schema, TensorSpec

from car_or_truck.cells.cell import Images


class Split(MetaDataset):  # type: ignore[misc]
    """A split of the prepared images, described without reading a pixel."""

    def __init__(self, images: Images, split: str) -> None:
        side = images.image_size
        self._profile = {"images": images.count(split), **images.counts[split], "pixels": f"{side} x {side}"}
        specs = {"image": (-1, side, side, 3), "label": (-1,)}
        super().__init__(
            CodeDatasetSource(tags={"source": images.source, "digest": images.digest}),
            name=f"{images.source}-{split}",
            digest=images.arrays[split][:8],
            schema=Schema([TensorSpec(np.dtype(np.uint8), shape, name) for name, shape in specs.items()]),
        )

    def to_dict(self) -> dict[str, Any]:
        """As MLflow stores it, with a profile."""
        return {**super().to_dict(), "profile": json.dumps(self._profile)}
