"""Calibration and evaluation data: files, folders of images and Python iterables, as feeds that fit a model."""

from dsedge.data.batches import Batch, Data
from dsedge.data.fit import Feeds
from dsedge.data.recipe import ArrayRecipe, ImageRecipe, Recipe, known_recipes, load_recipe
from dsedge.data.sources import open_data

__all__ = [
    "ArrayRecipe",
    "Batch",
    "Data",
    "Feeds",
    "ImageRecipe",
    "Recipe",
    "known_recipes",
    "load_recipe",
    "open_data",
]
