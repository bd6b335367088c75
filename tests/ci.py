#!/usr/bin/env python3
"""Tries the files of docs/ci: against their services' schemas, and their shell commands against a real platform.

The commands are taken out of the files as the services would: of GitHub Actions every `run:` whose `if:` holds, of
CircleCI every `run`, of GitLab `script:`. They run in a checkout, in a home of their own, with the variables that the
service would set. What the tokens may not do is tried as well.

Needs: SHIPWAY_BIN, SHIPWAY_TEST_CHECK_JSONSCHEMA (a Python with check-jsonschema); without them it exits with 77, skipped.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from transcripts import HERE, PATIENCE, Platform

FILES = HERE.parent / "docs" / "ci"
SCHEMAS = {"github-actions": "vendor.github-workflows", "circleci": "vendor.circle-ci", "gitlab-ci": "vendor.gitlab-ci"}


def read(python, name):
    """A file of docs/ci as plain data; `on:` is a word there, as for the services."""
    program = "import json, sys; from ruamel.yaml import YAML; print(json.dumps(YAML(typ='safe').load(open(sys.argv[1]))))"
    return json.loads(subprocess.run([python, "-c", program, FILES / f"{name}.yml"], capture_output=True, check=True).stdout)


class GitHub:
    name = "github-actions"

    def push(self, file, variables, ref):
        github = {"event_name": "push", "ref": f"refs/{'tags' if ref.startswith('v') else 'heads'}/{ref}"}
        return self.job(file, "deploy", variables, github)

    def review(self, file, variables, branch, number, action="synchronize"):
        github = {"event_name": "pull_request", "head_ref": branch, "event.number": str(number), "event.action": action}
        return self.job(file, "review", variables, github)

    def job(self, file, job, variables, github):
        def told(text):
            known = {f"github.{k}": v for k, v in github.items()}
            known |= {f"{kind}.{k}": v for kind in ("vars", "secrets") for k, v in variables.items()}
            return re.sub(r"\$\{\{ (\S+) \}\}", lambda m: known[m[1]], text)

        def holds(condition):
            name, sign, value = re.fullmatch(r"github\.(\S+) (==|!=) '(.*)'", condition).groups()
            return (github[name] == value) == (sign == "==")

        job = file["jobs"][job]
        assert job["steps"][0]["with"]["fetch-depth"] == 0, "the whole history"
        for step in job["steps"][1:]:
            assert "${{" not in step["run"], "expressions reach the shell as variables"
            if holds(step.get("if", "github.event_name != ''")):
                env = {**file["env"], **job.get("env", {}), **step.get("env", {})}
                yield step["run"], {k: told(v) for k, v in env.items()}


class CircleCI:
    name = "circleci"

    def push(self, file, variables, ref):
        return self.job(file, "deploy", variables, {} if ref.startswith("v") else {"CIRCLE_BRANCH": ref})

    def review(self, file, variables, branch, number):
        return self.job(file, "review", variables, {"CIRCLE_BRANCH": branch})

    def job(self, file, job, variables, env):
        for step in file["jobs"][job]["steps"]:
            if "sign-in" in step:
                checkout, sign_in = file["commands"]["sign-in"]["steps"]
                assert checkout["checkout"]["method"] == "full", "the whole history"
                yield sign_in["run"]["command"], {**variables, **env, "TOKEN_NAME": step["sign-in"]["token"]}
            else:
                yield step["run"]["command"], {**variables, **env}


class GitLab:
    name = "gitlab-ci"

    def push(self, file, variables, ref):
        return self.job(file, "deploy", variables, {"CI_COMMIT_TAG" if ref.startswith("v") else "CI_COMMIT_BRANCH": ref})

    def review(self, file, variables, branch, number, action="synchronize"):
        env = {"CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": branch, "CI_MERGE_REQUEST_IID": str(number)}
        return self.job(file, "review-ends" if action == "closed" else "review", variables, env)

    def job(self, file, job, variables, env):
        assert file["variables"]["GIT_DEPTH"] == 0, "the whole history"
        # Its runner feeds all lines to one shell, which ends at the first that fails.
        yield "\n".join(file[job]["script"]), {**variables, **env}


class Session:
    """One platform with a pipeline of two apps, and a team's repository."""

    def __init__(self, binary, scratch):
        self.scratch, self.platform = scratch, Platform(binary, scratch)
        self.platform.up()
        self.url = f"http://127.0.0.1:{self.platform.listen}"
        exported = subprocess.run([binary, "--home", self.platform.home, "env"], capture_output=True, text=True, check=True,
                                  env={**os.environ, "HOME": str(scratch), "XDG_CONFIG_HOME": str(scratch / "config")})
        self.admin = re.search(r"HEROKU_API_KEY=['\"]?([^'\"\s;]+)", exported.stdout)[1]
        self.checkout = scratch / "checkout"

    def api(self, method, path, body=None, token=None):
        command = ["curl", "-sS", "-w", "\n%{http_code}", "-X", method, self.url + path, "-H", f"Authorization: Bearer {token or self.admin}",
                   "-H", "Accept: application/vnd.heroku+json; version=3", "-H", "Content-Type: application/json"]
        if body is not None:
            command += ["-d", json.dumps(body)]
        text, status = subprocess.run(command, capture_output=True, text=True, check=True).stdout.rsplit("\n", 1)
        return int(status), json.loads(text) if text else None

    def made(self, path, body, token=None, method="POST"):
        status, answer = self.api(method, path, body, token)
        assert status < 300, f"{method} {path}: {status} {answer}"
        return answer

    def token(self, scope, by=None):
        return self.made("/oauth/authorizations", {"description": scope, "scope": [scope]}, by)["access_token"]["token"]

    def git(self, *arguments):
        env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org",
               "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org"}
        return subprocess.run(["git", "-C", self.checkout, *arguments], capture_output=True, text=True, check=True, env=env).stdout.strip()

    def commit(self, text):
        self.checkout.joinpath("page.txt").write_text(text)
        self.git("commit", "-qam", text)
        # As the services leave it: no branch, the commit alone.
        self.git("checkout", "-q", "--detach")

    def run(self, steps):
        """Runs a job's commands; its exit status and all that it wrote."""
        home, written = pathlib.Path(tempfile.mkdtemp(dir=self.scratch)), ""
        for command, env in steps:
            env = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_TERMINAL_PROMPT": "0", **env}
            done = subprocess.run(["bash", "-eo", "pipefail", "-c", command], cwd=self.checkout, env=env, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=120)
            written += done.stdout
            if done.returncode:
                return done.returncode, written
        return 0, written

    def page(self, app):
        return subprocess.run(["curl", "-s", "-H", f"Host: {app}.localhost", f"http://127.0.0.1:{self.platform.router}/page.txt"],
                              capture_output=True, text=True).stdout

    def until(self, what, holds):
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end, f"not within {PATIENCE} s: {what}"
            time.sleep(0.1)


def prepare(session):
    """Apps, pipeline, tokens. Returns the variables that docs/ci/README.md lists."""
    for app in ("shop-staging", "other"):
        session.made("/apps", {"name": app})
    pipeline = session.made("/pipelines", {"name": "shop"})
    coupling = {"app": "shop-staging", "pipeline": pipeline["id"], "stage": "staging"}
    session.made("/pipeline-couplings", coupling)
    session.made(f"/pipelines/{pipeline['id']}/review-app-config", {"repo": "acme/shop"})
    session.checkout.mkdir()
    session.git("init", "-q", "-b", "main")
    session.checkout.joinpath("Procfile").write_text("web: python3 -u -m http.server $PORT\n")
    session.checkout.joinpath("app.json").write_text('{ "name": "shop" }\n')
    session.checkout.joinpath("page.txt").write_text("nothing yet")
    session.git("add", "-A")
    session.git("commit", "-qm", "Begin")
    # The account of CI, invited and let in to one app.
    status, invited = session.api("POST", "/shipway/v1/users", {"email": "ci@example.com"})
    assert status < 300, invited
    session.made("/apps/shop-staging/collaborators", {"user": "ci@example.com"})
    return {"SHIPWAY_URL": session.url, "SHIPWAY_APP": "shop-staging", "SHIPWAY_PIPELINE": "shop",
            "SHIPWAY_TOKEN": session.token("deploy:shop-staging"),
            "SHIPWAY_REVIEW_TOKEN": session.token("write", invited["token"])}


def deploys(service, file, session, variables):
    session.commit(f"{service.name} deploys")
    status, said = session.run(service.push(file, variables, "main"))
    assert status == 0 and "deployed to Shipway" in said, said
    assert session.page("shop-staging") == f"{service.name} deploys"
    upstream = session.made("/shipway/v1/pipelines/shop/upstream", None, method="GET")
    assert (upstream["branch"], upstream["tip"]) == ("main", session.git("rev-parse", "HEAD")), upstream
    session.commit(f"{service.name} releases")
    status, said = session.run(service.push(file, variables, "v1.0"))
    assert status == 0 and session.page("shop-staging") == f"{service.name} releases", said
    # What fails there fails the job, with the reason.
    session.checkout.joinpath("Procfile").write_text("web\n")
    session.commit(f"{service.name} breaks")
    status, said = session.run(service.push(file, variables, "main"))
    assert status != 0 and 'Procfile, line 1: "web" has no colon' in said, said
    session.checkout.joinpath("Procfile").write_text("web: python3 -u -m http.server $PORT\n")
    session.commit(f"{service.name} mends")


def reviews(service, file, session, variables, number):
    branch = f"{service.name}-login"
    session.commit(f"{service.name} opens")
    status, said = session.run(service.review(file, variables, branch, number))
    assert status == 0 and "The review app is being made." in said, said
    app = f"shop-pr-{number}" if service.name != "circleci" else f"shop-{branch}"
    session.until("the review app serves", lambda: session.page(app) == f"{service.name} opens")
    session.commit(f"{service.name} changes")
    status, said = session.run(service.review(file, variables, branch, number))
    assert status == 0 and "The review app is there" in said, said
    session.until("the review app has the change", lambda: session.page(app) == f"{service.name} changes")
    if service.name != "circleci":
        status, said = session.run(service.review(file, variables, branch, number, "closed"))
        assert status == 0, said
        session.until("the review app is gone", lambda: session.api("GET", f"/apps/{app}")[0] == 404)


def attack_01_a_branchs_name_is_only_a_name(service, file, session, variables):
    # A shell, or JSON, that took it for more would make the file or send something else.
    branch = '$(touch${IFS}owned)";touch${IFS}owned;"'
    status, said = session.run(service.review(file, variables, branch, 70))
    assert status == 0 and not session.checkout.joinpath("owned").exists(), said
    assert branch in [r["branch"] for r in session.made("/pipelines/shop/review-apps", None, method="GET")]


def attack_20_what_the_tokens_may_not(service, file, session, variables):
    for change in ({"SHIPWAY_APP": "other"}, {"SHIPWAY_TOKEN": variables["SHIPWAY_TOKEN"][:-1] + "x"}):
        status, said = session.run(service.push(file, {**variables, **change}, "v2"))
        assert status != 0 and "deployed" not in said, said
    swapped = {**variables, "SHIPWAY_REVIEW_TOKEN": variables["SHIPWAY_TOKEN"]}
    status, said = session.run(service.review(file, swapped, "sneaky", 99))
    assert status != 0 and "says whether that worked, and does nothing else" in said, said
    refused = {"SHIPWAY_TOKEN": ("/apps/shop-staging/config-vars", "/apps/shop-staging/dynos", "/apps/other", "/shipway/v1/users"),
               "SHIPWAY_REVIEW_TOKEN": ("/apps/shop-staging/config-vars", "/apps/other")}
    for token, paths in refused.items():
        for path in paths:
            status, _ = session.api("GET", path, token=variables[token])
            assert status in (403, 404), f"{token} {path}: {status}"


def main():
    binary, python = os.environ.get("SHIPWAY_BIN"), os.environ.get("SHIPWAY_TEST_CHECK_JSONSCHEMA")
    if not binary or not python or not pathlib.Path(python).exists():
        print("SHIPWAY_BIN and SHIPWAY_TEST_CHECK_JSONSCHEMA are needed; skipped")
        return 77
    for name, schema in SCHEMAS.items():
        subprocess.run([python, "-m", "check_jsonschema", "--builtin-schema", schema, FILES / f"{name}.yml"], check=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="shipway-ci-"))
    scratch.chmod(0o755)
    session = Session(str(pathlib.Path(binary).resolve()), scratch)
    try:
        variables = prepare(session)
        for number, service in enumerate((GitHub(), CircleCI(), GitLab()), 1):
            file = read(python, service.name)
            deploys(service, file, session, variables)
            reviews(service, file, session, variables, number)
            attack_20_what_the_tokens_may_not(service, file, session, variables)
            attack_01_a_branchs_name_is_only_a_name(service, file, session, variables)
            print(f"ok   {service.name}", flush=True)
    finally:
        session.platform.down()
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
