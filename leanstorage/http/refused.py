"""Features that this server does not have: refused with an error that says so. Protocol section 2.3.

The codes are those that the SDKs' own tests tolerate.
"""
from collections.abc import Iterable
from typing import NoReturn

from leanstorage.rules.call import Call, Resource, Route
from leanstorage.rules.errors import Code, StorageError

CAPTCHA = "Captcha"


def refuse(feature: str, code: Code = Code.UNSUPPORTED) -> Resource:
    """A resource function that refuses."""

    def refused(call: Call, **_: str) -> NoReturn:
        raise StorageError(code, feature=feature)

    return refused


def _every(template: str, feature: str, methods: Iterable[str] = ("GET", "POST", "PUT", "DELETE")) -> list[Route]:
    return [(method, template, refuse(feature)) for method in methods]


ROUTES: list[Route] = [
    ("POST", "/push", refuse("Push")),
    ("GET", "/tables/Notifications/<notification_id>", refuse("Push")),
    *_every("/rtm/<path:path>", "Messaging"),
    *_every("/classes/_ConversationMemberInfo", "Messaging", ("GET",)),
    ("POST", "/LiveQuery/subscribe", refuse("LiveQuery")),
    ("POST", "/LiveQuery/unsubscribe", refuse("LiveQuery")),
    *_every("/leaderboard/<path:path>", "Leaderboard"),
    ("GET", "/search/select", refuse("Full-text search")),
    ("POST", "/bigquery/jobs", refuse("BigQuery")),
    *_every("/bigquery/jobs/<path:path>", "BigQuery", ("GET", "POST")),
    ("POST", "/engine/cloud-queue/tasks", refuse("Cloud queue")),
    *_every("/engine/cloud-queue/tasks/<path:path>", "Cloud queue", ("GET", "POST")),
    ("POST", "/files/<object_id>/censor", refuse("File censorship")),
    *_every("/collect", "Statistics", ("POST",)),
    *_every("/stats/collect", "Statistics", ("POST",)),
    *_every("/statistics/<path:path>", "Statistics", ("GET",)),
    ("POST", "/stats/crash", refuse("Crash reports")),
    ("POST", "/stats/breakpad/minidump", refuse("Crash reports")),
    ("POST", "/feedback", refuse("User feedback")),
    ("PUT", "/feedback/<feedback_id>", refuse("User feedback")),
    *_every("/feedback/<feedback_id>/threads", "User feedback", ("GET", "POST")),
    ("POST", "/qiniu", refuse("Uploading straight to Qiniu (set AV.serverURL: files then come by this server)")),
    ("POST", "/exportData", refuse("An export by the API (use `leanstorage export`)")),
    ("GET", "/exportData/<export_id>", refuse("An export by the API (use `leanstorage export`)")),
    ("GET", "/users/tap-support/identity", refuse("TapSupport")),
    *_every("/friendshiprequests", "Friend requests", ("GET",)),
    *_every("/friendshiprequests/<path:path>", "Friend requests", ("GET", "DELETE")),
    *_every("/users/friendshipRequests", "Friend requests", ("GET", "POST")),
    ("PUT", "/users/friendshipRequests/<request_id>/accept", refuse("Friend requests")),
    ("PUT", "/users/friendshipRequests/<request_id>/decline", refuse("Friend requests")),
    *_every("/users/self/friends", "Friend requests", ("GET",)),
    *_every("/users/self/friendBlocklist", "Block lists", ("GET",)),
    *_every("/users/self/friendBlocklist/<path:path>", "Block lists", ("POST", "DELETE")),
    *_every("/users/friendshipRequests/<path:path>", "Friend requests", ("GET", "DELETE")),
    ("POST", "/logout", refuse("Ending a session by /logout (PUT /users/<id>/refreshSessionToken ends it)")),
    ("GET", "/requestCaptcha", refuse(CAPTCHA, Code.UNSUPPORTED_SMS)),
    ("POST", "/verifyCaptcha", refuse(CAPTCHA, Code.UNSUPPORTED_SMS)),
]
