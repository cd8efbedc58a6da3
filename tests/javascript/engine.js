// An app of LeanEngine in Node, for every generation of `leanengine`: functions, hooks, hooks that save again.
const express = require('express');
const AV = require('leanengine');

AV.init({
  appId: process.env.LEANCLOUD_APP_ID,
  appKey: process.env.LEANCLOUD_APP_KEY,
  masterKey: process.env.LEANCLOUD_APP_MASTER_KEY,
  hookKey: process.env.LEANCLOUD_APP_HOOK_KEY,
  serverURL: process.env.LEANCLOUD_API_SERVER,
  serverURLs: process.env.LEANCLOUD_API_SERVER,
});
if (AV._config && !process.env.NEW_SDK) AV._config.APIServerURL = process.env.LEANCLOUD_API_SERVER;

const isOld = process.env.ENGINE_GENERATION === '1'; // callbacks: (request, response)
const calls = { after: 0, updated: 0 };

const define = (name, work) =>
  AV.Cloud.define(name, isOld ? (request, response) => Promise.resolve(work(request)).then((value) => response.success(value)) : async (request) => work(request));

define('hello', (request) => `Hello, ${request.params.name}!`);
define('whoAmI', (request) => {
  const user = request.currentUser || request.user;
  return user ? user.id : null;
});
define('calls', () => calls);

function check(object) {
  const title = object.get('title');
  if (title === 'refused') return 'no such title';
  object.set('title', title.trim());
  return '';
}

if (isOld) {
  AV.Cloud.beforeSave('Post', (request, response) => {
    const wrong = check(request.object);
    if (wrong) response.error(wrong);
    else response.success();
  });
} else {
  AV.Cloud.beforeSave('Post', async (request) => {
    const wrong = check(request.object);
    if (wrong) throw new AV.Cloud.Error(wrong);
  });
}
AV.Cloud.afterSave('Post', (request) => {
  calls.after += 1;
  request.object.set('seen', true);
  return request.object.save(null, { useMasterKey: true });
});
AV.Cloud.afterUpdate('Post', (request) => {
  calls.updated += 1;
  request.object.increment('updates');
  return request.object.save(null, { useMasterKey: true });
});

const app = express();
app.use(AV.express ? AV.express() : AV.Cloud);
app.get('/', (request, response) => response.send('the page'));
const server = app.listen(Number(process.env.LEANCLOUD_APP_PORT), '127.0.0.1', () => console.log('engine listens'));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
