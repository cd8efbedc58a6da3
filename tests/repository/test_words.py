"""How the documents read: short sentences, no worn phrase, who a page is for; and Chinese twins that are in step."""
import re
import unittest

from tests.support import ROOT

AVERAGE_WORDS, MAX_WORDS = 18, 40
CHINESE = ".zh-CN.md"
TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "leanstorage/README.md")
ENGLISH = sorted(file for file in (*map(ROOT.joinpath, TOP), *(ROOT / "docs").rglob("*.md")) if not file.name.endswith(CHINESE))
# Pages with a Chinese twin.
TWINNED = [
    "README.md",
    "docs/security-rules.md",
    "docs/queries-at-a-million.md",
    "docs/mutants.md",
    "docs/after-leancloud.md",
    "docs/architecture.md",
    "docs/clients.md",
    "docs/comparison.md",
    "docs/configuration.md",
    "docs/deploying.md",
    "docs/failover.md",
    "docs/index.md",
    "docs/leanstorage.md",
    "docs/leaving-leancloud.md",
    "docs/leaving/artalk-twikoo.md",
    "docs/leaving/leanticket.md",
    "docs/leaving/mobile-app.md",
    "docs/leaving/next-counters.md",
    "docs/leaving/node-engine.md",
    "docs/leaving/python-engine.md",
    "docs/leaving/valine.md",
    "docs/leaving/waline.md",
    "docs/leaving/what-else-to-rescue.md",
    "docs/make-it-yours.md",
    "docs/operating.md",
    "docs/performance.md",
    "docs/push-and-live-queries.md",
    "docs/recipes.md",
    "docs/releases.md",
    "docs/reliability.md",
    "docs/scaling.md",
    "docs/security.md",
    "docs/signing-in.md",
    "docs/troubleshooting.md",
    "docs/tutorial.md",
]

FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
CELL = re.compile(r"(?<!\\)\|")
# Each was in a document, and made somebody read its sentence twice.
WORN = (
    r"\b(is|are|be|was) told of\b",
    r"\bto whoever\b",
    r"\b(is|are) not to be had\b",
    r"\bsays something else than you expect\b",
    r"\bstarted again when code changes\b",
    r"\bkept out here\b",
    r"\bcame along, so refuses\b",
    r"\banswer what has come\b",
    r"\blet nobody new in\b",
    r"\bwithout it to\b",
    r"\bthat it has there and loses none\b",
    r"\bcounts such\b",
    r"\bso many processes serve\b",
    r"\breached of waitress\b",
    r"\bnot of our own set-up\b",
    r"\bis read otherwise\b",
    r"\bnew ones are made\b",
    r"\bat the door\b",
    r"\bas it stands (here|there)\b",
)
# Each was in the code, and had to be read twice there.
WORN_COMMENTS = (
    "would be a way around the measure",
    "one that makes no database needs one that is there",
    "where they may be made, are told of",
    "is not to be had with the mail",
    "would commit what nobody is told of",
    "verdict falls under the lock",
    "as many threads are awake as there are requests that wait",
    "come to the same answer in twice the time",
    "as long as many a whole request",
    "is worth remembering what was made of it",
)


def blocks(text):
    """(is_table, text) of each paragraph, list item and table cell; code blocks, comments, pictures and headings are left out.

    A code span is one word, a link the words that are shown.
    """
    text = FENCE.sub("\n\n", text)
    text = re.sub(r"<!--.*?-->|!\[[^\]]*\]\([^)]*\)|<[^>\n]+>", "", text, flags=re.DOTALL)
    text = re.sub(r"`[^`\n]+`", "code", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    paragraph = []
    for line in [*text.splitlines(), ""]:
        stripped = line.strip()
        is_new = not stripped or re.match(r"(#+ |\||[-*] |[0-9]+\. |> )", stripped)
        if is_new and paragraph:
            yield False, " ".join(paragraph)
            paragraph = []
        if stripped.startswith("|"):
            yield from ((True, cell.strip()) for cell in CELL.split(stripped)[1:-1])
        elif stripped and not stripped.startswith("#"):
            paragraph.append(re.sub(r"^([-*]|[0-9]+\.|>) ", "", stripped))


def sentences(text):
    """(is_table, words) of each sentence."""
    for is_table, block in blocks(text):
        for sentence in re.split(r"(?<=[.!?])[\")*]*\s+", block):
            words = re.findall(r"[^\W_][\w'’.,/%-]*", sentence)
            if words:
                yield is_table, words


def outline(text):
    """What both twins must have alike: levels of headings, commands, rows of tables."""
    bare = FENCE.sub("", text)
    headings = re.findall(r"^(#+) ", bare, re.MULTILINE)
    commands = []
    for language, block in re.findall(r"^ *```(sh|crontab)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in block.splitlines())
        commands += [(language, re.sub("https://你的API域名", "https://YOUR-API-DOMAIN", line)) for line in lines if line]
    tables, rows = [], 0
    for line in [*bare.splitlines(), ""]:
        if line.startswith("|"):
            rows += 1
        elif rows:
            tables.append(rows)
            rows = 0
    return headings, commands, tables


class SentencesTest(unittest.TestCase):
    def test_sentences_of_every_page_are_short(self):
        for file in ENGLISH:
            name = file.relative_to(ROOT).as_posix()
            found = list(sentences(file.read_text()))
            prose = [len(words) for is_table, words in found if not is_table]
            with self.subTest(name):
                self.assertGreater(len(prose), 3)
                self.assertLess(sum(prose) / len(prose), AVERAGE_WORDS)
            for _, words in found:
                with self.subTest(name, sentence=" ".join(words)):
                    self.assertLessEqual(len(words), MAX_WORDS)

    def test_changelog_is_in_sections_of_short_sentences(self):
        text = (ROOT / "CHANGELOG.md").read_text()
        self.assertRegex(text, r"(?m)^## \[Unreleased\]$")
        versions = re.findall(r"^## \[([0-9]+\.[0-9]+\.[0-9]+)\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$", text, re.MULTILINE)
        self.assertTrue(versions)
        kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
        self.assertLessEqual(kinds, {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"})
        lengths = [len(words) for _, words in sentences(text)]
        self.assertLess(sum(lengths) / len(lengths), AVERAGE_WORDS)
        self.assertLessEqual(max(lengths), MAX_WORDS)

    def test_no_page_has_a_worn_phrase(self):
        for file in ENGLISH:
            name = file.relative_to(ROOT).as_posix()
            text = " ".join(FENCE.sub("", file.read_text()).split())
            for phrase in WORN:
                with self.subTest(name, phrase=phrase):
                    self.assertIsNone(re.search(phrase, text, re.IGNORECASE))

    def test_no_comment_has_a_worn_phrase(self):
        for folder in (".", "leanengine", "leanwsgi", "leanstorage"):
            for file in (ROOT / folder).glob("*.py") if folder == "." else (ROOT / folder).rglob("*.py"):
                text = " ".join(re.sub(r"^ *# ?", "", file.read_text(), flags=re.MULTILINE).split())
                for phrase in WORN_COMMENTS:
                    with self.subTest(file.name, phrase=phrase):
                        self.assertNotIn(phrase, text)

    def test_page_says_at_its_top_whom_it_is_for(self):
        for file in ENGLISH:
            name = file.relative_to(ROOT).as_posix()
            head = file.read_text().split("\n## ")[0]
            with self.subTest(name):
                self.assertRegex(head, r"(?m)^(\*\*For\*\*|For|This page is for) \w+")

    def test_sentences_are_counted_as_a_reader_would(self):
        text = "# Not counted\nOne `a b c` two. Three\nfour: five. Six!\n\n- [six seven](x.md)\n\n```sh\nnot this\n```\n| a b | c |\n"
        wanted = [(False, 3), (False, 3), (False, 1), (False, 2), (True, 2), (True, 1)]
        self.assertEqual([(is_table, len(words)) for is_table, words in sentences(text)], wanted)


class GuardsTest(unittest.TestCase):
    def test_guards_that_the_security_page_names_are_in_the_code(self):
        folders = ("leanengine", "leanwsgi", "leanstorage")
        code = {file: file.read_text() for file in (*ROOT.glob("*.py"), *(file for name in folders for file in (ROOT / name).rglob("*.py")))}
        count = 0
        for row in re.findall(r"^\|.*\|$", (ROOT / "docs" / "security.md").read_text(), re.MULTILINE):
            for name in re.findall(r"`([^`]+)`", CELL.split(row)[2]):
                dotted = re.fullmatch(r"(\w+)\.(\w+)", name)
                with self.subTest(name):
                    if name.endswith(".py"):
                        self.assertTrue([file for file in code if file.as_posix().endswith(name)])
                    elif dotted:
                        count += 1
                        place, what = dotted.groups()
                        in_module = [file for file, text in code.items() if file.stem == place and re.search(rf"\b{what}\b", text)]
                        in_class = [file for file, text in code.items() if f"class {place}" in text and f"def {what}(" in text]
                        self.assertTrue(in_module or in_class)
        self.assertGreater(count, 30)


class TwinsTest(unittest.TestCase):
    def test_chinese_twin_has_the_headings_commands_and_tables_of_its_page(self):
        for name in TWINNED:
            page = ROOT / name
            twin = page.with_name(page.name.replace(".md", CHINESE))
            with self.subTest(name):
                self.assertTrue(twin.exists())
                for ours, theirs in zip(outline(page.read_text()), outline(twin.read_text())):
                    self.assertEqual(ours, theirs)

    def test_every_page_has_a_twin(self):
        pages = [page for page in (ROOT / "docs").rglob("*.md") if not page.name.endswith(CHINESE)]
        self.assertEqual({page.relative_to(ROOT).as_posix() for page in pages} - set(TWINNED), set())

    def test_twins_lead_to_each_other_at_the_top(self):
        for name in TWINNED:
            page = ROOT / name
            twin = page.with_name(page.name.replace(".md", CHINESE))
            with self.subTest(name):
                self.assertIn(f"]({twin.name})", page.read_text().split("\n## ")[0])
                self.assertIn(f"]({page.name})", twin.read_text().split("\n## ")[0])

    def test_chinese_page_leads_to_chinese_pages(self):
        for name in TWINNED:
            twin = ROOT / name.replace(".md", CHINESE)
            for target in re.findall(r"\]\(([^)#\s]+\.md)[)#]", twin.read_text()):
                with self.subTest(twin.name, target=target):
                    other = (twin.parent / target).resolve()
                    is_back = other.name == twin.name.replace(CHINESE, ".md")
                    self.assertFalse(not is_back and other.relative_to(ROOT).as_posix() in TWINNED)

    def test_what_a_newcomer_reads_in_chinese_is_chinese(self):
        """Also in the tables that are made from the code: their words are in docs/words.tsv."""
        for name in TWINNED:
            twin = ROOT / name.replace(".md", CHINESE)
            for table in re.findall(r"<!-- (?:options|commands|routes|settings) -->\n(.*?)\n<!-- end", twin.read_text(), re.DOTALL):
                for line in table.splitlines()[2:]:
                    with self.subTest(twin.name, line=line):
                        self.assertRegex(CELL.split(line)[-2], r"[\u4e00-\u9fff]")


if __name__ == "__main__":
    unittest.main()
