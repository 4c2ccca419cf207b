#!/bin/sh
# Back Tagmill's database up, and restore it. PGHOST, PGPORT, PGUSER and PGDATABASE say where it is.
#   backup.sh loop             back up every BACKUP_SECONDS, for ever
#   backup.sh once             back up now
#   backup.sh check            fail if the newest backup is older than twice BACKUP_SECONDS
#   backup.sh list             name the backups, oldest first
#   backup.sh restore NAME     put a backup in the place of the database, which is kept under another name
# A backup is BACKUP_FOLDER/tagmill-TIME.dump, in the custom format of pg_dump. BACKUP_KEEP of them are kept.
# The exit code is 78, and nothing is backed up, if BACKUP_KEEP or BACKUP_SECONDS is no whole number from 1 on.
set -eu
folder=${BACKUP_FOLDER:-/backups}
seconds=${BACKUP_SECONDS:-86400}
keep=${BACKUP_KEEP:-7}
# after a failure, it tries again this much later
retry=300

say() {
  echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $1"
}

fail() {
  say "error: $1" >&2
  exit 1
}

# NAME VALUE: ends with 78, a wrong setting, unless VALUE is a whole number from 1 on
whole_number() {
  case $2 in
    *[!0-9]* | 0*) ;;
    *) return 0 ;;
  esac
  say "error: $1 is $2: set it to a whole number from 1 on, or leave it empty for the default" >&2
  exit 78
}

if [ -n "${PGPASSWORD_FILE:-}" ]; then
  PGPASSWORD=$(cat "$PGPASSWORD_FILE") || fail "$PGPASSWORD_FILE cannot be read"
  export PGPASSWORD
fi

list() {
  for dump in "$folder"/tagmill-*.dump; do
    [ ! -e "$dump" ] || basename "$dump"
  done
}

# seconds since the newest backup was begun; 999999999 if there is none
age() {
  newest=$(list | tail -n 1)
  [ -n "$newest" ] || { echo 999999999; return; }
  echo $(($(date +%s) - $(stat -c %Y "$folder/$newest")))
}

once() {
  name=tagmill-$(date -u +%Y%m%dT%H%M%SZ).dump
  partial=$folder/.$name.partial
  rm -f "$folder"/.tagmill-*.partial
  begun=$(date +%s)
  # pg_restore reads the table of contents, which is written last
  if pg_dump --format=custom --file="$partial" && pg_restore --list "$partial" >/dev/null; then
    mv "$partial" "$folder/$name"
    list | head -n "-$keep" | while read -r old; do
      # names are times: if the clock was set back, the new backup need not be the last
      [ "$old" = "$name" ] || rm -f "$folder/$old"
    done
    say "backup $name: $(du -h "$folder/$name" | cut -f 1), $(($(date +%s) - begun)) s, $(list | wc -l) kept"
  else
    rm -f "$partial"
    say "error: the backup failed; the backups of before are kept" >&2
    return 1
  fi
}

loop() {
  # ends at once on SIGTERM, instead of after the sleep
  trap 'kill $! 2>/dev/null; exit 0' TERM INT
  while true; do
    wait=$((seconds - $(age)))
    if [ "$wait" -le 0 ]; then
      wait=$seconds
      once || wait=$retry
    fi
    sleep "$wait" &
    wait $!
  done
}

restore() {
  dump=$folder/$1
  [ -f "$dump" ] || fail "there is no $dump; these are there: $(list | tr '\n' ' ')"
  database=$PGDATABASE
  export PGDATABASE=postgres
  new=${database}_restored
  old=${database}_before_$(date -u +%Y%m%dT%H%M%SZ)
  # A new database first: if this fails, the present one is as it was.
  # It belongs to the owner of the tables: whoever restores it may be an administrator, and the owner must upgrade it.
  owner=$(pg_restore --list "$dump" | awk '/ TABLE public batch / { print $NF }')
  [ -n "$owner" ] || fail "$1 is no backup of Tagmill; $database is as it was"
  dropdb --if-exists "$new" 2>/dev/null && createdb --template=template0 --owner="$owner" "$new" ||
    fail "no database $new for $owner: restore as an administrator of the server; $database is as it was"
  pg_restore --exit-on-error --dbname="$new" "$dump" || fail "$1 cannot be restored; $database is as it was"
  # The present database may be lost: then there is nothing to rename.
  psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=name="$database" --set=old="$old" --set=new="$new" <<'END'
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS false', datname) FROM pg_database WHERE datname = :'name' \gexec
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :'name' \g /dev/null
SELECT format('ALTER DATABASE %I RENAME TO %I', datname, :'old') FROM pg_database WHERE datname = :'name' \gexec
ALTER DATABASE :"new" RENAME TO :"name";
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS true', datname) FROM pg_database WHERE datname = :'old' \gexec
END
  say "restored $1 as $database; what was there is $old. When all is well: dropdb $old"
}

command=${1:-loop}
[ $# -eq 0 ] || shift
case $command in
  loop | once | check)
    whole_number BACKUP_KEEP "$keep"
    whole_number BACKUP_SECONDS "$seconds"
    ;;
esac
case $command in
  loop) loop ;;
  once) once ;;
  check) [ "$(age)" -le $((2 * seconds)) ] ;;
  list) list ;;
  restore) [ $# -eq 1 ] || fail "name a backup: $(list | tr '\n' ' ')"; restore "$1" ;;
  *) fail "unknown command $command: loop, once, check, list or restore" ;;
esac
