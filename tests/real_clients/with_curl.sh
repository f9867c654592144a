#!/bin/sh
# curl: everything from the environment.
url=$1
curl -sS -o /dev/null -w 'plain %{http_code}\n' "$url/plain"
curl -sSN "$url/events" | while read -r line; do
    case $line in data:*) echo event ;; esac
done
head -c 1200000 /dev/zero | curl -sS -X POST -T - "$url/upload" | sed 's/.*: \([0-9]*\).*/uploaded \1/'
echo
read -r _
for _ in 1 2 3 4; do
    curl -sS -o /dev/null -w 'after %{http_code}\n' "$url/after"
done
