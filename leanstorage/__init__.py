"""LeanStorage: the storage service of LeanCloud's REST API 1.1, on SQLite or PostgreSQL.

Layers, each importing only those below it: the command line (`__main__`), `operator` and `embedded` > `http` > `resources`,
one module per resource > `rules` and `engine` > `store` and `blobs`. `takeout` moves data in and out; `outside` calls
third parties and is loaded only when configured. docs/architecture.md says more.
"""
VERSION = "1.0.0"
