"""One program for every generation of the Python SDK: it prints one JSON object. LC_API_SERVER, APP_ID, APP_KEY name the server."""
import io
import json
import os
import urllib.request
from datetime import UTC, datetime

import leancloud

leancloud.init(os.environ["APP_ID"], os.environ["APP_KEY"])
Thing, Child = leancloud.Object.extend("Thing"), leancloud.Object.extend("Child")


def read(url):
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()


def objects(result):
    child = Child()
    child.set("x", 7)
    child.save()
    thing = Thing()
    thing.set("n", 1)
    thing.set("at", datetime(2026, 1, 1, tzinfo=UTC))
    thing.set("where", leancloud.GeoPoint(1, 2))
    thing.set("child", child)
    thing.save()
    thing.increment("n", 2)
    thing.add("tags", "a")
    thing.save()
    fresh = leancloud.Query("Thing").include("child").get(thing.id)
    result["operations"] = [fresh.get("n"), fresh.get("tags"), fresh.get("where").longitude, fresh.get("child").get("x")]
    many = [Thing(), Thing()]
    for number, one in enumerate(many):
        one.set("n", 5 + number)
    leancloud.Object.save_all(many)
    found = leancloud.Query("Thing").greater_than("n", 4).descending("n").find()
    result["found"] = [one.get("n") for one in found]
    result["count"] = leancloud.Query("Thing").count()
    result["cql"] = len(leancloud.Query.do_cloud_query("select * from Thing where n > ?", 4).results)
    thing.relation("kids").add(child)
    thing.save()
    result["relation"] = len(thing.relation("kids").query.find())
    try:
        thing.save(where=leancloud.Query("Thing").greater_than("n", 99))
    except leancloud.LeanCloudError as error:
        result["condition"] = error.code
    leancloud.Object.destroy_all(many)
    result["left"] = leancloud.Query("Thing").count()


def users(result):
    user = leancloud.User()
    user.set_username("somebody")
    user.set_password("pw")
    user.sign_up()
    token = user.get_session_token()
    user.logout()
    again = leancloud.User()
    again.login("somebody", "pw")
    result["same"] = again.get_session_token() == token
    try:
        leancloud.User().login("somebody", "wrong")
    except leancloud.LeanCloudError as error:
        result["wrong"] = error.code
    result["become"] = leancloud.User.become(token).get_username()
    rights = leancloud.ACL()
    rights.set_public_read_access(True)
    role = leancloud.Role("admins", rights)
    role.save()
    result["role"] = bool(role.id)


def files(result):
    file = leancloud.File("hello.txt", io.BytesIO(b"hello"), "text/plain")
    file.save()
    result["file"] = read(file.url)
    holder = Thing()
    holder.set("file", file)
    holder.save()
    result["held"] = read(leancloud.Query("Thing").get(holder.id).get("file").url)
    external = leancloud.File.create_with_url("logo.png", "http://files.example/logo.png")
    external.save()
    fetched = leancloud.File.create_without_data(external.id)
    fetched.fetch()
    result["external"] = fetched.url
    file.destroy()
    try:
        read(file.url)
    except OSError as error:
        result["gone"] = error.code


result = {}
for step in (objects, users, files):
    step(result)
print(json.dumps(result))
