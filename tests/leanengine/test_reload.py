"""A new start when the code has changed."""
import unittest

from tests.processes import Http
from tests.support import copied_app, free_port, has_redis, needs_storage, needs_todos, python, read_until, running, takes_long, until


@needs_todos
@needs_storage
class ReloadTest(unittest.TestCase):
    def setUp(self):
        self.folder = copied_app(self)
        self.port = free_port()

    def running(self):
        variables = {"LEANCLOUD_APP_PORT": self.port, "LEANSTORAGE_DATA": str(self.folder / "data")}
        return running(python("wsgi.py"), "cache: ", folder=self.folder, **variables)

    def edit(self, name, old, new):
        file = self.folder / name
        text = file.read_text()
        self.assertIn(old, text)
        file.write_text(text.replace(old, new))

    def test_changed_code_is_served_and_broken_code_is_not_started(self):
        with self.running() as process:
            self.assertIn("ip", self.ask("/api/client"))
            self.edit("handlers.py", '{"ip": _address', '{"ip": _address(environ), "x" _address')
            self.assertIn("SyntaxError", read_until(process, "not started again[^$]*Error: "))
            self.assertIn("ip", self.ask("/api/client"))
            self.edit("handlers.py", '{"ip": _address(environ), "x" _address', '{"address": _address')
            until(lambda: "address" in self.ask("/api/client"), 15)
            self.assertEqual(process.poll(), None)
            with Http(self.port) as visitor:  # on the same storage and cache as before
                self.assertEqual(visitor.sign_up("alice").status_code, 201)
                self.assertEqual(visitor("GET", "/api/status").json()["cache"], "ok" if has_redis() else "off")
                self.assertEqual(visitor("GET", "/api/status").json()["storage"], "ok")

    @takes_long
    def test_route_without_its_function_waits_for_it(self):
        route = '("GET", "/api/client", handlers.show_client),'
        function = "def say_hello(environ, name):\n    return json_response(HTTPStatus.OK, {'hello': name})\n\n\n"
        with self.running() as process:
            self.edit("wsgi.py", route, f'{route} ("GET", "/api/hello/<name>", handlers.say_hello),')
            said = read_until(process, "AttributeError: .*say_hello")
            self.assertIn("not started again", said)
            self.assertIn("Traceback", said)
            self.assertIn("ip", self.ask("/api/client"))
            self.edit("handlers.py", "def show_client", f"{function}def show_client")
            until(lambda: self.ask("/api/hello/you") == {"hello": "you"}, 15)

    @takes_long
    def test_new_module_that_raises_waits_until_it_is_mended(self):
        new = self.folder / "greetings.py"
        with self.running() as process:
            new.write_text("WORD = 1 / 0\n")
            self.edit("handlers.py", "import todos\n", "import greetings\nimport todos\n")
            self.edit("handlers.py", '{"ip": ', '{"word": greetings.WORD, "ip": ')
            read_until(process, "ZeroDivisionError")
            self.assertNotIn("word", self.ask("/api/client"))
            new.write_text("WORD = 'hello'\n")
            until(lambda: self.ask("/api/client").get("word") == "hello", 15)

    def test_setting_that_cannot_be_read_by_the_changed_code_is_said_in_its_line(self):
        with self.running() as process:
            self.edit("leanengine/settings.py", 'port_number, "3000"', 'env_name, "3000"')
            said = read_until(process, "not started again[^$]*LEANCLOUD_APP_PORT must be ")
            self.assertNotIn("Traceback", said)
            self.assertIn("ip", self.ask("/api/client"))

    def ask(self, path):
        with Http(self.port) as browser:
            try:
                return browser("GET", path).json()
            except OSError:
                return {}

if __name__ == "__main__":
    unittest.main()
