// The SDK's build for WeChat mini programs, over a `wx` that makes real requests: node mini_program.js MODULE. Prints one JSON object.
const http = require("http");
const { APP_ID, APP_KEY, SERVER_URL } = process.env;
const stored = {};
let uploads = 0;

// What WeChat does for a program, as far as the SDK asks for it: it reads `success` and `fail`, or `complete` alone.
function send(options, method, headers, body, decode) {
  const done = (answer) => [options.success, options.complete].forEach((call) => call && call(answer));
  const failed = (error) => [options.fail, options.complete].forEach((call) => call && call({ errMsg: String(error) }));
  const sent = { ...headers, "Content-Length": Buffer.byteLength(body) };
  const request = http.request(options.url, { method, headers: sent }, (answer) => {
    const parts = [];
    answer.on("data", (part) => parts.push(part)).on("end", () => {
      done({ statusCode: answer.statusCode, header: answer.headers, data: decode(Buffer.concat(parts).toString()) });
    });
  });
  request.on("error", failed);
  request.end(body);
  return { abort() {}, onProgressUpdate() {} };
}

function decoded(text) {
  try { return JSON.parse(text); } catch (error) { return text; }
}

global.wx = {
  getStorageSync: (key) => stored[key] || "",
  setStorageSync: (key, value) => { stored[key] = value; },
  removeStorageSync: (key) => { delete stored[key]; },
  canIUse: () => false,
  request(options) {
    const body = options.data && typeof options.data !== "string" ? JSON.stringify(options.data) : options.data || "";
    return send(options, options.method || "GET", options.header, body, decoded);
  },
  // The bytes are those of the local file that `filePath` names; here every such file holds "hello".
  uploadFile(options) {
    uploads += 1;
    const line = "----boundary";
    const fields = Object.entries(options.formData || {}).map(
      ([name, value]) => `--${line}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`);
    const name = options.filePath.split("/").pop();
    const file = `--${line}\r\nContent-Disposition: form-data; name="${options.name}"; filename="${name}"\r\n`
      + `Content-Type: image/png\r\n\r\nhello\r\n--${line}--\r\n`;
    const headers = { ...options.header, "Content-Type": `multipart/form-data; boundary=${line}` };
    return send(options, "POST", headers, fields.join("") + file, (text) => text);
  },
};

// WeChat gives a module these names of browsers, all undefined; some builds set them. There is no FormData either, which Node has.
const NAMES = ["window", "self", "location", "navigator", "localStorage", "fetch", "XMLHttpRequest", "WebSocket", "FormData"];

function load(path) {
  const loaded = { exports: {} };
  new Function("module", "exports", "require", ...NAMES, require("fs").readFileSync(path, "utf8"))(loaded, loaded.exports, require);
  return loaded.exports;
}

const AV = load(require.resolve(`${process.argv[2]}/dist/av-weapp.js`));
if (AV._config) AV._config.APIServerURL = SERVER_URL; // how the oldest learns it
AV.init({ appId: APP_ID, appKey: APP_KEY, serverURL: SERVER_URL, serverURLs: SERVER_URL });
if (AV.setServerURLs) AV.setServerURLs(SERVER_URL); // and 3.0, which does not understand the option

const read = (url) => new Promise((resolve, reject) => {
  http.get(url, (answer) => {
    const parts = [];
    answer.on("data", (part) => parts.push(part)).on("end", () => resolve(Buffer.concat(parts).toString()));
  }).on("error", reject);
});

async function main() {
  const result = {};
  const user = await new AV.User().setUsername("reader").setPassword("pw").signUp();
  result.user = Boolean(user.getSessionToken());
  const file = await new AV.File("photo.png", { blob: { uri: "wxfile://tmp_0123.png" } }).save();
  result.uploads = uploads;
  const Photo = AV.Object.extend("Photo");
  const photo = await new Photo({ file, text: "hello" }).save();
  const found = await new AV.Query("Photo").get(photo.id);
  result.found = [found.get("text"), await read(found.get("file").url())];
  const row = await AV.File.createWithoutData(file.id).fetch();
  result.size = row.metaData("size");
  const external = AV.File.withURL("logo.png", "http://files.example/logo.png");
  await external.save();
  result.external = external.url();
  result.wrong = await AV.User.logIn("reader", "wrong").catch((error) => error.code);
  return result;
}

main().then((result) => { console.log(JSON.stringify(result)); process.exit(0); }, (error) => { console.error(error); process.exit(1); });
