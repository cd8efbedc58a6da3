<?php
// The engine of `engine_checks.py` on the PHP SDK, whose folder is PHP_SDK: `php -S 127.0.0.1:PORT engine.php`.
require_once getenv("PHP_SDK") . "/src/autoload.php";

use LeanCloud\Client;
use LeanCloud\Engine\Cloud;
use LeanCloud\Engine\FunctionError;
use LeanCloud\Engine\LeanEngine;
use LeanCloud\Query;
use LeanCloud\Storage\CookieStorage;

Client::initialize(getenv("LEANCLOUD_APP_ID"), getenv("LEANCLOUD_APP_KEY"), getenv("LEANCLOUD_APP_MASTER_KEY"));
Client::setServerUrl(getenv("LEANCLOUD_API_SERVER"));
Client::setStorage(new CookieStorage());
Client::useMasterKey(true);

foreach (array("beforeSave", "beforeUpdate") as $hook) {
    Cloud::$hook("Every", function ($object, $user) use ($hook) {
        $object->set("hooked", $hook);
    });
}
Cloud::beforeSave("Note", function ($object, $user) {
    if ($object->get("title") === "bad") throw new FunctionError("a bad title");
    $object->set("by", $user ? $user->getUsername() : "nobody");
});
Cloud::afterUpdate("Note", function ($object, $user) {
    $object->increment("updates", 1);
    $object->save();
});
Cloud::beforeDelete("Note", function ($object, $user) {
    if ($object->get("kept")) throw new FunctionError("it is kept", 7);
});
Cloud::beforeSave("_User", function ($user) {
    if ($user->get("nick") === "bad") throw new FunctionError("a bad name");
    $user->set("seen", 1);
});
Cloud::afterSave("_User", function ($user) {
    $user->set("seen", 2);
    $user->save();
});
Cloud::onLogin(function ($user) {
    if ($user->getUsername() === "banned") throw new FunctionError("banned", 9);
});
Cloud::define("row", function () {
    return (new Query("Every"))->first();
});
Cloud::define("rows", function () {
    return (new Query("Every"))->find();
});
Cloud::define("given", function ($params) {
    return array("name" => $params["object"]->get("name"), "year" => (int) $params["when"]->format("Y"),
                 "id" => $params["object"]->getObjectId());
});
Cloud::define("none", function ($params, $user) {
    return array("count" => count($params), "user" => $user ? $user->getUsername() : null);
});
Cloud::define("fails", function () {
    throw new FunctionError("not today", 33, 402);
});

$engine = new LeanEngine();
$engine->start();
