"""`import.yaml`, read and validated; every mistake is told in one line."""

from pathlib import Path

from pydantic import ValidationError

from prefkit.errors import RecipeError
from prefkit.mistakes import told
from prefkit.sources.config import ImportConfig, TableConfig
from prefkit.sources.files import looks_like_hub_id
from prefkit.yaml_file import refuse_unwritable, yaml_mapping


def load_import(path: Path) -> ImportConfig:
    """What the file says, with the paths of its tables made relative to where we are instead of to its folder.

    Raises RecipeError in one line for everything that can be wrong with it.
    """
    data = yaml_mapping(path, "import", "name and tables")
    refuse_unwritable(data, str(path))
    try:
        config = ImportConfig.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{path}: {told(error, data, ImportConfig, 'import')}") from None
    return config.model_copy(update={"tables": tuple(_placed(table, path.parent) for table in config.tables)})


def _placed(table: TableConfig, folder: Path) -> TableConfig:
    join = table.join and table.join.model_copy(update={"path": _path(table.join.path, folder)})
    return table.model_copy(update={"path": _path(table.path, folder), "join": join})


def _path(path: str, folder: Path) -> str:
    placed = folder / path
    return path if looks_like_hub_id(path) and not placed.exists() else str(placed)
