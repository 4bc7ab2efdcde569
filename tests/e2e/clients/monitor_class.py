import websocket
import json
import time
import threading

class AWXWebSocket:
    def __init__(self, base_url, token):
        self.base_url = base_url.replace("https://", "wss://").replace("http://", "ws://")
        self.token = token
        self.ws = None
        self.connected = False

    def connect(self):
        ws_url = f"{self.base_url}/websocket/?token={self.token}"

        self.ws = websocket.WebSocketApp(
            ws_url,
            on_open=self._on_open,
            on_message=self._on_message,
            on_error=self._on_error,
            on_close=self._on_close
        )

        # Run in background thread
        ws_thread = threading.Thread(target=self.ws.run_forever)
        ws_thread.daemon = True
        ws_thread.start()

        # Wait for connection
        timeout = 5
        start = time.time()
        while not self.connected and time.time() - start < timeout:
            time.sleep(0.1)

    def _on_open(self, ws):
        self.connected = True
        print("WebSocket connected")

    def _on_message(self, ws, message):
        data = json.loads(message)
        self.handle_message(data)

    def _on_error(self, ws, error):
        print(f"WebSocket error: {error}")

    def _on_close(self, ws, close_status_code, close_msg):
        self.connected = False
        print("WebSocket closed")

    def subscribe(self, groups):
        if self.ws and self.connected:
            self.ws.send(json.dumps({"groups": groups}))

    def handle_message(self, data):
        # Override this method to handle messages
        print(f"Received: {data}")

    def close(self):
        if self.ws:
            self.ws.close()

# Usage
class JobMonitor(AWXWebSocket):
    def __init__(self, base_url, token, job_id):
        super().__init__(base_url, token)
        self.job_id = job_id
        self.job_finished = False

    def start_monitoring(self):
        self.connect()
        self.subscribe({
            "jobs": ["status_changed"],
            "job_events": [self.job_id]
        })

    def handle_message(self, data):
        if data.get("type") == "job" and data.get("id") == self.job_id:
            print(f"Job {self.job_id}: {data['status']} (elapsed: {data.get('elapsed', 0)}s)")
            if data["status"] in ["successful", "failed", "error", "canceled"]:
                self.job_finished = True
                self.close()
        elif data.get("type") == "job_event" and data.get("job") == self.job_id:
            if data.get("stdout"):
                print(data["stdout"])

# Monitor a job
monitor = JobMonitor("https://awx.example.com", "YOUR_TOKEN", 123)
monitor.start_monitoring()

# Wait for job to finish
while not monitor.job_finished:
    time.sleep(1)

print("Job monitoring complete")
