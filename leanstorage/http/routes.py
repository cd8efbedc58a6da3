"""The routes of the API, one table to read, and the dispatch of the system classes to their own modules."""
from leanstorage.http import refused, sms_routes
from leanstorage.resources import batch, batch_save, cloud_query, doers, files, friends, functions, installations, login, mail, named_files, objects, roles, scan, schemas, statuses, users, queries
from leanstorage.rules import values
from leanstorage.rules.call import Answer, Call, Resource, Route, ok
from leanstorage.store import now


def create_object(call: Call, class_name: str) -> Answer:
    """POST of any class; the system classes have rules of their own."""
    class_name = values.check_class_name(class_name)
    if class_name == "_User":
        return _verifying(call, users.sign_up(call))
    if class_name == "_Role":
        return roles.create(call)
    if class_name == "_File":
        return files.create_external(call)
    if class_name == "_Installation":
        return installations.create(call)
    return objects.create(call, class_name, doers.RULES.get(class_name, objects.PLAIN))


def find_objects(call: Call, class_name: str) -> Answer:
    """GET of a class."""
    return queries.find(call, values.check_class_name(class_name))


def get_object(call: Call, class_name: str, object_id: str) -> Answer:
    return queries.get(call, values.check_class_name(class_name), object_id)


def update_object(call: Call, class_name: str, object_id: str) -> Answer:
    class_name = values.check_class_name(class_name)
    if class_name == "_User":
        return _verifying(call, users.update(call, object_id))
    special = {"_Role": roles.update, "_File": files.update, "_Installation": installations.update}.get(class_name)
    if special:
        return special(call, object_id)
    return objects.update(call, class_name, object_id, doers.RULES.get(class_name, objects.PLAIN))


def delete_objects(call: Call, class_name: str, object_id: str) -> Answer:
    class_name = values.check_class_name(class_name)
    special = {"_User": users.delete, "_Role": roles.delete, "_File": files.delete}.get(class_name)
    return special(call, object_id) if special else objects.delete(call, class_name, object_id)


def _verifying(call: Call, answer: Answer) -> Answer:
    mail.verify_new_address(call)
    return answer


def scan_objects(call: Call, class_name: str) -> Answer:
    return scan.scan(call, values.check_class_name(class_name))


def date(call: Call) -> Answer:
    return ok(values.date(now()))


def _of(function: Resource, class_name: str) -> Resource:
    """The routes of /users, /roles, /files and others are those of their classes."""
    return lambda call, **parameters: function(call, class_name, **parameters)


ROUTES: list[Route] = [
    ("POST", "/batch", batch.run),
    ("POST", "/batch/save", batch_save.run),
    ("POST", "/call/<name>", functions.call_rpc),
    ("GET", "/call/<name>", functions.call_rpc),
    ("GET", "/classes/<class_name>", find_objects),
    ("POST", "/classes/<class_name>", create_object),
    ("DELETE", "/classes/<class_name>/<object_id>", delete_objects),
    ("GET", "/classes/<class_name>/<object_id>", get_object),
    ("PUT", "/classes/<class_name>/<object_id>", update_object),
    ("GET", "/cloudQuery", cloud_query.run),
    ("GET", "/date", date),
    ("POST", "/fileCallback", files.callback),
    ("POST", "/fileTokens", files.create_token),
    ("GET", "/files", _of(find_objects, "_File")),
    ("POST", "/files", files.create_external),
    ("POST", "/files/<name>", named_files.create),
    ("DELETE", "/files/<object_id>", _of(delete_objects, "_File")),
    ("GET", "/files/<object_id>", _of(get_object, "_File")),
    ("PUT", "/files/<object_id>", _of(update_object, "_File")),
    ("GET", "/followees", _of(find_objects, "_Followee")),
    ("DELETE", "/followees/<object_id>", _of(delete_objects, "_Followee")),
    ("GET", "/followees/<object_id>", _of(get_object, "_Followee")),
    ("GET", "/followers", _of(find_objects, "_Follower")),
    ("DELETE", "/followers/<object_id>", _of(delete_objects, "_Follower")),
    ("GET", "/followers/<object_id>", _of(get_object, "_Follower")),
    ("GET", "/functions/<name>", functions.call_function),
    ("POST", "/functions/<name>", functions.call_function),
    ("POST", "/installations", _of(create_object, "_Installation")),
    ("GET", "/installations", _of(find_objects, "_Installation")),
    ("DELETE", "/installations/<object_id>", _of(delete_objects, "_Installation")),
    ("GET", "/installations/<object_id>", _of(get_object, "_Installation")),
    ("PUT", "/installations/<object_id>", _of(update_object, "_Installation")),
    ("POST", "/login", login.login),
    ("POST", "/requestEmailVerify", mail.request_email_verify),
    ("POST", "/requestPasswordReset", mail.request_password_reset),
    ("GET", "/resetPassword/<token>", mail.reset_form),
    ("POST", "/resetPassword/<token>", mail.reset_password),
    ("GET", "/roles", _of(find_objects, "_Role")),
    ("POST", "/roles", _of(create_object, "_Role")),
    ("DELETE", "/roles/<object_id>", _of(delete_objects, "_Role")),
    ("GET", "/roles/<object_id>", _of(get_object, "_Role")),
    ("PUT", "/roles/<object_id>", _of(update_object, "_Role")),
    ("GET", "/scan/classes/<class_name>", scan_objects),
    ("GET", "/schemas", schemas.all_schemas),
    ("GET", "/schemas/<class_name>", schemas.schema),
    ("POST", "/statuses", statuses.send),
    ("GET", "/statuses", _of(find_objects, "_Status")),
    ("DELETE", "/statuses/<object_id>", statuses.remove),
    ("GET", "/statuses/<object_id>", _of(get_object, "_Status")),
    ("PUT", "/statuses/<object_id>", _of(update_object, "_Status")),
    ("GET", "/subscribe/statuses", statuses.inbox),
    ("GET", "/subscribe/statuses/count", statuses.count),
    ("DELETE", "/subscribe/statuses/inbox", statuses.remove_line),
    ("POST", "/subscribe/statuses/resetUnreadCount", statuses.reset_unread),
    ("GET", "/users", _of(find_objects, "_User")),
    ("POST", "/users", _of(create_object, "_User")),
    ("DELETE", "/users/<object_id>", _of(delete_objects, "_User")),
    ("GET", "/users/<object_id>", _of(get_object, "_User")),
    ("PUT", "/users/<object_id>", _of(update_object, "_User")),
    ("GET", "/users/<object_id>/followees", friends.followees),
    ("GET", "/users/<object_id>/followers", friends.followers),
    ("GET", "/users/<object_id>/followersAndFollowees", friends.followers_and_followees),
    ("DELETE", "/users/<object_id>/friendship/<target_id>", friends.unfollow),
    ("POST", "/users/<object_id>/friendship/<target_id>", friends.follow),
    ("PUT", "/users/<object_id>/friendship/<target_id>", friends.follow),
    ("PUT", "/users/<object_id>/refreshSessionToken", users.refresh_token),
    ("PUT", "/users/<object_id>/updatePassword", users.update_password),
    ("GET", "/users/me", users.me),
    ("GET", "/users/strictlyQuery", queries.find_named),
    ("GET", "/verifyEmail/<token>", mail.verify_email),
]

# Without credentials: the time, and links whose token is the credential.
OPEN: frozenset[Resource] = frozenset([date, mail.reset_form, mail.reset_password, mail.verify_email])
# Their bodies may be the bytes of a file.
RAW: frozenset[Resource] = frozenset([named_files.create])
EVERY_ROUTE = ROUTES + sms_routes.ROUTES + refused.ROUTES
