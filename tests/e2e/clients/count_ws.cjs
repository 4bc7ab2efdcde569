// Follows a job with the package ws; prints each line of its output, then its final status.
// usage: node count_ws.cjs URL JOB
const WebSocket = require("ws");
const [url, job] = process.argv.slice(2);
const ws = new WebSocket(url);
const lines = [];

ws.on("open", () => ws.send(JSON.stringify({ groups: { jobs: ["status_changed"], job_events: [Number(job)] } })));
ws.on("message", (text) => {
  const data = JSON.parse(text);
  if (data.groups_current) console.error("joined");
  if (data.type === "job_event") lines.push(data.stdout);
  if (data.type === "job" && data.id === Number(job) && data.finished) {
    process.stdout.write(lines.join("\n") + "\n" + data.status + "\n");
    ws.close();
  }
});
ws.on("error", (error) => console.error("error:", error.message));
ws.on("close", (code) => console.error("closed:", code));
