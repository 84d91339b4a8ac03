"""Calibration and evaluation data: files, folders and Python iterables, as feeds that fit a model."""

from dsedge.data.batches import Batch, Data
from dsedge.data.fit import Feeds
from dsedge.data.recipe import (
    ArrayRecipe,
    ImageRecipe,
    LetterboxRecipe,
    Recipe,
    SpeechRecipe,
    TableRecipe,
    TokenRecipe,
    known_recipes,
    load_recipe,
)
from dsedge.data.sources import open_data

__all__ = [
    "ArrayRecipe",
    "Batch",
    "Data",
    "Feeds",
    "ImageRecipe",
    "LetterboxRecipe",
    "Recipe",
    "SpeechRecipe",
    "TableRecipe",
    "TokenRecipe",
    "known_recipes",
    "load_recipe",
    "open_data",
]
