"""The variables that LeanEngine gives to an app, and `lean env` prints: those of old SDKs, `LC_...`, as well."""
from collections.abc import Mapping

from leanstorage import keys as key_files

# What apps find beside the keys, unless the shell has set it: a port that is in use there stays what it is.
DEFAULTS = {
    "LEANCLOUD_APP_PORT": "3000",
    "LEANCLOUD_APP_ENV": "development",
    "LEANCLOUD_REGION": "CN",
    "LEANCLOUD_APP_DOMAIN": "",
    "LEANCLOUD_APP_GROUP": "web",
    "LEAN_CLI_HAVE_STAGING": "false",
}
OLD_NAMES = {
    "LC_APP_ID": "LEANCLOUD_APP_ID",
    "LC_APP_KEY": "LEANCLOUD_APP_KEY",
    "LC_APP_MASTER_KEY": "LEANCLOUD_APP_MASTER_KEY",
    "LC_APP_PORT": "LEANCLOUD_APP_PORT",
    "LC_API_SERVER": "LEANCLOUD_API_SERVER",
}


def variables(keys: Mapping[str, str], api_server: str, present: Mapping[str, str]) -> dict[str, str]:
    """{variable: value} for an app of the storage at `api_server`; `present` is the environment as it is."""
    found = {variable: keys[name] for name, variable in key_files.NAMES.items()}
    found["LEANCLOUD_API_SERVER"] = api_server
    found |= {variable: present.get(variable) or value for variable, value in DEFAULTS.items()}
    return found | {old: found[new] for old, new in OLD_NAMES.items()}
