"""An app's life by heroku3, the Python client of the Platform API. Arguments: API, token, a command that pushes."""

import subprocess
import sys
import time

import heroku3
import heroku3.api

api, token, push = sys.argv[1:]
# Its address is a constant of the module; nothing else of it is touched.
heroku3.api.HEROKU_URL = api


def until(what, holds, seconds=60):
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return found


heroku = heroku3.from_key(token)
assert heroku.is_authenticated and heroku.account().email == "admin@localhost"

app = heroku.create_app(name="pythons", stack_id_or_name="heroku-24", region_id_or_name="us")
assert (app.name, app.owner.email) == ("pythons", "admin@localhost")
assert [one.name for one in heroku.apps()] == ["pythons"]

config = app.config()
config["GREETING"] = "hello"
app.update_config({"COLOUR": "red", "GONE": "soon"})
del app.config()["GONE"]
assert app.config().to_dict() == {"GREETING": "hello", "COLOUR": "red"}, app.config().to_dict()

subprocess.run([push, app.name], check=True)
assert [one.version for one in app.releases()][-1] == 5
assert app.process_formation()["web"].quantity == 1
app.process_formation()["web"].scale(2)
until("two dynos are up", lambda: sorted(d.name for d in app.dynos() if d.state == "up") == ["web.1", "web.2"])
app.batch_scale_formation_processes({"web": 1})
until("one dyno is up", lambda: [d.name for d in app.dynos()] == ["web.1"])

lines = app.get_log(lines=500).splitlines()
assert any("heroku[web.2]: State changed from starting to up" in line for line in lines), lines
assert all(line[:2] == "20" and "]: " in line for line in lines), "each line is one of the log"
follow = app.stream_log(lines=1, timeout=30)
assert b"]: " in next(follow)
app.restart()
assert any(b"heroku[web.1]: Stopping all processes with SIGTERM" in line for line in follow)

# Detached: an attached one is met over TLS with authorities that heroku3 brings itself, and ours is not among them.
dyno = app.run_command_detached("echo from a dyno")
until("its output", lambda: f"app[{dyno.name}]: from a dyno" in app.get_log(lines=500))

app.enable_maintenance_mode()
assert heroku.app("pythons").maintenance is True
app.disable_maintenance_mode()
assert heroku.ratelimit_remaining() > 1000
app.delete()
assert list(heroku.apps()) == []
print("heroku3 created, configured, scaled, read and destroyed pythons")
