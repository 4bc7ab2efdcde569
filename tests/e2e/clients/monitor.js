const token = "YOUR_API_TOKEN";
const jobId = 123;
const ws = new WebSocket(`wss://awx.example.com/websocket/?token=${token}`);

ws.onopen = () => {
  // Subscribe to specific job events
  ws.send(JSON.stringify({
    groups: {
      jobs: ["status_changed"],
      job_events: [jobId]
    }
  }));
};

ws.onmessage = (event) => {
  const data = JSON.parse(event.data);

  if (data.type === "job" && data.id === jobId) {
    console.log(`Job status: ${data.status}`);
    console.log(`Elapsed: ${data.elapsed}s`);

    if (["successful", "failed", "error", "canceled"].includes(data.status)) {
      console.log("Job finished");
      ws.close();
    }
  }

  if (data.type === "job_event" && data.job === jobId) {
    console.log(`[${data.event}] ${data.stdout}`);
  }
};
