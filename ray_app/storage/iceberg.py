"""The user's catalog of Iceberg tables: the one that pyiceberg's standard configuration calls `default`
(`.pyiceberg.yaml`, `PYICEBERG_CATALOG__DEFAULT__URI`). In: the name of a table. Out: the catalog.
"""

from typing import TYPE_CHECKING

from ray_app.errors import UserError, first_line, pip_install

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog


def open_catalog(table: str) -> "Catalog":
    """The catalog, with the namespace of `table` (`namespace.table`) in it. Raises UserError where it cannot open."""
    try:
        from pyiceberg.catalog import load_catalog
    except ImportError:
        raise UserError(f"--sink iceberg needs pyiceberg: {pip_install('iceberg')}") from None
    try:
        catalog = load_catalog("default")
        catalog.create_namespace_if_not_exists(table.rpartition(".")[0])
    except Exception as error:  # whatever the user's catalog raises
        raise UserError(f"--sink iceberg: the catalog 'default' cannot be opened ({first_line(error)})") from None
    return catalog
