"""`interest model deploy`, `rollback`, `fetch`: bundles and the places that workers take them from."""

from pathlib import Path

import click

PLACE = click.argument("place", metavar="PLACE")


@click.command(short_help="Put a bundle where workers take their model from.")
@click.argument("folder", type=click.Path(path_type=Path))
@PLACE
def deploy(folder: Path, place: str) -> None:
    """Put the bundle in FOLDER where workers take their model from: PLACE, a folder or URL.

    The bundle is proved first, as `verify` does. Workers whose INTEREST_MODEL is PLACE find it within
    INTEREST_MODEL_CHECK_S, prove it themselves and serve it; `rollback` takes it back. The bundles of
    before stay there.
    """
    from models import bundle as bundles
    from models.place import Place

    where = Place(place)
    bundle = bundles.load(folder)
    bundles.verify(bundle, bundles.session(bundle))
    version, former = where.deploy(folder)
    click.echo(f"{where.shown}: {version} is to be served" + (f", in place of {former}" if former else ""))


@click.command(short_help="Let workers serve the bundle of before again.")
@PLACE
def rollback(place: str) -> None:
    """Let the workers of PLACE serve the bundle again that was served before the last deploy or rollback."""
    from models.place import Place

    where = Place(place)
    version, again = where.roll_back()
    click.echo(f"{where.shown}: {again} is to be served again, in place of {version}")


@click.command(short_help="Copy a bundle out of a place.")
@PLACE
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--bundle-version", metavar="VERSION", help="Which one.  [default: the one to be served]")
def fetch(place: str, folder: Path, bundle_version: str | None) -> None:
    """Copy a bundle out of PLACE, a place or a bundle by folder or URL, into FOLDER; every digest is checked."""
    from models.place import Place

    where = Place(place)
    version = where.fetch(folder, bundle_version)
    click.echo(f"{folder}: {version} of {where.shown}")
