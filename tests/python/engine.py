"""The engine of `engine_checks.py` on the Python SDK of any generation; the environment says where the storage is."""
import os
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import make_server, WSGIServer

try:
    from leanengine import old_werkzeug  # noqa: F401  before the SDK, on Python 3.14
except ImportError:
    pass
import leancloud

keys = {name: os.environ[f"LEANCLOUD_APP_{name.upper()}"] for name in ("id", "key", "master_key", "hook_key")}
try:
    leancloud.init(keys["id"], app_key=keys["key"], master_key=keys["master_key"], hook_key=keys["hook_key"])
except TypeError:
    leancloud.init(keys["id"], app_key=keys["key"], master_key=keys["master_key"])
leancloud.use_master_key(True)
try:
    engine = leancloud.Engine()
except TypeError:  # before 1.9
    engine = leancloud.Engine(None)
Every = leancloud.Object.extend("Every")


@engine.before_save("Every")
def before_save(item):
    item.set("hooked", "beforeSave")


@engine.before_update("Every")
def before_update(item):
    item.set("hooked", "beforeUpdate")


@engine.define
def row(**params):
    return leancloud.Query(Every).first()


@engine.define
def rows(**params):
    return leancloud.Query(Every).find()


@engine.define
def given(**params):
    return {"name": params["object"].get("name"), "year": params["when"].year, "id": params["object"].id}


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


server = make_server("127.0.0.1", int(os.environ["LEANCLOUD_APP_PORT"]), engine, server_class=Server)
print("up", file=sys.stderr, flush=True)
server.serve_forever()
