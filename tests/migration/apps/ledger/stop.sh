# Stops the server of this folder and waits until it is gone.
test -e server.pid || exit 0
kill -TERM "$(cat server.pid)" 2>/dev/null || { rm -f server.pid; exit 0; }
while test -e server.pid; do sleep 0.005; done
