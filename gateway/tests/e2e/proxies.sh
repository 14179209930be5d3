#!/usr/bin/env bash
# proxies.sh CACHE [COUNT]: clients behind nginx and HAProxy that write while they are kicked hear why, on both backends.
. "$(dirname "$0")/lib.sh"
cache=$(cd "${1:?usage: proxies.sh CACHE [COUNT]}" && pwd)
count=${2:-150}
control_port=13111
nginx=$(command -v nginx || echo /usr/sbin/nginx)
haproxy=$(command -v haproxy || echo /usr/sbin/haproxy)

cat >"$work/nginx.conf" <<EOF
daemon off;
master_process off;
pid $work/nginx.pid;
error_log stderr warn;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path $work/nginx-body;
    proxy_temp_path $work/nginx-proxy;
    fastcgi_temp_path $work/nginx-fastcgi;
    scgi_temp_path $work/nginx-scgi;
    uwsgi_temp_path $work/nginx-uwsgi;
    server {
        listen 127.0.0.1:13121;
        location / {
            proxy_pass http://127.0.0.1:13102;
            proxy_http_version 1.1;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_read_timeout 600s;
        }
    }
}
EOF
cat >"$work/haproxy.cfg" <<EOF
defaults
    mode http
    timeout connect 60s
    timeout client 60s
    timeout server 60s
    timeout tunnel 600s
frontend front
    bind 127.0.0.1:13122
    default_backend gateway
backend gateway
    server one 127.0.0.1:13102
EOF

# start_proxy PORT COMMAND…: returns when it listens. Ends with the script.
start_proxy() {
    local port=$1
    shift
    "$@" >"$work/proxy-$port.log" 2>&1 &
    proxies+=("$!")
    pids+=("$!")
    await "a proxy that listens on $port" listens "$port" "$!"
}
listens() { # PORT PID
    if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return 0; fi
    ! ended "$2" || fail "the proxy of port $1 ended: $(tail -3 "$work/proxy-$1.log")"
    return 1
}

for backend in epoll io_uring; do
    echo "== $backend"
    proxies=()
    start_gateway "$here/e2e.toml" --set "io.backend=$backend"
    start_proxy 13121 "$nginx" -c "$work/nginx.conf" -p "$work"
    start_proxy 13122 "$haproxy" -db -f "$work/haproxy.cfg"
    for port in 13102 13121 13122; do
        node "$here/last_word.mjs" "$cache" "ws://127.0.0.1:$port/sub" "http://127.0.0.1:$control_port" "$count"
    done
    for pid in "${proxies[@]}"; do kill "$pid" && wait "$pid" 2>/dev/null || true; done
    stop_gateway
done
echo "last words through proxies: ok"
