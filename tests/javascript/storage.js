// The official JavaScript SDK against a running server: what an app does in a day. Prints one JSON object.
const AV = require("leancloud-storage");

AV.init({
  appId: process.env.APP_ID, appKey: process.env.APP_KEY, masterKey: process.env.MASTER_KEY,
  serverURL: process.env.SERVER_URL,
});

async function main() {
  const result = {};
  const user = await new AV.User().setUsername("js").setPassword("secret").signUp();
  result.session = (await AV.User.become(user.getSessionToken())).id === user.id;
  const Todo = AV.Object.extend("JsTodo");
  const file = await new AV.File("a.txt", Buffer.from("hello")).save();
  const todo = new Todo({ content: "买牛奶", at: new Date(0), where: new AV.GeoPoint(40, -30), tags: ["a"], file });
  const acl = new AV.ACL(user);
  todo.setACL(acl);
  await todo.save();
  todo.increment("count", 2).addUnique("tags", "b").set("owner", user);
  await todo.save(null, { fetchWhenSave: true });
  result.count = todo.get("count");
  const found = await new AV.Query(Todo).startsWith("content", "买").include("owner").find();
  result.found = found.map((one) => [one.get("content"), one.get("tags"), one.get("owner").get("username"), one.get("at").getTime()]);
  result.file = found[0].get("file").url() === file.url();
  const long = new AV.Query(Todo).containedIn("content", new Array(300).fill("买牛奶 and more"));
  result.long = (await long.find()).length; // too long for a URL: comes as a batch
  result.cql = (await AV.Query.doCloudQuery("select count(*) from JsTodo where count > ?", [1])).count;
  await AV.User.logOut();
  result.hidden = (await new AV.Query(Todo).find()).length;
  result.wrong = await AV.User.logIn("js", "wrong").catch((error) => error.code);
  const again = await AV.User.logIn("js", "secret");
  result.same = again.getSessionToken() === user.getSessionToken();
  result.conditional = await todo.save({ count: 5 }, { query: new AV.Query(Todo).equalTo("count", 99) }).catch((error) => error.code);
  await todo.destroy();
  result.left = await new AV.Query(Todo).count();
  return result;
}

main().then((result) => console.log(JSON.stringify(result)), (error) => { console.error(error); process.exit(1); });
