"""`prefkit verify`."""

from prefkit.cli.console import counted, say, say_json
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.cli.texts import short_id
from prefkit.store.verify import Damage
from prefkit.store.verify import verify as verified

FEW = 5


def verify(*, rebuild: str | None = None, json: AsJson = False, workspace: WorkspacePath = None) -> int:
    """Check that everything stored is what was written. Exits 1 when it is not.

    Parameters
    ----------
    rebuild
        Also make this version again from its facts and compare every file.
    json
        Print JSON.
    """
    target = opened(workspace)
    version = target.versions.get(rebuild) if rebuild else None
    report = verified(target)
    differing: list[str] = []
    if version:
        from prefkit.pipeline.rebuild import rebuild as rebuilt

        differing = rebuilt(version, target)
    if json:
        damages = [{"place": d.place, "reason": d.reason, "row_ids": d.row_ids} for d in report.damages]
        told = {"version": version.label, "differing": differing} if version else None
        say_json({"checked": report.checked, "damages": damages, "rebuild": told})
    else:
        for damage in report.damages:
            say(_told(damage))
        if version:
            found = (
                f"differs in {', '.join(differing)}" if differing else "is byte for byte what its recipe and facts give"
            )
            say(f"rebuild: {version.label} {found}")
        checked = ", ".join(f"{n:,} {what}" for what, n in report.checked.items())
        hit = f"{counted(len(report.damages), 'place')} damaged" if report.damages else "all intact"
        say(f"checked {checked}: {hit}")
    return 1 if report.damages or differing else 0


def _told(damage: Damage) -> str:
    rows = f"; rows {', '.join(map(short_id, damage.row_ids[:FEW]))}" if damage.row_ids else ""
    more = f" and {len(damage.row_ids) - FEW:,} more" if len(damage.row_ids) > FEW else ""
    return f"damaged: {damage.place}: {damage.reason}{rows}{more}"
