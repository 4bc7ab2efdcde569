// Prints what the server tells: node drp_watch.cjs URL TOKEN PATTERN...
const WebSocket = require("ws");
const [url, token, ...patterns] = process.argv.slice(2);
const ws = new WebSocket(`${url}/api/v3/ws`, { rejectUnauthorized: false, headers: { Authorization: `Bearer ${token}` } });
ws.on("open", () => patterns.forEach((pattern) => ws.send(`register ${pattern}`)));
ws.on("message", (data) => {
  const event = JSON.parse(data);
  console.log(`${event.Type}.${event.Action}.${event.Key} ${event.Principal} ${JSON.stringify(event.Object)}`);
  if (event.Action === "delete") {
    patterns.forEach((pattern) => ws.send(`deregister ${pattern}`));
    ws.close(1000);
  }
});
ws.on("error", (error) => console.log("error", error.message));
ws.on("close", (code) => console.log("close", code));
