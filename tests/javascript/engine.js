// An app on Node's LeanEngine, in the style that all of its versions take: functions and hooks that get a response object.
// Says "up" when it can be called.
const AV = require("leanengine");
const express = require("express");
const { env } = process;

if (AV._config) AV._config.APIServerURL = env.LEANCLOUD_API_SERVER; // as storage SDKs below 3 take it
if (!AV.init) AV.init = (keys) => AV.initialize(keys.appId, keys.appKey, keys.masterKey);
AV.init({
  appId: env.LEANCLOUD_APP_ID, appKey: env.LEANCLOUD_APP_KEY, masterKey: env.LEANCLOUD_APP_MASTER_KEY,
  hookKey: env.LEANCLOUD_APP_HOOK_KEY, serverURL: env.LEANCLOUD_API_SERVER, serverURLs: env.LEANCLOUD_API_SERVER,
});
AV.Cloud.useMasterKey && AV.Cloud.useMasterKey();
const count = (name) => new AV.Query("Log").equalTo("name", name).count();
const log = (name) => new AV.Object("Log").save({ name });

AV.Cloud.define("hello", (request, response) => {
  response.success({ to: request.params.name, user: (request.currentUser || request.user || { get: () => null }).get("username") });
});
AV.Cloud.define("fails", (request, response) => response.error("not today"));
AV.Cloud.define("object", (request, response) => {
  new AV.Query("Note").first().then((note) => response.success(note), (error) => response.error(error.message));
});
AV.Cloud.beforeSave("Note", (request, response) => {
  if (request.object.get("title") === "bad") return response.error("a bad title");
  request.object.set("title", request.object.get("title").toUpperCase());
  return response.success();
});
AV.Cloud.afterSave("Note", (request) => log(`saved ${request.object.get("title")}`));
AV.Cloud.beforeUpdate("Note", (request, response) => {
  if (request.object.updatedKeys.indexOf("closed") >= 0) return response.error("it is closed");
  return response.success();
});
// What an after hook saves of the object itself must not call the hook again.
AV.Cloud.afterUpdate("Note", (request) => request.object.increment("updates").save());
AV.Cloud.beforeDelete("Note", (request, response) => {
  count(`saved ${request.object.get("title")}`).then((seen) => (seen ? response.success() : response.error("never saved")));
});
AV.Cloud.onLogin((request, response) => {
  if (request.object.get("username") === "banned") return response.error("banned");
  return response.success();
});
// For `engine_checks.py`: hooks that leave all but one key alone, and functions that return and take values of every kind.
const ok = (response) => response && response.success && response.success();
["beforeSave", "beforeUpdate"].forEach((hook) => AV.Cloud[hook]("Every", (request, response) => {
  request.object.set("hooked", hook);
  return ok(response);
}));
AV.Cloud.define("values", (request, response) => {
  new AV.Query("Every").find().then((found) => response.success({ when: new Date(0), one: found[0], list: found, none: null, text: "t" }),
    (error) => response.error(error.message));
});
AV.Cloud.define("row", (request, response) => {
  new AV.Query("Every").first().then((found) => response.success(found), (error) => response.error(error.message));
});
AV.Cloud.define("rows", (request, response) => {
  new AV.Query("Every").find().then((found) => response.success(found), (error) => response.error(error.message));
});
AV.Cloud.define("given", (request, response) => {
  const { object, when } = request.params;
  response.success({ name: object.get("name"), year: when.getUTCFullYear(), id: object.id });
});

const app = express();
app.use(AV.express ? AV.express() : AV.Cloud);
app.listen(env.LEANCLOUD_APP_PORT, "127.0.0.1", () => console.log("up"));
