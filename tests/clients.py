#!/usr/bin/env python3
"""Plays an app's life by other clients of the Platform API: heroku3 (Python) and heroku-client (Node).

Needs: SHIPWAY_BIN (the binary), SHIPWAY_TEST_HEROKU3 (a Python that has heroku3), SHIPWAY_TEST_HEROKU_CLIENT (a directory
in which heroku-client is installed). Without one of the clients it plays the other; without both it exits with 77, skipped.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from transcripts import Platform

HERE = pathlib.Path(__file__).resolve().parent
PUSH = """#!/usr/bin/env bash
# Pushes examples/hello to the app of this name.
set -euo pipefail
eval "$(shipway env)"
rm -rf app && cp -r "$EXAMPLES/hello" app && cd app
git init -q -b main && git add -A && git commit -qm "Say hello"
git push -q "https://$HEROKU_GIT_HOST/$1.git" main
"""


def sessions():
    python, installed = os.environ.get("SHIPWAY_TEST_HEROKU3"), os.environ.get("SHIPWAY_TEST_HEROKU_CLIENT")
    if python:
        yield "heroku3", [python, HERE / "clients/with_heroku3.py"], {}
    if installed:
        modules = pathlib.Path(installed) / "node_modules"
        yield "heroku-client", ["node", HERE / "clients/with_heroku_client.js"], {"NODE_PATH": str(modules)}


def main():
    binary, known = os.environ.get("SHIPWAY_BIN"), list(sessions())
    if not binary or not known:
        print("SHIPWAY_BIN and one of SHIPWAY_TEST_HEROKU3, SHIPWAY_TEST_HEROKU_CLIENT are needed; skipped")
        return 77
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="shipway-clients-"))
    scratch.chmod(0o755)
    platform = Platform(str(pathlib.Path(binary).resolve()), scratch)
    push = scratch / "push"
    push.write_text(PUSH)
    push.chmod(0o755)
    env = {
        **os.environ, "PATH": f"{pathlib.Path(platform.binary).parent}:{os.environ['PATH']}", "HOME": str(scratch),
        "SHIPWAY_HOME": str(platform.home), "EXAMPLES": str(HERE.parent / "examples"), "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org", "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
    }
    failed = []
    try:
        platform.up()
        script = 'eval "$(shipway env)" && printf %s "$HEROKU_API_KEY"'
        token = subprocess.run(["bash", "-c", script], env=env, cwd=scratch, check=True, capture_output=True, text=True)
        for name, command, more in known:
            api = f"http://127.0.0.1:{platform.listen}"
            done = subprocess.run([*command, api, token.stdout, push], env={**env, **more}, cwd=scratch, timeout=240)
            print(f"{'ok  ' if done.returncode == 0 else 'FAIL'} {name}", flush=True)
            failed += [name] if done.returncode else []
    finally:
        platform.down()
        if failed:
            print(platform.tail())
    shutil.rmtree(scratch, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
