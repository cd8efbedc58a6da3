// One program for every generation of the JavaScript SDK, oldest API first, in Node and in browsers.
// node sdk_versions.js MODULE prints one JSON object; a page calls `program`.

// `name` is the module's; `hello` five bytes as the platform has them, `read` a function that gets a URL's text.
async function program(AV, name, { id, key, url }, hello, read) {
  // Each generation learns the address of its server in a way of its own.
  const beforeInit = () => { AV._config.APIServerURL = url; AV.init({ appId: id, appKey: key }); };
  const starts = {
    "avoscloud-sdk": () => { AV.initialize(id, key); AV.serverURL = `${url}/`; },
    "storage-1.5.5": beforeInit,
    "storage-2.5.4": beforeInit,
    "storage-3.0.4": () => { AV.init({ appId: id, appKey: key }); AV.setServerURLs(url); },
  };
  (starts[name] || (() => AV.init({ appId: id, appKey: key, serverURL: url, serverURLs: url })))();

  const token = (user) => (user.getSessionToken ? user.getSessionToken() : user._sessionToken);
  const Thing = AV.Object.extend("Thing");
  const Child = AV.Object.extend("Child");
  let thing, child, user;

  const steps = {
    async saved() {
      thing = new Thing();
      await thing.save({ n: 1, tags: ["a"], at: new Date(0), where: new AV.GeoPoint({ latitude: 1, longitude: 2 }) });
      return typeof thing.id;
    },
    async operations() {
      thing.increment("n", 2);
      thing.add("tags", "b");
      await thing.save();
      const fresh = await new AV.Query("Thing").get(thing.id);
      return [fresh.get("n"), fresh.get("tags"), fresh.get("at").getTime(), fresh.get("where").longitude];
    },
    async child() {
      child = new Child();
      child.set("x", 7);
      const parent = new Thing();
      parent.set("child", child);
      await parent.save();
      const found = await new AV.Query("Thing").include("child").get(parent.id);
      return found.get("child").get("x");
    },
    async many() {
      await AV.Object.saveAll([5, 6].map((n) => { const one = new Thing(); one.set("n", n); return one; }));
      const found = await new AV.Query("Thing").greaterThan("n", 4).descending("n").find();
      return found.map((one) => one.get("n"));
    },
    count: () => new AV.Query("Thing").exists("n").count(),
    cql: async () => (await AV.Query.doCloudQuery("select * from Thing where n > ?", [4])).results.length,
    async relation() {
      thing.relation("kids").add(child);
      await thing.save();
      const fresh = await new AV.Query("Thing").get(thing.id);
      return (await fresh.relation("kids").query().find()).length;
    },
    async signUp() {
      user = new AV.User();
      await user.signUp({ username: "somebody", password: "pw" });
      return Boolean(token(user));
    },
    async logIn() {
      const before = token(user);
      await AV.User.logOut();
      user = await AV.User.logIn("somebody", "pw");
      return token(user) === before;
    },
    async wrongPassword() {
      try { await AV.User.logIn("somebody", "wrong"); } catch (error) { return error.code; }
    },
    become: async () => (await AV.User.become(token(user))).id === user.id,
    async profile() {
      const me = AV.User.current();
      me.set("city", "x");
      await me.save();
      return (await AV.User.become(token(me))).get("city");
    },
    async follow() {
      const mine = token(AV.User.current());
      const star = new AV.User();
      await star.signUp({ username: "star", password: "pw" });
      const me = await AV.User.become(mine);
      await AV.User.current().follow(star.id);
      const followed = (await AV.User.current().followeeQuery().include("followee").find()).map((one) => one.get("username"));
      await AV.User.current().unfollow(star.id);
      return [followed, (await me.followeeQuery().find()).length];
    },
    async status() {
      await AV.Status.sendStatusToFollowers(new AV.Status(null, "hello"));
      const inbox = await AV.Status.inboxQuery(AV.User.current()).find();
      const sent = await AV.Status.statusQuery(AV.User.current()).find();
      return [inbox.map((one) => one.get ? one.get("message") : one.message), sent.length];
    },
    async file() {
      const file = new AV.File("hello.txt", hello);
      await file.save();
      return [file.name(), await read(file.url())];
    },
    async base64() {
      const file = new AV.File("hello.txt", { base64: "aGVsbG8=" });
      await file.save();
      const holder = new Thing();
      holder.set("file", file);
      await holder.save();
      return read((await new AV.Query("Thing").get(holder.id)).get("file").url());
    },
    async external() {
      const file = AV.File.withURL("logo.png", "http://files.example/logo.png");
      await file.save();
      return [typeof file.id, file.name(), file.url()];
    },
    async role() {
      const rights = new AV.ACL();
      rights.setPublicReadAccess(true);
      return typeof (await new AV.Role("admins", rights).save()).id;
    },
    destroyed: async () => {
      const id = thing.id;
      await AV.Object.destroyAll([thing]);
      return new AV.Query("Thing").equalTo("objectId", id).count();
    },
  };

  const result = {};
  for (const [step, run] of Object.entries(steps)) {
    try { result[step] = await run(); } catch (error) { result[step] = `failed: ${(error && error.message) || JSON.stringify(error)}`; }
  }
  return result;
}

if (typeof module === "object") {
  const { APP_ID: id, APP_KEY: key, SERVER_URL: url } = process.env;
  const read = (address) => new Promise((resolve, reject) => {
    require("http").get(address, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part)).on("end", () => resolve(Buffer.concat(parts).toString()));
    }).on("error", reject);
  });
  const [, , name] = process.argv;
  program(require(name), name, { id, key, url }, Buffer.from("hello"), read).then((result) => {
    console.log(JSON.stringify(result));
    process.exit(0);
  });
}
