"""Where the endpoint's application lived before it moved: a deployed `serve.yaml` that names it learns the new path."""

from typing import NoReturn

from ray_app.errors import UserError


def app(arguments: dict[str, object]) -> NoReturn:
    """Raises UserError: `import_path` must name the module's new place."""
    raise UserError("import_path: ray_app.serve:app has moved; write ray_app.serving.serve:app in your serve.yaml")
