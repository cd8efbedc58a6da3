"""GET /cloudQuery: a CQL select, answered as a find is; insert, update and delete, as the calls that they stand for."""

from leanstorage.resources import queries
from leanstorage.rules import classes, cql, rendering
from leanstorage.rules.call import Answer, Call, ok
from leanstorage.rules.errors import Code, StorageError
from leanstorage.store import Document, Transaction
from leanstorage.rules.values import check_class_name, check_object_id


def run(call: Call) -> Answer:
    """`{"results": [...], "className": C}`, with `count` when the statement asks for it. Raises 101, 102, 300, 403."""
    text = call.query.get("cql")
    if not isinstance(text, str) or not text.strip():
        raise StorageError(Code.CQL_SYNTAX, detail="cql is missing")
    statement = cql.parse(text, cql.parse_pvalues(call.query.get("pvalues")))
    class_name = check_class_name(statement.class_name)
    if isinstance(statement, cql.Write):
        return ok({"results": _written(call, statement), "className": class_name})

    def work(transaction: Transaction) -> Document:
        info = classes.existing(transaction, class_name)
        principals = call.principals(transaction)
        classes.check_permission(info, "find", principals)
        query = queries.listing(transaction, call, class_name, {**statement.options, "where": statement.where}, principals)
        rows = transaction.find(query) if query.limit and statement.is_listed else []
        view = rendering.View(statement.options.get("include", ""), statement.options.get("keys", ""))
        results = rendering.render(transaction, call, class_name, info, rows, principals, view)
        value: Document = {"results": results, "className": class_name}
        if statement.is_counted:
            value["count"] = transaction.count(query)
        return value

    return ok(call.service.store.read(work))


def _written(call: Call, statement: cql.Write) -> list[Document]:
    """The object as its write answers it, none of a deleted one. Rights, rules and hooks are those of the single call."""
    path = f"/classes/{statement.class_name}" + (f"/{check_object_id(statement.object_id)}" if statement.object_id else "")
    function, parameters = call.service.routes.match(statement.method, path)
    shown = {} if statement.method == "DELETE" else {"fetchWhenSave": True}
    inner = call._replace(method=statement.method, query=shown, body=statement.fields)
    _, _, value = function(inner, **parameters)
    return [] if statement.method == "DELETE" else [value]
