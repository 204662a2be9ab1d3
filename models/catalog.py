"""The items and categories a model knows, by row; row 0 stands for what it does not know."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stream import contract
from stream.errors import BundleError


@dataclass(frozen=True, eq=False)
class Catalog:
    """Ids, names and hashes of items and categories, and each item's category. Row 0: unknown, with empty id."""

    item_ids: NDArray[np.str_]  # [items]
    item_names: NDArray[np.str_]  # [items], for people; the id where there is no name
    item_category: NDArray[np.int64]  # [items], row of the category; 0: none
    item_hashes: NDArray[np.uint64]  # [items], contract.hash64 of the id; row 0: 0
    category_ids: NDArray[np.str_]  # [categories]
    category_names: NDArray[np.str_]  # [categories]
    category_hashes: NDArray[np.uint32]  # [categories], contract.hash32 of the id; row 0: 0

    @classmethod
    def build(
        cls,
        *,
        item_ids: Sequence[str],
        item_categories: Sequence[str],
        category_ids: Sequence[str],
        item_names: Sequence[str] | None = None,
        category_names: Sequence[str] | None = None,
    ) -> Self:
        """From lists without a row 0, which is added. `item_categories` holds category ids, "" for none.

        Raises:
            BundleError: an id twice, an empty id, one with a NUL, or an item of a category that is not listed.
        """
        for kind, ids in (("item", item_ids), ("category", category_ids)):
            if len(set(ids)) < len(ids):
                twice = Counter(ids).most_common(1)[0][0]
                raise BundleError(f"catalog: {kind} ids must differ, got {twice!r} twice")
            wrong = next((name for name in ids if not name or "\0" in name), None)
            if wrong is not None:
                raise BundleError(f"catalog: {kind} ids must not be empty nor hold a NUL, got {wrong!r}")
        row_of = {"": 0, **{name: row for row, name in enumerate(category_ids, start=1)}}
        lost = next((name for name in item_categories if name not in row_of), None)
        if lost is not None:
            raise BundleError(
                f"catalog: an item's category expected among the {len(category_ids)} listed, got {lost!r}"
            )
        return cls(
            item_ids=np.array(["", *item_ids], dtype=np.str_),
            item_names=np.array(["", *(item_names or item_ids)], dtype=np.str_),
            item_category=np.array([0, *(row_of[name] for name in item_categories)], np.int64),
            item_hashes=np.array([0, *map(contract.hash64, item_ids)], np.uint64),
            category_ids=np.array(["", *category_ids], dtype=np.str_),
            category_names=np.array(["", *(category_names or category_ids)], dtype=np.str_),
            category_hashes=np.array([0, *map(contract.hash32, category_ids)], np.uint32),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `catalog.npz` holds."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def items(self) -> int:
        """Rows of items, the unknown one included."""
        return len(self.item_ids)

    @property
    def categories(self) -> int:
        """Rows of categories, the unknown one included."""
        return len(self.category_ids)


#: dtype kind and axes of each array of `catalog.npz`.
CATALOG_ARRAYS = {
    "item_ids": ("U", ("items",)),
    "item_names": ("U", ("items",)),
    "item_category": ("int64", ("items",)),
    "item_hashes": ("uint64", ("items",)),
    "category_ids": ("U", ("categories",)),
    "category_names": ("U", ("categories",)),
    "category_hashes": ("uint32", ("categories",)),
}
