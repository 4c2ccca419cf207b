"""Pin the images that Docker pulls by their digests: `make digests`. Needs docker with buildx, and the registry.

Rewrites `NAME:TAG`, or `NAME:TAG@sha256:...` of before, in the Dockerfile, the compose file and the manifests for
Kubernetes. Commit what changes; run it again when a tag changes. Writes nothing unless every digest was found.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: how an image that is not built here is named in these files
IMAGE = re.compile(
    r"(?P<before>^(?:ARG BASE=|\s+(?:- )?image: ))(?P<tag>[a-z][\w./-]*:v?\d[\w.-]*)(?:@sha256:\w+)?$", re.MULTILINE
)


def files() -> list[Path]:
    """Return the files that name images."""
    return [ROOT / "Dockerfile", ROOT / "docker-compose.yml", *sorted((ROOT / "deploy" / "kubernetes").rglob("*.yaml"))]


def digest(tag: str) -> str:
    """Return the digest of a tag, which names the images of all architectures. Exit with one line if there is none."""
    command = ["docker", "buildx", "imagetools", "inspect", tag, "--format", "{{.Manifest.Digest}}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except FileNotFoundError:
        sys.exit("docker is not installed: run this on a machine that has docker with buildx")
    except subprocess.TimeoutExpired:
        sys.exit(f"{tag}: the registry did not answer within 120 s; nothing was written")
    found = done.stdout.strip()
    if done.returncode or not re.fullmatch(r"sha256:[0-9a-f]{64}", found):
        said = (done.stderr.strip() or found or "no digest").splitlines()[-1]
        sys.exit(f"{tag}: {said}; nothing was written")
    return found


def main() -> None:
    texts = {file: file.read_text(encoding="utf-8") for file in files()}
    tags = sorted({found["tag"] for text in texts.values() for found in IMAGE.finditer(text)})
    digests = {tag: digest(tag) for tag in tags}
    for file, text in texts.items():
        file.write_text(IMAGE.sub(lambda found: f"{found['before']}{found['tag']}@{digests[found['tag']]}", text))
    for tag, found in digests.items():
        sys.stdout.write(f"{tag}@{found}\n")


if __name__ == "__main__":
    main()
