"""What owners really have in their folders: every odd input is taken right, or refused in words that say what to do."""

import gzip
import io
import itertools
import json
import unittest
import zipfile

from leanstorage.takeout import names, sources
from tests.leanstorage.storage_support import Dripping
from tests.leanstorage.test_takeout_import import ID, ImportTestCase, jsonl, row, tar

ROWS = [row(1, n="一篇评论"), row(2, n="two")]
TEXTS = [json.dumps(one, ensure_ascii=False) for one in ROWS]
BOM = b"\xef\xbb\xbf"
TAKEN = {"Comment": {ID % 1: "一篇评论", ID % 2: "two"}}
COUNTER = row(9, n="c")
BOTH = {**TAKEN, "Counter": {ID % 9: "c"}}
EXPIRED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>'
WALINE = {"type": "waline", "version": 1, "time": 1, "tables": ["Comment", "Counter", "Users"]}


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return file.getvalue()


def waline(**wrapping):
    data = {"Comment": ROWS, "Counter": [COUNTER], "Users": []}
    return json.dumps({**wrapping, **WALINE, "data": data}, ensure_ascii=False)


def lines(*texts, end="\n"):
    return end.join(texts) + end


def array(*rows):
    return json.dumps(rows, ensure_ascii=False).encode()


def table(separator=",", *cells, ending="\n"):
    """A CSV of the two rows, or of one row with other cells."""
    rows = [cells] if cells else [(ID % 1, "一篇评论"), (ID % 2, "two")]
    return lines(*(separator.join(one) for one in (("string", "string"), ("objectId", "n"), *rows)), end=ending).encode()


def changed(**fields):
    """A file with one row that has other values."""
    return array({**ROWS[0], **fields})


def written(encoding, *texts):
    rows = (json.dumps(row(number, n=text), ensure_ascii=False) for number, text in enumerate(texts, 1))
    return lines(*rows).encode(encoding)


# What it is -> (the file's name, its bytes, {class: {objectId: n}}).
GOOD = {
    "backup of Waline": ("waline.json", waline().encode(), BOTH),
    "backup of Waline with its answer around it": (
        "w.json",
        json.dumps({"errno": 0, "errmsg": "", "data": json.loads(waline())}).encode(),
        BOTH,
    ),
    "indented backup of Waline": ("w.json", json.dumps(json.loads(waline()), indent=2).encode(), BOTH),
    "arrays by class": ("all.json", json.dumps({"Comment": ROWS, "Counter": [COUNTER]}).encode(), BOTH),
    "indented arrays by class": ("all.json", json.dumps({"Counter": [COUNTER], "Comment": ROWS}, indent=1).encode(), BOTH),
    "an empty array before the others": ("all.json", json.dumps({"Counter": [], "Comment": ROWS}).encode(), TAKEN),
    "several #filetype lines": ("all.jsonl", jsonl("Comment", *ROWS) + jsonl("Counter", COUNTER), BOTH),
    "several #filetype lines, joined with their BOMs": (
        "all.jsonl",
        BOM + jsonl("Comment", *ROWS) + BOM + jsonl("Counter", COUNTER),
        BOTH,
    ),
    "the same #filetype line again": ("a.jsonl", jsonl("Comment", ROWS[0]) + jsonl("Comment", ROWS[1]), TAKEN),
    "lines that end in CR alone": ("Comment.0.jsonl", lines(*TEXTS, end="\r").encode(), TAKEN),
    "a header and lines that end in CR alone": ("x.jsonl", jsonl("Comment", *ROWS).replace(b"\n", b"\r"), TAKEN),
    "lines that end in CR and CR LF": ("Comment.0.jsonl", f"{TEXTS[0]}\r{TEXTS[1]}\r\n".encode(), TAKEN),
    "a second download": ("Comment (1).json", json.dumps(ROWS).encode(), TAKEN),
    "a second download of lines": ("Comment.0 (1).jsonl", lines(*TEXTS).encode(), TAKEN),
    "a date before the name": ("2026-11-28_Comment.json", json.dumps(ROWS).encode(), TAKEN),
    "a date and a time before the name": ("20261128-101500_Comment.json", json.dumps(ROWS).encode(), TAKEN),
    "a date behind the name": ("Comment-2026-11-28.json", json.dumps(ROWS).encode(), TAKEN),
    "a copy": ("Comment - Copy (2).json", json.dumps(ROWS).encode(), TAKEN),
    "a copy made in Chinese": ("Comment - 副本.json", json.dumps(ROWS).encode(), TAKEN),
    "a copy made on a Mac": ("Comment copy.json", json.dumps(ROWS).encode(), TAKEN),
    ".tar.gz in .zip": ("e.zip", zipped(e__tar__gz=gzip.compress(tar({"x.jsonl": jsonl("Comment", *ROWS)}))), TAKEN),
    ".tar in .zip": ("e.zip", zipped(e__tar=tar({"x.jsonl": jsonl("Comment", *ROWS)})), TAKEN),
    ".tar.gz in .tar": ("e.tar", tar({"e.tar.gz": gzip.compress(tar({"x.jsonl": jsonl("Comment", *ROWS)}))}), TAKEN),
    "a packed file in .zip": ("e.zip", zipped(Comment__0__jsonl__gz=gzip.compress(lines(*TEXTS).encode())), TAKEN),
    "a BOM in the middle": ("Comment.0.jsonl", f"{TEXTS[0]}\n".encode() + BOM + TEXTS[1].encode(), TAKEN),
    "a BOM between objects of several lines": (
        "Comment.json",
        json.dumps(ROWS[0], indent=1).encode() + BOM + json.dumps(ROWS[1], indent=1).encode(),
        TAKEN,
    ),
    "two objects on a line": ("Comment.0.jsonl", (TEXTS[0] + TEXTS[1]).encode(), TAKEN),
    "two objects on a line, a blank between": ("Comment.0.jsonl", f"{TEXTS[0]} {TEXTS[1]}\n".encode(), TAKEN),
    "two objects on a line, a comma between": ("Comment.0.jsonl", f"{TEXTS[0]}, {TEXTS[1]},\n".encode(), TAKEN),
    "GBK": ("Comment.0.jsonl", lines(*TEXTS).encode("gbk"), TAKEN),
    "GBK behind a header": ("x.jsonl", jsonl("Comment", *ROWS).decode().encode("gbk"), TAKEN),
    "UTF-16 with its mark": ("Comment.0.jsonl", lines(*TEXTS).encode("utf-16"), TAKEN),
    "UTF-16 without": ("Comment.0.jsonl", lines(*TEXTS).encode("utf-16-le"), TAKEN),
    "UTF-16 the other way round": ("Comment.json", b"\xfe\xff" + json.dumps(ROWS).encode("utf-16-be"), TAKEN),
    "UTF-32": ("Comment.json", json.dumps(ROWS, ensure_ascii=False).encode("utf-32"), TAKEN),
    "a CSV": ("Comment.csv", f"string,string\nobjectId,n\n{ID % 1},一篇评论\n{ID % 2},two\n".encode(), TAKEN),
    "a CSV from a spreadsheet": ("Comment.csv", BOM + f"string,string\r\nobjectId,n\r\n{ID % 1},一篇评论\r\n{ID % 2},\"two\"\r\n".encode(), TAKEN),
    "a CSV in GBK": ("Comment.csv", f"string,string\nobjectId,n\n{ID % 1},一篇评论\n{ID % 2},two\n".encode("gbk"), TAKEN),
    "rows whose first column is a list": (
        "Comment.0.jsonl",
        b"".join(json.dumps({"l": [{}], **one}).encode() + b"\n" for one in ROWS),
        TAKEN,
    ),
    "lines in a .txt": ("Comment.txt", lines(*TEXTS).encode(), TAKEN),
    "UTF-16 in gzip": ("Comment.jsonl.gz", gzip.compress(lines(*TEXTS).encode("utf-16")), TAKEN),
    "an array in gzip": ("Comment.json.gz", gzip.compress(array(*ROWS)), TAKEN),
    "a CSV in gzip": ("Comment.csv.gz", gzip.compress(table()), TAKEN),
    "two gzip parts in one file": ("Comment.0.jsonl.gz", gzip.compress(f"{TEXTS[0]}\n".encode()) + gzip.compress(TEXTS[1].encode()), TAKEN),
    "zeros behind gzip": ("Comment.0.jsonl.gz", gzip.compress(lines(*TEXTS).encode()) + bytes(100), TAKEN),
    "capital letters in the ending of an archive": ("E.TAR.GZ", gzip.compress(tar({"x.jsonl": jsonl("Comment", *ROWS)})), TAKEN),
    "capital letters in the ending of lines": ("Comment.JSONL.GZ", gzip.compress(lines(*TEXTS).encode()), TAKEN),
    "capital letters in the ending of a CSV": ("Comment.CSV", table(), TAKEN),
    "a .zip of Windows with backslashes": ("e.zip", zipped(**{"export\\Comment__json": array(*ROWS)}), TAKEN),
    "a .zip of Windows with a name in GBK": ("e.zip", zipped(**{"Comment - XXYY__json": array(*ROWS)}).replace(b"XXYY", "副本".encode("gbk")), TAKEN),
    "a .zip of a Mac with its own files": ("e.zip", zipped(**{"__MACOSX/._Comment__json": b"\0\5\26\7", "Comment__json": array(*ROWS)}), TAKEN),
    "a CSV with semicolons": ("Comment.csv", table(";"), TAKEN),
    "a CSV with tabs": ("Comment.csv", table("\t"), TAKEN),
    "a .tsv": ("Comment.tsv", table("\t"), TAKEN),
    "a CSV that says its separator": ("Comment.csv", b"sep=;\r\n" + table(";", ending="\r\n"), TAKEN),
    "a CSV with CR alone": ("Comment.csv", table(ending="\r"), TAKEN),
    "a CSV in UTF-16": ("Comment.csv", table().decode().encode("utf-16"), TAKEN),
    "an answer with its count": ("Comment.json", json.dumps({"count": 2, "results": ROWS}).encode(), TAKEN),
    "an answer with its cursor behind": ("Comment.json", json.dumps({"results": ROWS, "cursor": "x"}, indent=1).encode(), TAKEN),
    "rows in an array named data": ("Comment.json", json.dumps({"data": ROWS}).encode(), TAKEN),
    "rows as mongoexport prints them": (
        "Comment.json",
        lines(*(json.dumps({"_id": {"$oid": one["objectId"]}, "createdAt": {"$date": one["createdAt"]}, "n": one["n"]}) for one in ROWS)).encode(),
        TAKEN,
    ),
    "rows named by _id": ("Comment.json", array(*({"_id": one["objectId"], "n": one["n"]} for one in ROWS)), TAKEN),
    "a #filetype line behind empty ones": ("x.jsonl", b"\r\n\r\n" + jsonl("Comment", *ROWS), TAKEN),
    "a #filetype line and CR LF": ("x.jsonl", jsonl("Comment", *ROWS).replace(b"\n", b"\r\n"), TAKEN),
    "a #filetype line before an array": ("x.jsonl", jsonl("Comment") + array(*ROWS), TAKEN),
    "lines that end in CR CR LF": ("Comment.0.jsonl", lines(*TEXTS, end="\r\r\n").encode(), TAKEN),
    "a comma behind the last row": ("Comment.json", array(*ROWS)[:-1] + b",\n]", TAKEN),
    "a second download in Chinese brackets": ("Comment（1）.json", array(*ROWS), TAKEN),
    "a second download in square brackets": ("Comment[1].json", array(*ROWS), TAKEN),
    "a backup of an editor": ("Comment.json~", array(*ROWS), TAKEN),
    "an array in a .txt": ("Comment.json.txt", array(*ROWS), TAKEN),
    "an array in GBK in a .txt": ("Comment.txt", json.dumps(ROWS, ensure_ascii=False).encode("gbk"), TAKEN),
    "two BOMs before the lines": ("Comment.jsonl", BOM + BOM + lines(*TEXTS).encode(), TAKEN),
    "rows twice": ("Comment.json", array(*ROWS, *ROWS), TAKEN),
    "an older row before the newer one": ("Comment.json", array({**ROWS[0], "n": "old", "updatedAt": ROWS[0]["createdAt"]}, *ROWS), TAKEN),
    "an older row behind the newer one": ("Comment.json", array(*ROWS, {**ROWS[0], "n": "old", "updatedAt": ROWS[0]["createdAt"]}), TAKEN),
    "two backups, the newer one first": (
        "e.zip",
        zipped(**{"2/Comment__json": array(*ROWS), "3/Comment__json": array({**ROWS[0], "n": "old", "updatedAt": ROWS[0]["createdAt"]}, ROWS[1])}),
        TAKEN,
    ),
    "a backup of Waline with tables that are null": (
        "w.json",
        json.dumps({**WALINE, "data": {"Comment": ROWS, "Counter": None, "Users": []}}).encode(),
        TAKEN,
    ),
    "a time without milliseconds": ("Comment.json", changed(createdAt="2019-09-19T04:45:48Z"), {"Comment": {ID % 1: "一篇评论"}}),
    "a time of another zone": ("Comment.json", changed(createdAt="2019-09-19T12:45:48+08:00"), {"Comment": {ID % 1: "一篇评论"}}),
    "a time as a Date": ("Comment.json", changed(createdAt={"__type": "Date", "iso": "2019-09-19T04:45:48.354Z"}), {"Comment": {ID % 1: "一篇评论"}}),
}  # fmt: skip
# What it is -> (the file's name, its bytes, what must be said).
BAD = {
    "RAR": ("e.rar", b"Rar!\x1a\x07\x01\x00" + b"x" * 90, "a RAR archive: unpack it"),
    "7z": ("e.7z", b"7z\xbc\xaf\x27\x1c" + b"x" * 90, "a 7z archive: unpack it"),
    "7z under another name": ("e.tar.gz", b"7z\xbc\xaf\x27\x1c" + b"x" * 900, "a 7z archive: unpack it"),
    "bzip2": ("e.tar.bz2", b"BZh91AY&SY" + b"x" * 90, "a bzip2 archive: unpack it"),
    "an expired link's answer": ("export.tar.gz", EXPIRED, "what a server answered (AccessDenied): the link has expired"),
    "a page in place of an archive": ("e.zip", b"<!DOCTYPE html><title>Sign in</title>", "answered (Sign in)"),
    "an error of the API": ("e.tar.gz", b'{"code":1,"error":"Forbidden"}', "answered (Forbidden)"),
    "a download that goes on": ("export.tar.gz.crdownload", b"x" * 900, "the download is not finished"),
    ".zip in .zip": ("e.zip", zipped(e__zip=zipped(x__jsonl=b"")), "an archive within an archive"),
    "a .tar three deep": ("e.tar", tar({"a.tar": tar({"b.tar": tar({"c.jsonl": b"{}"})})}), "an archive within an archive"),
    "a CSV without types": ("Comment.csv", f"objectId,n\n{ID % 1},a\n".encode(), "a CSV needs a line of types"),
    "a name that tells no class": ("备份.json", json.dumps(ROWS).encode(), "name one with --class"),
    "a spreadsheet": ("Comment.xlsx", zipped(x__xml=b"<x/>"), "save it as CSV or JSON"),
    "a #filetype line that is cut": ("x.jsonl", jsonl("Comment", *ROWS) + b'#filetype:JSON-streaming {"ty', "does not tell"),
    "Big5": ("Comment.jsonl", written("big5", "這是一個評論，很好", "天氣不錯"), "another encoding, such as GBK or Big5"),
    "Shift JIS": ("Comment.jsonl", written("shift-jis", "日本語のコメント", "こんにちは"), "another encoding, such as GBK or Big5"),
    "Latin-1": ("Comment.jsonl", written("cp1252", "déjà vu", "l'été à Paris"), "another encoding, such as GBK or Big5"),
    "gzip in gzip": ("Comment.json.gz.gz", gzip.compress(gzip.compress(array(*ROWS))), "packed twice with gzip"),
    "gzip that is cut": ("Comment.jsonl.gz", gzip.compress(lines(*TEXTS).encode())[:-12], "the gzip data ends too early"),
    "something behind gzip": ("Comment.jsonl.gz", gzip.compress(lines(*TEXTS).encode()) + b"garbage", "the gzip data is damaged"),
    "gzip of nothing": ("Comment.json.gz", gzip.compress(b""), "nothing that could be imported"),
    "a .zip that is cut": ("e.zip", zipped(Comment__json=array(*ROWS))[:90], "the zip archive is damaged"),
    "a .zip with wrong bytes": ("e.zip", zipped(Comment__json=array(*ROWS)).replace(b"two", b"twx"), "damaged or ends too early"),
    "a .zip in parts": ("e.zip", b"PK\x07\x08" + zipped(Comment__json=array(*ROWS)), "a split zip archive: unpack it"),
    "a .zip with a password": ("e.zip", zipped(Comment__json=array(*ROWS)).replace(b"PK\3\4\x14\0\0", b"PK\3\4\x14\0\1").replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"), "it needs a password"),
    "a database": ("leanstorage.db", b"SQLite format 3\0" + bytes(900), "a database, no export: restore takes in a backup"),
    "an empty .zip": ("e.zip", zipped(), "nothing that could be imported"),
    "an empty file for an archive": ("export.tar.gz", b"", "an empty file in the place of an archive"),
    "a .tar without its end": ("e.tar", tar({"x.jsonl": jsonl("Comment", *ROWS)})[:1100], "the tar archive ends too early"),
    "zeros": ("Comment.jsonl", bytes(5000), "neither JSON nor BSON"),
    "zeros behind the rows": ("Comment.jsonl", lines(*TEXTS).encode() + bytes(50), "line 3: not valid JSON"),
    "a CSV with a quote that is not closed": ("Comment.csv", table(",", ID % 1, '"one') + f"{ID % 2},two\n".encode(), "cannot be read on"),
    "a CSV with something behind a quote": ("Comment.csv", table(",", ID % 1, '"one"two'), "cannot be read on"),
    "a CSV with an underscore in a number": ("Comment.csv", f"string,number\nobjectId,n\n{ID % 1},1_000\n".encode(), "a cell that is no number"),
    "a CSV with a thousands separator": ("Comment.csv", f'string,number\nobjectId,n\n{ID % 1},"1,000"\n'.encode(), "a cell that is no number"),
    "a CSV with NaN": ("Comment.csv", f"string,number\nobjectId,n\n{ID % 1},NaN\n".encode(), "a cell that is no number"),
    "a CSV with a number that is too large": ("Comment.csv", f"string,number\nobjectId,n\n{ID % 1},1e400\n".encode(), "a cell that is no number"),
    "a CSV with an object for an array": ("Comment.csv", f"string,array\nobjectId,n\n{ID % 1},{{}}\n".encode(), "a cell that is no array"),
    "a CSV with a list for an object": ("Comment.csv", f"string,object\nobjectId,n\n{ID % 1},[1]\n".encode(), "a cell that is no object"),
    "a CSV with a date of a spreadsheet": ("Comment.csv", f"string,date\nobjectId,n\n{ID % 1},2020/1/2 3:04\n".encode(), "needs an ISO 8601 time"),
    "a CSV whose ids a spreadsheet took for numbers": ("Comment.csv", table(",", "5.71E+23", "one"), "Invalid objectId: '5.71E+23'"),
    "a CSV with a column too many": ("Comment.csv", b"string,string,\nobjectId,n,\n", "a CSV needs a line of types"),
    "JSON in a .csv": ("Comment.csv", array(*ROWS), "a CSV needs a line of types"),
    "an array in an array": ("Comment.json", array(ROWS), "not an object"),
    "numbers for rows": ("Comment.json", b"[1, 2]", "not an object"),
    "rows as texts": ("Comment.json", array(*TEXTS), "not an object"),
    "null": ("Comment.json", b"null", "neither JSON nor BSON"),
    "an empty object": ("Comment.json", b"{}", "an empty object"),
    "rows of Python": ("Comment.json", repr(ROWS).encode(), "not valid JSON"),
    "a script": ("Comment.json", b"var rows = " + array(*ROWS), "neither JSON nor BSON"),
    "an answer that is an error": ("Comment.json", b'{"code":1,"error":"Forbidden"}', "what a server answered, and no row"),
    "Waline's answer that is an error": ("Comment.json", b'{"errno":1000,"errmsg":"no"}', "what a server answered, and no row"),
    "an answer without rows": ("Comment.json", b'{"results":null}', "what a server answered, and no row"),
    "an answer with rows by name": ("Comment.json", json.dumps({"results": {"a": ROWS[0]}}).encode(), "what a server answered, and no row"),
    "an answer around rows": ("Comment.json", json.dumps({"success": True, "data": ROWS}).encode(), "rows within an object that is none"),
    "answers by class": ("all.json", json.dumps({"Comment": {"results": ROWS}}).encode(), "rows within an object that is none"),
    "rows by id": ("Comment.json", json.dumps({one["objectId"]: one for one in ROWS}).encode(), "rows within an object that is none"),
    "pages one after another": ("Comment.json", b"\n".join(json.dumps({"results": [one]}).encode() for one in ROWS), "something follows the array"),
    "two arrays": ("Comment.json", array(ROWS[0]) + array(ROWS[1]), "something follows the array"),
    "a text behind the array": ("Comment.json", array(*ROWS) + b"\nEOF", "something follows the array"),
    "an array that is cut": ("Comment.json", array(*ROWS)[:-1], "the array of rows is not closed"),
    "an id that is a number": ("Comment.json", changed(objectId=123), "Invalid objectId: '123'"),
    "an empty id": ("Comment.json", changed(objectId=""), "Invalid objectId: ''"),
    "an id twice": ("Comment.json", array(ROWS[0], {**ROWS[0], "n": "x"}), "its objectId occurs twice"),
    "an id twice, without times": ("Comment.json", array({"objectId": "a", "n": 1}, {"objectId": "a", "n": 1}), "its objectId occurs twice"),
    "lz4": ("e.tar.lz4", b"\x04\x22\x4d\x18" + b"x" * 90, "a lz4 archive: unpack it"),
    "lzma": ("e.tar.lzma", b"\x5d\0\0\x80\0" + b"\xff" * 90, "a lzma archive: unpack it"),
    "compress": ("e.tar.Z", b"\x1f\x9d\x90" + b"x" * 90, "a .Z archive: unpack it"),
    "a download of gzip that goes on": ("e.tar.gz.part", gzip.compress(bytes(9000))[:-9], "the download is not finished"),
    "an unfinished download in .zip": ("e.zip", zipped(Comment__json__part=array(*ROWS)), "the download is not finished"),
    "a backup of Waline without tables": ("w.json", json.dumps({**WALINE, "data": ROWS}).encode(), "not in tables by name"),
    "a backup of Waline with rows by id": (
        "w.json",
        json.dumps({**WALINE, "data": {"Counter": [COUNTER], "Comment": {ID % 1: ROWS[0]}}}).encode(),
        "what is named 'Comment' in it is no array of rows",
    ),
    "a backup of Waline with texts for rows": (
        "w.json",
        json.dumps({**WALINE, "data": {"Comment": TEXTS, "Counter": [COUNTER]}}).encode(),
        "what is named 'Comment' in it is no array of rows",
    ),
    "a backup of Waline behind a long text": (
        "w.json",
        json.dumps({"note": "x" * 2000, **WALINE, "data": {"Comment": ROWS}}).encode(),
        "rows within an object that is none",
    ),
    "arrays by class in an object": ("all.json", json.dumps({"data": {"Comment": ROWS}}).encode(), "rows within an object that is none"),
    "arrays by class of rows without ids": ("all.json", b'{"Comment":[{"n":1}],"Counter":[{"n":2}]}', "rows within an object that is none"),
    "arrays by class beside an array of numbers": ("all.json", json.dumps({"Comment": ROWS, "x": [1]}).encode(), "what is named 'x' in it"),
    "arrays by class, and lines": ("all.json", json.dumps({"Comment": ROWS}).encode() + b"\n" + TEXTS[1].encode(), "something follows"),
    "infinity of MongoDB": ("Comment.json", array({"_id": {"$oid": ID % 1}, "n": {"$numberDouble": "Infinity"}}), "$numberDouble"),
    "not a number of MongoDB": ("Comment.json", array({"_id": {"$oid": ID % 1}, "n": {"$numberDecimal": "NaN"}}), "$numberDecimal"),
    "a time in milliseconds": ("Comment.json", changed(createdAt=1568868348354), "createdAt is not a time"),
    "a time as a browser prints it": ("Comment.json", changed(updatedAt="Thu Sep 19 2019 12:45:48 GMT+0800"), "updatedAt is not a time"),
    "an empty time": ("Comment.json", changed(createdAt=""), "createdAt is not a time"),
    "a year of five digits": ("Comment.json", changed(createdAt="12019-09-19T04:45:48.354Z"), "createdAt is not a time"),
    "a Date that is none": ("Comment.json", changed(d={"__type": "Date", "iso": "yesterday"}), "needs an ISO 8601 time"),
    "a Pointer without an id": ("Comment.json", changed(p={"__type": "Pointer", "className": "Post"}), "Malformed pointer"),
    "a number that is none": ("Comment.jsonl", f'{{"objectId":"{ID % 1}","n":NaN}}'.encode(), "not valid JSON"),
    "arrays 500 deep": ("Comment.jsonl", f'{{"objectId":"{ID % 1}","n":{"[" * 500}{"]" * 500}}}'.encode(), "nested deeper than 100 levels"),
    "arrays 200000 deep": ("Comment.jsonl", f'{{"objectId":"{ID % 1}","n":{"[" * 200_000}{"]" * 200_000}}}'.encode(), "not valid JSON"),
    "users in a class of another name": ("User.json", changed(username="a", password="x", salt="y", sessionToken="z"), "these rows are of the class _User"),
    "a password that is a number": ("_User.json", changed(username="a", password=123), "password is not a text"),
    "a username that is a number": ("_User.json", changed(username=123), "'username' is of type Number"),
    "a url that is a number": ("_File.json", changed(name="a", url=5), "'url' is of type Number"),
    "a relation without its end": ("_Join:likes:Post.jsonl", b'{"owningId":"5c710c95c05a807a4d9d7101"}', "Invalid objectId: 'None'"),
    "a relation that ends in null": ("_Join:likes:Post.jsonl", b'{"owningId":null,"relatedId":"5c710c95c05a807a4d9d7101"}', "Invalid objectId: 'None'"),
    "a relation whose members are of no class": ("_Join:likes:Post.jsonl", b'{"owningId":"a","relatedId":"b"}', "import the class's schema file first"),
    "rows of several lines behind a #filetype line": ("x.jsonl", jsonl("Comment") + json.dumps(ROWS[0], indent=1).encode(), "not valid JSON"),
    "a #filetype line with a blank": ("x.jsonl", b'#filetype: JSON-streaming {"class":"Comment"}\n{}', "does not tell"),
    "arrays by class that are cut": ("all.json", json.dumps({"Comment": ROWS, "Counter": [COUNTER]}).encode()[:-2], "not closed"),
}  # fmt: skip
# What it is -> (the file's name, its bytes, the note).
TOLD = {
    "rows without ids": ("Comment.json", array({"n": "a"}, {"n": "a"}), "2 rows without objectId, which were given one"),
    "a user without a password": ("_User.json", changed(username="a"), "1 users without a password hash: they have to reset their password"),
    "a user with a password in clear": (
        "_User.json",
        changed(username="a", password="secret"),
        "1 users whose password is not a hash of LeanCloud's: they have to reset it",
    ),
    "a user without a name": ("_User.json", changed(email="a@example.com"), "1 users without a username"),
    "a file without a url": ("_File.json", changed(name="a.png"), "1 files without key and url: nothing tells where their bytes are"),
}  # fmt: skip
BESIDE = {
    "readme.txt": b"the keys are in the drawer",
    "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600,
    "desktop.ini": b"[.ShellClassInfo]\r\nIconResource=x.dll,1\r\n",
    "Your export is ready.eml": b"From: LeanCloud\nSubject: export\n\nhttps://...\n",
    "mail.html": b"<html><title>export</title></html>",
    "notes.docx": zipped(x__xml=b"<x/>"),
    ".DS_Store": b"\0\0\0\1Bud1",
}


class InputsTest(ImportTestCase):
    def taken(self):
        return {
            name: {key: one.body["n"] for key, one in found.items()}
            for name in ("Comment", "Counter")
            if (found := self.objects(name))
        }

    def test_odd_inputs_are_taken_right(self):
        for number, (title, (name, data, expected)) in enumerate(GOOD.items()):
            with self.subTest(title):
                self.database, self.refused = f"sqlite:///{self.folder / f'{number}.db'}", self.folder / f"refused{number}"
                self.assertEqual(self.take_in(self.put(f"{number}/{name}", data)), 0, self.output.getvalue())
                self.assertEqual(self.taken(), expected)

    def test_odd_inputs_are_refused_with_what_to_do(self):
        for number, (title, (name, data, reason)) in enumerate(BAD.items()):
            with self.subTest(title):
                self.database, self.refused = f"sqlite:///{self.folder / f'{number}.db'}", self.folder / f"refused{number}"
                self.assertEqual(self.take_in(self.put(f"{number}/{name}", data)), 1)
                self.assertIn(reason, self.output.getvalue())
                self.assertNotIn("Traceback", self.output.getvalue())

    def test_what_is_taken_and_will_surprise_is_told(self):
        for number, (title, (name, data, note)) in enumerate(TOLD.items()):
            with self.subTest(title):
                self.database, self.refused = f"sqlite:///{self.folder / f'{number}.db'}", self.folder / f"refused{number}"
                self.assertEqual(self.take_in(self.put(f"{number}/{name}", data)), 0, self.output.getvalue())
                self.assertIn(f"note: {note}\n", self.output.getvalue())

    def test_classes_that_differ_by_capital_letters_alone_are_told(self):
        self.put("in/Comment.json", array(ROWS[0]))
        self.put("in/comment.json", array(ROWS[1]))
        self.assertEqual(self.take_in(self.folder / "in"), 0, self.output.getvalue())
        self.assertIn("classes that differ from comment by capital letters alone", self.output.getvalue())

    def test_values_of_mongodbs_tools_are_those_of_the_api(self):
        printed = {
            "_id": {"$oid": ID % 1},
            "at": {"$date": {"$numberLong": "1568868348354"}},
            "n": {"$numberLong": "9007199254740993"},
            "f": {"$numberDouble": "1.5"},
            "by": {"$ref": "_User", "$id": ID % 7},
            "raw": {"$binary": {"base64": "AAE=", "subType": "00"}},
            "list": [{"$oid": ID % 2}, {"k": {"$numberInt": "3"}}],
        }
        self.assertEqual(self.take_in(self.put("Post.json", json.dumps(printed).encode())), 0, self.output.getvalue())
        [found] = self.objects("Post").values()
        self.assertEqual(
            (found.id, found.body),
            (
                ID % 1,
                {
                    "at": {"__type": "Date", "iso": "2019-09-19T04:45:48.354Z"},
                    "n": 9007199254740993,
                    "f": 1.5,
                    "by": {"__type": "Pointer", "className": "_User", "objectId": ID % 7},
                    "raw": {"__type": "Bytes", "base64": "AAE="},
                    "list": [ID % 2, {"k": 3}],
                },
            ),
        )
        odd = {"_id": {"$oid": ID % 1}, "at": {"$date": "yesterday"}}
        self.assertEqual(self.take_in(self.put("Odd.json", json.dumps(odd).encode())), 1)

    def test_what_lies_beside_an_export_is_told_and_no_failure(self):
        for name, data in BESIDE.items():
            self.put(f"in/{name}", data)
        self.put("in/Comment (1).json", json.dumps(ROWS).encode())
        self.assertEqual(self.take_in(self.folder / "in"), 0, self.output.getvalue())
        self.assertEqual(self.taken(), TAKEN)
        self.assertIn("passed over, no exports: 6: ", self.output.getvalue())
        self.assertIn("Thumbs.db", self.output.getvalue())
        packed = tar({name: data for name, data in BESIDE.items() if len(data) > 1})
        self.assertEqual(self.take_in(self.put("e.tar", packed), self.folder / "in"), 0, self.output.getvalue())

    def test_names_of_files_tell_the_class_and_what_could_be_one_is_left_alone(self):
        for name, class_name in (
            ("Log_20200101.0.jsonl", "Log_20200101"),
            ("Post_all.json", "Post"),
            ("_User.x1.bson", "_User"),
            ("2026-11-28__User.json", "_User"),
            ("20261128_Post_all (2).json", "Post"),
            ("Copy of Post.json", "Post"),
            ("Post 2.json", "Post"),
            ("Post_2.json", "Post_2"),
            ("copy.json", "copy"),
            ("Post-20261128-101500.json", "Post"),
            ("备份.json", "备份"),
            ("2026年11月28日_Comment.json", "Comment"),
            ("Comment-1701136800.json", "Comment"),
            ("1701136800000_Comment.json", "Comment"),
            ("Comment_1701136800.json", "Comment_1701136800"),
            ("Comment .json", "Comment"),
            ("Comment (copy).json", "Comment"),
            ("Comment（副本） 2.json", "Comment"),
        ):
            with self.subTest(name):
                self.assertEqual(names.class_of(name), class_name)

    def test_only_what_is_no_export_is_a_failure(self):
        self.put("in/readme.txt", BESIDE["readme.txt"])
        self.assertEqual(self.take_in(self.folder / "in"), 1)
        self.assertIn("nothing that could be imported", self.output.getvalue())

    def test_class_that_is_named_is_that_of_files_without_their_own(self):
        self.put("in/备份.json", json.dumps(ROWS).encode())
        self.put("in/x.jsonl", jsonl("Counter", COUNTER))
        self.put("in/表.csv", f"string,string\nobjectId,n\n{ID % 3},three\n".encode())
        self.assertEqual(self.take_in(self.folder / "in", class_name="Comment"), 0, self.output.getvalue())
        self.assertEqual(self.taken(), {"Comment": {**TAKEN["Comment"], ID % 3: "three"}, "Counter": {ID % 9: "c"}})

    def test_dates_of_a_backup_of_waline_are_dates(self):
        at = "2021-03-04T05:06:07.008Z"
        backup = {**WALINE, "data": {"Comment": [row(1, insertedAt=at, comment=at)]}}
        self.assertEqual(self.take_in(self.put("waline.json", json.dumps(backup).encode())), 0)
        [found] = self.objects("Comment").values()
        self.assertEqual(found.body, {"insertedAt": {"__type": "Date", "iso": at}, "comment": at})

    def test_values_of_a_csv_have_the_types_of_its_first_line(self):
        table = (
            "number,boolean,date,geopoint,pointer:_User,array,object,file,string\n"
            "a,b,c,d,e,f,g,h,i\n"
            f'3,true,2020-01-02T03:04:05.006Z,-30.5 40,{ID % 7},"[1,""x""]","{{""k"":1}}",{ID % 8},"two\nlines"\n'
            f'1.5,,,,,,,,\nno,,,,,,,,\n,,,,,,,,,,\n'
        )
        self.assertEqual(self.take_in(self.put("Post.csv", table.encode())), 1)
        rows = sorted((one.body for one in self.objects("Post").values()), key=len)
        self.assertEqual(rows[0], {"a": 1.5})
        self.assertEqual(
            rows[1],
            {
                "a": 3,
                "b": True,
                "c": {"__type": "Date", "iso": "2020-01-02T03:04:05.006Z"},
                "d": {"__type": "GeoPoint", "longitude": -30.5, "latitude": 40},
                "e": {"__type": "Pointer", "className": "_User", "objectId": ID % 7},
                "f": [1, "x"],
                "g": {"k": 1},
                "h": {"__type": "File", "id": ID % 8},
                "i": "two\nlines",
            },
        )
        self.assertEqual([one["reason"] for one in self.refusals()], ["a cell that is no number"])

    def test_names_of_joins_tell_key_and_owner_or_are_refused(self):
        pair = json.dumps({"owningId": ID % 1, "relatedId": ID % 9}).encode()
        for number, (name, told) in enumerate(
            {
                "_Join_likes_Post.0.jsonl": "Post.likes ",
                "_Join_users__Role.0.jsonl": "_Role.users ",
                "_Join%3Alikes%3APost.0.jsonl": "Post.likes ",
                "_Join：likes：Post.0.jsonl": "Post.likes ",
                "2026-11-28__Join.likes.Post (1).json": "Post.likes ",
                "_Join.2fa.Post.jsonl": "Post.2fa ",
                "_Join_my_likes_Post.0.jsonl": "rename the file to _Join.KEY.CLASS.jsonl",
                "_Join.my-likes.Post.0.jsonl": "rename the file to _Join.KEY.CLASS.jsonl",
            }.items()
        ):
            with self.subTest(name):
                self.database, self.refused = f"sqlite:///{self.folder / f'{number}.db'}", self.folder / f"refused{number}"
                self.put(f"{number}/_User.json", array(row(9, username="u")))
                self.put(f"{number}/{name}", b"[%s]" % pair)
                self.assertEqual(self.take_in(self.folder / str(number)), int("rename" in told), self.output.getvalue())
                self.assertIn(told, self.output.getvalue())

    def test_joins_among_arrays_by_class_are_joins(self):
        data = {"_Join:likes:Post": [{"owningId": ID % 1, "relatedId": ID % 9}], "Post": ROWS, "_User": [row(9, username="u")]}
        self.assertEqual(self.take_in(self.put("all.json", json.dumps(data).encode())), 0, self.output.getvalue())
        self.assertRegex(self.output.getvalue(), r"\nPost.likes +1 +1 ")

    def test_class_that_is_named_takes_no_users(self):
        self.put("in/data.json", array(*ROWS))
        self.put("in/_User.json", array(row(9, username="u", n="u")))
        self.assertEqual(self.take_in(self.folder / "in", class_name="Comment"), 0, self.output.getvalue())
        self.assertEqual((self.taken(), list(self.objects("_User"))), (TAKEN, [ID % 9]))

    def test_class_that_cannot_be_held_is_named(self):
        path = self.put("_Article.json", array(*ROWS))
        self.assertEqual(self.take_in(path), 1)
        self.assertIn("'_Article' is not a class that this server can hold: give it another name", self.output.getvalue())
        self.assertEqual(self.take_in(path, class_name="Comment"), 0)
        self.assertEqual(self.taken(), TAKEN)

    def test_file_that_holds_something_else_beside_its_arrays_is_named(self):
        self.put("in/Post.json", array(*ROWS))
        self.put("in/all.json", json.dumps({"Comment": ROWS, "x": [1]}).encode())
        self.assertEqual(self.take_in(self.folder / "in"), 1)
        self.assertRegex(self.output.getvalue(), r"refused file: \S*/in/all\.json: what is named 'x'")

    def test_bson_is_told_by_its_name_whatever_its_length_looks_like(self):
        for length in (0x3C, 0x5A4D, 0x8B1F, 0x9D1F):
            data = length.to_bytes(4, "little") + b"\2n\0" + (length - 13).to_bytes(4, "little") + b"x" * (length - 14) + b"\0\0"
            for path in (self.put("Comment.bson", data), self.put("e.zip", zipped(Comment__bson=data))):
                with self.subTest(length, path=path.name):
                    [member] = sources.members([path])
                    self.assertEqual((member.name, member.stream.head[:4]), ("Comment.bson", data[:4]))

    def test_arrays_by_class_are_the_same_wherever_a_chunk_ends(self):
        from leanstorage.takeout import raw_rows

        rows = {"Comment": [row(1, text='a "Users": [{" ] }'), row(2, inner=[[{}]])], "Counter": [], "Users": [row(3)]}
        plain = json.dumps(rows, indent=1).encode()

        for step, data in itertools.product(range(1, 40), (plain, plain.replace(b"],", b"]\n,"))):
            stream = Dripping(data, step)
            found = {}
            for name, pieces in raw_rows.arrays(stream):
                found[name.decode()] = []
                for line, one, _ in pieces:
                    found[name.decode()].append(json.loads(one))
                    self.assertEqual(line, 1 + data[: data.index(one)].count(b"\n"))
            self.assertEqual(found, rows)

    def test_relations_and_rows_in_one_file_are_both_taken(self):
        relation = b'#filetype:JSON-streaming {"type":"Relation","class":"Comment","key":"tags","target":"Counter"}\n'
        pair = json.dumps({"owningId": ID % 1, "relatedId": ID % 9}).encode() + b"\n"
        data = relation + pair + jsonl("Comment", *ROWS) + jsonl("Counter", COUNTER)
        self.assertEqual(self.take_in(self.put("all.jsonl", data)), 0, self.output.getvalue())
        self.assertEqual(self.taken(), BOTH)
        self.assertRegex(self.output.getvalue(), r"\nComment.tags +1 +1 ")

    def test_classes_and_keys_that_leancloud_has_are_held(self):
        rows = jsonl("_ConversationMemberInfo", row(1, **{"2fa": "secret", "_x": 1}))
        self.assertEqual(self.take_in(self.put("m.jsonl", rows)), 0, self.output.getvalue())
        storage = self.start(keys=self.keys)
        status, answer = storage.request("GET", f"/classes/_ConversationMemberInfo/{ID % 1}", master=True)
        self.assertEqual((status, answer["2fa"]), (200, "secret"))


if __name__ == "__main__":
    unittest.main()
