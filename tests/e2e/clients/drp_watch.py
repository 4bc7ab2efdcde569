"""Prints what the server tells: python3 drp_watch.py HOST:PORT NAME:PASSWORD PATTERN..."""
import ssl
import sys

import websocket

endpoint, login, *patterns = sys.argv[1:]
ws = websocket.create_connection(f"wss://{endpoint}/api/v3/ws?token={login}", sslopt={"cert_reqs": ssl.CERT_NONE, "check_hostname": False})
for pattern in patterns:
    ws.send(f"register {pattern}")
while True:
    message = ws.recv()
    if not message:
        break
    print(message, flush=True)
