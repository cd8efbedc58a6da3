"""Taking an app's data out of LeanCloud, and out of here again: import, pull, export. Protocol section 9.

`sources` opens files, folders and archives; `formats` tells what they are, `raw_rows` cuts them into raw rows; `convert` turns a raw row into what is
stored; `load` stores batches of them; `report` counts, shows progress and keeps what was refused. `importer`, `puller`
and `exporter` are the three subcommands, `remote` speaks to a live API.
"""
