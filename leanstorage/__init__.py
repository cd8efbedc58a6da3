"""LeanStorage: the storage service of LeanCloud's REST API 1.1, on SQLite or PostgreSQL.

Floors, each importing only those below it: `__main__`, `embedded` > `service` > one module per resource
(`objects`, `users`, `roles`, `files`, `functions`, `batch`, ...) > request-free rules (`operations`, `queries`,
`patterns`, `acl`, `values`, `passwords`, `errors`, `hooks`) > `store`.
"""
VERSION = "1.0.0"
