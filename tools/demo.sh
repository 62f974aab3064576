#!/bin/bash
# From a fresh machine to a running container: `make demo`. `tools/demo.sh stop` removes it again.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
export DOCKER_HOST=unix:///run/barque/barque.sock
NAME=barque-demo

show() {
    printf '\n\033[1m$ %s\033[0m\n' "$*"
    "$@"
}

stop() {
    barque rm -f $NAME >/dev/null 2>&1 || true
}

if [ "${1:-}" = stop ]; then
    stop
    echo "removed $NAME; the daemon leaves by itself when it is idle"
    exit 0
fi

if [ "$(id -u)" != 0 ]; then
    echo "containers need root here: try sudo make demo" >&2
    exit 1
fi

unset DOCKER_HOST # the first command starts a daemon by itself when none is there
stop
if ! barque image inspect busybox >/dev/null 2>&1; then
    mkdir -p build
    python tools/busybox_image.py archive build/busybox.tar
    barque load -i build/busybox.tar
fi
export DOCKER_HOST=unix:///run/barque/barque.sock

show barque run --rm busybox echo "hello from a container"
show barque run -d --name $NAME -p 127.0.0.1:0:80 busybox \
    sh -c 'mkdir /www && echo "a page from $(hostname)" >/www/index.html && exec httpd -f -p 80 -h /www'
address=$(barque port $NAME 80/tcp | head -n 1)
show barque ps
for _ in 1 2 3 4 5 6 7 8 9 10; do
    python -c "import urllib.request as u; print(u.urlopen('http://$address', timeout=2).read().decode(), end='')" \
        2>/dev/null && break
    sleep 0.1
done
show barque exec $NAME ps
if command -v docker >/dev/null; then
    printf '\nThe real docker command on the same socket:\n'
    show docker ps
    show docker exec $NAME hostname
fi

cat <<END

$NAME is running; its page is at http://$address
Try:  .venv/bin/barque run -it --rm busybox      a shell of your own
      .venv/bin/barque logs $NAME                what it said
      export DOCKER_HOST=$DOCKER_HOST            and every Docker tool speaks to Barque
      make stop-demo                                remove it
END
