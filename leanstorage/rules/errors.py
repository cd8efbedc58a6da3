"""Every failure that a client can see: one enum, one exception. Codes appear nowhere else.

Codes and texts are LeanCloud's own, because apps and SDKs test for them; texts that could be recorded from the
live service are exact copies.
"""
from collections.abc import Iterable
from enum import Enum
from http import HTTPStatus

from leanwsgi.messages import Header, HTTPError

MAX_DETAIL = 200  # characters of a client's own text that an error quotes back


class Code(Enum):
    """(number in the body, HTTP status, text); `{name}` is filled in from the details of StorageError."""

    BAD_REQUEST = 1, 400, "{detail}"
    NEEDS_MASTER = 1, 400, "The request must be signed by master key."
    UNSUPPORTED = 1, 400, "{feature} is not supported by this server."
    UNSUPPORTED_METHOD = 1, 405, "{feature} is not supported by this server."
    NO_ROUTE = 1, 404, "Not Found."
    NO_ENGINE = 1, 404, "No engine is configured (serve --engine URL)."
    WRONG_METHOD = 1, 405, "Method Not Allowed."
    NO_OBJECT = 1, 404, "Could not find object by id '{id}' for class '{class_name}'."
    ROLE_NEEDS_ACL = 1, 400, "Role ACL is required."
    TOO_MANY_FIELDS = 1, 400, "Class '{class_name}' would have more than {limit} fields."
    ARRAY_TOO_LONG = 1, 400, "Array field '{key}' would have more than {limit} elements."
    BATCH_TOO_LONG = 1, 400, "A batch takes at most {limit} requests."
    BAD_CURSOR = 1, 400, "The scan cursor is unknown or expired."
    SCAN_KEY_IN_WHERE = 1, 400, "The scan_key must not be part of where."
    EMAIL_VERIFY_OFF = 1, 400, "Please enable the option to verify user emails in application settings."
    NO_PUBLIC_URL = 1, 400, "Links in e-mails need the server's own address: it must be started with --public-url."
    TOO_MANY_EMAILS = 1, 400, "Too many emails were requested for this address, please wait a minute."
    BAD_FILE_KEY = 1, 400, "Unsupported file key: it needs the master key and must be a plain relative path."
    SPOOFED_USER = 1, 400, "The parameter 'user' is reserved: log in instead."
    HEADERS_TOO_LARGE = 1, 431, "The headers are larger than {limit} bytes."
    UNKNOWN_ENCODING = 1, 501, "This Transfer-Encoding is not supported by this server."
    BAD_ENGINE_ANSWER = 1, 502, "The engine's answer is not JSON."
    INTERNAL = 1, 500, "Internal server error. No information available."
    NO_CLASS = 101, 404, "Class or object doesn't exists."
    BAD_QUERY = 102, 400, "Invalid query: {detail}"
    ANSWER_TOO_LARGE = 102, 400, "Invalid query: its objects have more than {limit} characters, ask for fewer at a time."
    BAD_CLASS_NAME = 103, 400, "Invalid class name: '{name}'."
    BAD_OBJECT_ID = 104, 400, "Invalid objectId: '{id}'."
    BAD_KEY = 105, 400, "Invalid key name: '{key}'."
    BAD_POINTER = 106, 400, "Malformed pointer: className and objectId are required."
    BAD_JSON = 107, 400, "Malformed json object: {detail}"
    WRONG_TYPE = (
        111,
        400,
        "Invalid value type for field '{key}',value '{value}',expect type is {{:type \"{expected}\"}},"
        "but it is '{{:type \"{found}\"}}'.",
    )
    REQUIRED_FIELD = 113, 400, "Field '{key}' is required."
    OBJECT_TOO_LARGE = 116, 400, "The object is larger than {limit} bytes."
    READ_ONLY_KEY = 117, 400, "Field '{key}' is read-only."
    NOT_FOR_CLIENTS = 119, 400, "{detail}"
    CLASS_CREATION_OFF = 119, 403, "Creating class '{name}' is not allowed for clients."
    UNSUPPORTED_SMS = 119, 400, "{feature} is not supported by this server. "
    BAD_NESTED_KEY = 121, 400, "Nested keys must not contain '$' or '.': '{key}'."
    BAD_ACL = 123, 400, "Malformed ACL: {detail}"
    TIMEOUT = 124, 503, "The request timed out on the server."
    QUERY_TIMEOUT = 124, 400, "The query took too long."
    BAD_EMAIL = 125, 400, "The email address was invalid."
    BAD_PHONE = 127, 400, "The mobile phone number was invalid."
    BAD_RELATION = 128, 400, "A relation operation takes 1 to {limit} pointers."
    DUPLICATE_VALUE = 137, 400, "A unique field was given a value that is already taken: '{key}'."
    BAD_ROLE_NAME = 139, 400, "Role's name is invalid."
    SCRIPT_ERROR = 141, 400, "{detail}"
    HOOK_REFUSED = 142, 400, "Cloud Code validation failed. Error detail : {detail}"
    LOGIN_REFUSED = 142, 401, "Cloud Code validation failed. Error detail : {detail}"
    TOO_MANY_CLASSES = 154, 400, "An app has at most {limit} classes."
    SMS_QUOTA = 154, 400, "Exceeded an application threshold setting."
    NO_USERNAME = 200, 400, "Username is missing or empty."
    NO_PASSWORD = 201, 400, "Password is missing or empty."
    USERNAME_TAKEN = 202, 400, "Username has already been taken."
    EMAIL_TAKEN = 203, 400, "The email address has already been taken."
    NO_EMAIL = 204, 400, "The email is missing, and must be specified."
    UNKNOWN_EMAIL = 205, 400, "A user with the specified email was not found."
    NO_SESSION = 206, 403, "The user cannot be altered by a client without the session."
    ACCOUNT_LINKED = 208, 400, "The third party account is already linked to another user."
    WRONG_PASSWORD = 210, 400, "The username and password mismatch."
    NO_USER = 211, 400, "Could not find user."
    SESSION_INVALID = 211, 401, "Could not find user."
    NO_PHONE = 212, 400, "The mobile phone number is missing, and must be specified."
    UNKNOWN_PHONE = 213, 400, "A user with the specified mobile phone number was not found."
    PHONE_TAKEN = 214, 400, "The mobile phone number has already been taken."
    PHONE_UNVERIFIED = 215, 400, "The mobile phone number is not verified."
    EMAIL_UNVERIFIED = 216, 400, "The email address is not verified."
    BLANK_USERNAME = 217, 400, "Username must not be blank."
    BLANK_PASSWORD = 218, 400, "Password must not be blank."
    LOCKED = 219, 400, "Too many wrong passwords, please try again after 15 minutes or reset the password."
    NO_FRIENDSHIP = 221, 400, "The friendship does not exist."
    NO_AUTH_ID = 250, 400, "The third party account has no id."
    AUTH_UNTRUSTED = 251, 400, "The third party session of '{provider}' cannot be verified by this server."
    BAD_AUTH_SESSION = 251, 400, "Invalid linked session."
    BAD_WEIXIN_SESSION = 252, 400, "Invalid Weixin session."
    CQL_SYNTAX = 300, 400, "CQL syntax error.Detail: {detail}"
    GEO_RANGE = 302, 400, "Latitude must lie within -90 and 90, longitude within -180 and 180."
    NO_EFFECT = 305, 400, "No effect on updating/deleting a document."
    UNAUTHORIZED = 401, 401, "Unauthorized."
    CLASS_FORBIDDEN = 403, 403, "Forbidden to {action} by class permissions."
    ACL_FORBIDDEN = 403, 403, "Forbidden writing by object's ACL."
    OTHER_USER = 403, 403, "The user cannot be altered by another user."
    TOO_LARGE = 413, 413, "The request is larger than {limit} bytes."
    TOO_MANY_REQUESTS = 429, 429, "Too many requests."
    UNAVAILABLE = 503, 503, "The service is not available, please try again."
    SMS_TOO_OFTEN = 601, 400, "Can't send SMS too frequently."
    SMS_FAILED = 602, 400, "Fails to send message."
    WRONG_SMS_CODE = 603, 400, "Invalid SMS code."
    NO_SMS_TEMPLATE = 604, 400, "SMS template not found."
    NO_SMS_SIGN = 605, 400, "SMS sign not verified."
    BAD_SMS_VARIABLE = 606, 400, "Fails to render SMS template."
    BAD_SMS_CODE = 603, 400, "{feature} is not supported by this server."

    def __init__(self, number: int, status: int, text: str) -> None:
        self.number = number
        self.status = HTTPStatus(status)
        self.text = text


class StorageError(HTTPError):
    """A failure told to the client as `{"code": number, "error": text}` with the code's status.

    `details` fill in the `{name}`s of the text; `kind` is the Code.
    """

    def __init__(self, code: Code, headers: Iterable[Header] = (), **details: object) -> None:
        shown = {name: str(value)[:MAX_DETAIL] for name, value in details.items()}
        super().__init__(code.status, code.text.format(**shown), code.number, headers)
        self.kind = code
