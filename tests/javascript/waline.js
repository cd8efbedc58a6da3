// Waline's server, unmodified, on PORT. The services to log in by, which it asks the network for at every call, are none here.
const http = require("http");

const services = http.createServer((request, answer) => {
  answer.setHeader("Content-Type", "application/json");
  answer.end('{"services":[]}');
});
services.listen(0, "127.0.0.1", () => {
  process.env.OAUTH_URL = `http://127.0.0.1:${services.address().port}`;
  const handler = require("@waline/vercel")({});
  http.createServer((request, answer) => handler(request, answer)).listen(process.env.PORT, "127.0.0.1", () => console.log("up"));
});
