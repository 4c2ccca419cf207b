#!/usr/bin/env bash
# Tag a catalog every night with cron. Install it with `crontab -e`:
#
#   0 3 * * *  . /etc/tagmill.env; flock --nonblock /var/lock/tagmill-nightly /opt/tagmill/nightly.sh CATALOG TAGS
#
# /etc/tagmill.env exports TAGMILL_DATABASE_URL and TAGMILL_BROKER_URL. flock leaves a night out if the night before is
# still at work. The workers of Tagmill run elsewhere.
set -euo pipefail
catalog=$1 tags=$2

code=0
submitted=$(tagmill submit "$catalog" --model clothing --priority backfill --wait --json) || code=$?
case $code in
  0 | 3) ;;                                      # 3: some images failed, the others are tagged
  4) echo "nothing to tag"; exit 0 ;;
  75) echo "Redis or SQL is down; cron tries again tomorrow" >&2; exit 75 ;;
  *) exit "$code" ;;
esac
run=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["run"])' <<< "$submitted")
tagmill results "$run" --format parquet -o "$tags"
tagmill results "$run" --failed --format csv       # cron mails what is printed
# With the id of a run that somebody found good, cron also mails when labels, scores or pictures look unlike it.
if [ -n "${GOOD_RUN:-}" ]; then
  drifted=0
  tagmill drift "$run" --reference "$GOOD_RUN" > "$tags.drift.txt" || drifted=$?
  case $drifted in
    0) ;;
    5) cat "$tags.drift.txt" ;;
    *) exit "$drifted" ;;
  esac
fi
