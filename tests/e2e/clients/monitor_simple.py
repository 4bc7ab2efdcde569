import websocket
import json

def on_message(ws, message):
    data = json.loads(message)
    print(f"Received: {data}")

def on_error(ws, error):
    print(f"Error: {error}")

def on_close(ws, close_status_code, close_msg):
    print("WebSocket closed")

def on_open(ws):
    print("WebSocket connected")
    # Subscribe to groups
    ws.send(json.dumps({
        "groups": {
            "jobs": ["status_changed"],
            "job_events": [123]
        }
    }))

token = "YOUR_API_TOKEN"
ws_url = f"wss://awx.example.com/websocket/?token={token}"

ws = websocket.WebSocketApp(
    ws_url,
    on_open=on_open,
    on_message=on_message,
    on_error=on_error,
    on_close=on_close
)

ws.run_forever()
