#!/bin/sh
# Make the passwords of docker-compose.yml, and the URLs that hold them, as files in secrets/.
#   sh deploy/compose/secrets.sh          in the folder of docker-compose.yml
# A password that is there already stays; one that an .env of an earlier version holds is taken over. To change one, write
# it into its file, or delete the file, and run this again: docs/operations.md.
set -eu
folder=${1:-secrets}
here=$(dirname "$0")/../..

fail() {
  echo "secrets.sh: $1" >&2
  exit 78
}

# Only you may enter the folder. Containers run as other users, and see single files of it: those must be readable.
mkdir -p "$folder"
chmod 700 "$folder"

write() {
  rm -f "$folder/$1.new"
  printf '%s\n' "$2" >"$folder/$1.new"
  chmod 444 "$folder/$1.new"
  mv -f "$folder/$1.new" "$folder/$1"
}

# Print the password of a file. Make it first if there is none.
password() {
  if [ ! -e "$folder/$1" ]; then
    variable=$(echo "$1" | tr '[:lower:]' '[:upper:]')
    before=
    [ ! -r "$here/.env" ] || before=$(sed -n "s/^$variable=//p" "$here/.env" | tail -n 1)
    write "$1" "${before:-$(od -An -v -N24 -tx1 /dev/urandom | tr -d ' \n')}"
  fi
  read -r found <"$folder/$1" || [ -n "$found" ] || fail "$folder/$1 is empty: write a password into it, or delete it"
  case $found in
    *[!A-Za-z0-9._~-]*) fail "$folder/$1 may hold letters, digits and . _ ~ - alone: it becomes part of a URL" ;;
  esac
  echo "$found"
}

for name in redis_password redis_worker_password redis_flower_password flower_password \
  postgres_password postgres_worker_password postgres_producer_password postgres_backup_password \
  postgres_reader_password grafana_password; do
  password "$name" >/dev/null
done

write worker_broker_url "redis://tagmill-worker:$(password redis_worker_password)@redis:6379/0"
write flower_broker_url "redis://tagmill-flower:$(password redis_flower_password)@redis:6379/0"
write owner_database_url "postgresql+psycopg://tagmill:$(password postgres_password)@postgres:5432/tagmill"
write worker_database_url \
  "postgresql+psycopg://tagmill_worker:$(password postgres_worker_password)@postgres:5432/tagmill"
write producer_database_url \
  "postgresql+psycopg://tagmill_producer:$(password postgres_producer_password)@postgres:5432/tagmill"
write reader_database_url \
  "postgresql+psycopg://tagmill_reader:$(password postgres_reader_password)@postgres:5432/tagmill"
echo "$folder/ holds the passwords of docker-compose.yml"
