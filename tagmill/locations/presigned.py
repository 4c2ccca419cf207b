"""URLs without their signatures: a presigned URL of one object differs each day, and is known again by what is left."""

import re
from urllib.parse import unquote

#: A signature of one kind: the parameters of which each has to be there, and all that belong to it.
_KINDS = (
    # AWS Signature Version 4, which others took over: Cloudflare R2, MinIO
    ("x-amz-signature", "x-amz-(algorithm|credential|date|expires|signature|signedheaders|security-token)"),
    # Google Cloud Storage
    ("x-goog-signature", "x-goog-(algorithm|credential|date|expires|signature|signedheaders)"),
    # Alibaba Cloud OSS
    (
        "x-oss-signature",
        "x-oss-(signature|signature-version|credential|date|expires|additional-headers|security-token)",
    ),
    # Azure's shared access signatures
    ("sig sv", "sig|sv|st|se|sr|sp|spr|sip|si|ss|srt|ses|sdd|scid|saoid|suoid|skoid|sktid|skt|ske|sks|skv"),
    # CloudFront
    ("signature key-pair-id", "signature|expires|policy|key-pair-id|hash-algorithm"),
    # the former signatures of S3, Google and Alibaba
    ("signature expires", "signature|expires|awsaccesskeyid|ossaccesskeyid|googleaccessid|(x-amz-)?security-token"),
    # Tencent Cloud COS
    (
        "q-signature",
        "q-(sign-algorithm|ak|sign-time|key-time|header-list|url-param-list|signature)|x-cos-security-token",
    ),
)
_SIGNATURES = tuple((frozenset(needed.split()), re.compile(names)) for needed, names in _KINDS)


def without_signature(url: str) -> str:
    """Return a URL without its fragment, and without the parameters of the signatures that stores and CDNs know.

    Other parameters stay as they are: they may choose the object. So does what only looks like a signature.
    """
    location, mark, query = url.partition("#")[0].partition("?")
    parts = query.split("&")
    names = [unquote(part.partition("=")[0]).lower() for part in parts]
    for needed, signing in _SIGNATURES:
        if needed.issubset(names):
            left = [part for part, name in zip(parts, names, strict=True) if not signing.fullmatch(name)]
            return location + mark * bool(left) + "&".join(left)
    return location + mark + query
