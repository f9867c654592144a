"""requests: everything from the environment."""

import sys

import requests

url = sys.argv[1]
session = requests.Session()
print("plain", session.get(f"{url}/plain").status_code, flush=True)
with session.get(f"{url}/events", stream=True) as response:
    for line in response.iter_lines():
        if line.startswith(b"data:"):
            print("event", flush=True)
pieces = (b"x" * 30_000 for _ in range(40))
print("uploaded", session.post(f"{url}/upload", data=pieces).json()["length"], flush=True)
sys.stdin.readline()
for _ in range(4):
    print("after", session.get(f"{url}/after").status_code, flush=True)
