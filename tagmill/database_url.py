"""PostgreSQL URLs that name several hosts, in libpq's form, which SQLAlchemy does not read."""

import re
from urllib.parse import quote

_URL = re.compile(r"(?P<scheme>postgresql(\+psycopg)?://)(?P<at>[^/?#]*)(?P<path>/[^?#]*)?(\?(?P<query>.*))?")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:;,@/\[\]]+)(:(?P<port>[0-9]{1,5}))?")


def sqlalchemy_url(url: str) -> str:
    """Return a URL such as postgresql://user@db1:5432,db2:5432/name as postgresql://user@/name?host=db1,db2&port=...

    Other URLs are returned as they are. Raise ValueError for a host or a port that is none.
    """
    match = _URL.fullmatch(url)
    login, at, hosts = match["at"].rpartition("@") if match else ("", "", "")
    if match is None or "," not in hosts:
        return url
    found = [_HOST.fullmatch(host) for host in hosts.split(",")]
    if not all(found):
        raise ValueError("must be postgresql://USER:PASSWORD@HOST:PORT,HOST:PORT/NAME, the password percent-encoded")
    names = ",".join(one["host"].strip("[]") for one in found if one)
    ports = ",".join(one["port"] or "" for one in found if one)
    query = f"host={quote(names, safe=',')}" + (f"&port={ports}" if ports.strip(",") else "")
    query += f"&{match['query']}" if match["query"] else ""
    return f"{match['scheme']}{login}{at}{match['path'] or '/'}?{query}"
