"""An onAuthData hook: log-in by a third party of your own. See docs/signing-in.md."""
import leancloud
import requests

engine = leancloud.Engine()  # in your app: the one that there is


@engine.on_auth_data
def check_account(auth_data):
    for provider, data in auth_data.items():
        if provider == "corp" and data:
            headers = {"Authorization": f"Bearer {data['access_token']}"}
            answer = requests.get("https://accounts.example.com/userinfo", headers=headers, timeout=5)
            if answer.status_code != 200:
                raise leancloud.LeanEngineError(400, "this account cannot be verified")
            auth_data[provider] = {"uid": answer.json()["id"]}
        elif provider not in ("lc_weapp", "anonymous"):  # the former is asked by the storage
            raise leancloud.LeanEngineError(400, f"no log-in by {provider}")
    return auth_data
