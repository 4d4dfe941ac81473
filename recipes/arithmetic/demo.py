"""The main job, start to end, on a small policy that half knows arithmetic: about two minutes on two cores.

    make demo

Everything happens in the folder `demo/`, which is made anew: a workspace, a copy of the recipe, its 400 problems and
the policy. Each step is a `prefkit` command that you can repeat there. No network is used.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / "demo"
OLD, NEW = "select: {kind: correct_vs_incorrect}", "select: {kind: correct_vs_incorrect, per_prompt: 3}"


def say(text: str) -> None:
    """Tells what comes next."""
    print(f"\n# {text}", flush=True)


def prefkit(*arguments: str) -> None:
    """Runs a prefkit command in the demo's folder, and ends the demo when it fails."""
    print(f"$ prefkit {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "prefkit", *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "PREFKIT_WORKSPACE"}
    # A model this small gains nothing from a second thread, and on a busy machine the two wait for each other.
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    if code := subprocess.run(command, cwd=FOLDER, env=environment, check=False).returncode:
        sys.exit(code)


def main() -> None:
    """Builds two versions, compares them, trains on one and online, and exports the second."""
    started = time.perf_counter()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    shutil.copytree(HERE / "policy", FOLDER / "policy")
    for name in ("recipe.yaml", "problems.jsonl"):
        shutil.copy(HERE / name, FOLDER)

    say("A workspace, and a recipe: sample 8 answers a problem, check them, pair a right one with a wrong one.")
    prefkit("init")
    print((FOLDER / "recipe.yaml").read_text())
    prefkit("build", "recipe.yaml")

    say("Some pairs, side by side.")
    prefkit("show", "arithmetic@v1", "-n", "3")

    say(f"One line of the recipe changes: {NEW}")
    recipe = FOLDER / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(OLD, NEW))
    say("Nothing is sampled or labelled again: those are facts now.")
    prefkit("build", "recipe.yaml")
    prefkit("diff", "arithmetic@v1", "arithmetic@v2")

    say("The policy learns: offline from the first version, then from its own samples, synchronised every 5 steps.")
    prefkit("train", "recipe.yaml", "--data", "arithmetic@v1", "--run", "offline")
    prefkit("train", "recipe.yaml", "--set", "train.sync_period=5", "--run", "online")

    say("What that did, on the problems that are held out.")
    prefkit("eval", "recipe.yaml", "--policy", "offline")
    prefkit("eval", "recipe.yaml", "--policy", "online")

    say("The second version, as TRL trains on it.")
    prefkit("export", "arithmetic@v2", "--to", "exported", "--format", "trl", "--as", "parquet")
    print(
        f"\nDone in {time.perf_counter() - started:.0f} s. Look around: "
        f"cd {FOLDER.name}; prefkit log; prefkit runs; prefkit ledger arithmetic"
    )


if __name__ == "__main__":
    main()
