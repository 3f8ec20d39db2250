# Where the services keep what they write; sourced by up and down.

services="${TRIBUTARY_SERVICES:-$(cd "$here/../.." && pwd)/.services}"
case "$services" in /*) ;; *) services="$PWD/$services" ;; esac

kafka_pid="$services/kafka/pid"
kafka_log="$services/kafka/log"

# PostgreSQL refuses to run as root, so root runs it as the user postgres.
as_postgres() {
  if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

# place_postgres says where its data lies: that user cannot enter a checkout below /root, in which case it
# is the temporary folder. The services' folder and the user must exist.
place_postgres() {
  postgres_home="$services/postgres"
  if [ "$(id -u)" = 0 ] && ! as_postgres test -x "$services"; then
    postgres_home="${TMPDIR:-/tmp}/tributary-postgres-$(printf %s "$services" | cksum | cut -d' ' -f1)"
  fi
  postgres_data="$postgres_home/data"
  postgres_log="$postgres_home/log"
}

# Version 15 where there is one, else the first complete installation.
find_postgres() {
  local dir
  for dir in /usr/lib/postgresql/15/bin /usr/lib/postgresql/*/bin "$(dirname "$(command -v postgres || echo /nowhere/postgres)")"; do
    if [ -x "$dir/initdb" ] && [ -x "$dir/pg_ctl" ] && [ -x "$dir/postgres" ]; then
      echo "$dir"
      return
    fi
  done
  return 1
}
