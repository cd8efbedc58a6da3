"""Numbers and statuses of errors: apps and SDKs test for them. Each is written out here a second time."""
import unittest

from leanstorage.rules.errors import Code, MAX_DETAIL, StorageError

NUMBERS = """
1 400 BAD_REQUEST NEEDS_MASTER UNSUPPORTED ROLE_NEEDS_ACL TOO_MANY_FIELDS ARRAY_TOO_LONG BATCH_TOO_LONG BAD_CURSOR SCAN_KEY_IN_WHERE EMAIL_VERIFY_OFF NO_PUBLIC_URL TOO_MANY_EMAILS BAD_FILE_KEY SPOOFED_USER
1 405 UNSUPPORTED_METHOD WRONG_METHOD
1 404 NO_ROUTE NO_ENGINE NO_OBJECT
1 431 HEADERS_TOO_LARGE
1 501 UNKNOWN_ENCODING
1 502 BAD_ENGINE_ANSWER
1 500 INTERNAL
101 404 NO_CLASS
102 400 BAD_QUERY ANSWER_TOO_LARGE
103 400 BAD_CLASS_NAME
104 400 BAD_OBJECT_ID
105 400 BAD_KEY
106 400 BAD_POINTER
107 400 BAD_JSON
111 400 WRONG_TYPE
113 400 REQUIRED_FIELD
116 400 OBJECT_TOO_LARGE
117 400 READ_ONLY_KEY
119 400 NOT_FOR_CLIENTS UNSUPPORTED_SMS
119 403 CLASS_CREATION_OFF
121 400 BAD_NESTED_KEY
123 400 BAD_ACL
124 503 TIMEOUT
124 400 QUERY_TIMEOUT
125 400 BAD_EMAIL
127 400 BAD_PHONE
128 400 BAD_RELATION
137 400 DUPLICATE_VALUE
139 400 BAD_ROLE_NAME
141 400 SCRIPT_ERROR
142 400 HOOK_REFUSED
142 401 LOGIN_REFUSED
154 400 TOO_MANY_CLASSES SMS_QUOTA
200 400 NO_USERNAME
201 400 NO_PASSWORD
202 400 USERNAME_TAKEN
203 400 EMAIL_TAKEN
204 400 NO_EMAIL
205 400 UNKNOWN_EMAIL
206 403 NO_SESSION
208 400 ACCOUNT_LINKED
210 400 WRONG_PASSWORD
211 400 NO_USER
211 401 SESSION_INVALID
212 400 NO_PHONE
213 400 UNKNOWN_PHONE
214 400 PHONE_TAKEN
215 400 PHONE_UNVERIFIED
216 400 EMAIL_UNVERIFIED
217 400 BLANK_USERNAME
218 400 BLANK_PASSWORD
219 400 LOCKED
221 400 NO_FRIENDSHIP
250 400 NO_AUTH_ID
251 400 AUTH_UNTRUSTED BAD_AUTH_SESSION
252 400 BAD_WEIXIN_SESSION
300 400 CQL_SYNTAX
302 400 GEO_RANGE
305 400 NO_EFFECT
401 401 UNAUTHORIZED
403 403 CLASS_FORBIDDEN ACL_FORBIDDEN OTHER_USER
413 413 TOO_LARGE
429 429 TOO_MANY_REQUESTS
503 503 UNAVAILABLE
601 400 SMS_TOO_OFTEN
602 400 SMS_FAILED
603 400 WRONG_SMS_CODE BAD_SMS_CODE
604 400 NO_SMS_TEMPLATE
605 400 NO_SMS_SIGN
606 400 BAD_SMS_VARIABLE
"""


class CodeTest(unittest.TestCase):
    def test_each_error_has_its_number_and_status(self):
        wanted = {}
        for line in NUMBERS.strip().splitlines():
            number, status, *names = line.split()
            wanted |= {name: (int(number), int(status)) for name in names}
        self.assertEqual({code.name: (code.number, code.status) for code in Code}, wanted)

    def test_text_of_a_client_is_quoted_up_to_200_characters(self):
        for length, shown in ((199, 199), (200, 200), (201, 200)):
            with self.subTest(length):
                error = StorageError(Code.BAD_KEY, key="x" * length)
                self.assertEqual(error.message, f"Invalid key name: '{'x' * shown}'.")
        self.assertEqual(MAX_DETAIL, 200)

    def test_error_carries_its_code_status_headers_and_kind(self):
        error = StorageError(Code.NO_OBJECT, [("Retry-After", "60")], id="a", class_name="B")
        self.assertEqual((error.code, error.status, error.kind), (1, 404, Code.NO_OBJECT))
        self.assertEqual(error.message, "Could not find object by id 'a' for class 'B'.")
        self.assertEqual(list(error.headers), [("Retry-After", "60")])


if __name__ == "__main__":
    unittest.main()
