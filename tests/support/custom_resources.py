"""What KEDA's and the Prometheus operator's kinds may hold, as JSON schemas: the fields that deploy/kubernetes uses.

kubernetes-validate knows the kinds of Kubernetes alone. The fields are those of KEDA 2.20 and monitoring.coreos.com/v1.
Any other field is refused, so a misspelled one is noticed.
"""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
NUMBER: Schema = {"type": "integer", "minimum": 0}
DURATION: Schema = {"type": "string", "pattern": r"^([0-9]+(ms|[smhdwy]))+$"}


def _object(required: str, **properties: Schema) -> Schema:
    """Return a schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of, "minItems": 1}


_TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
_METADATA = _object("name", name=TEXT, namespace=TEXT, labels=_TEXTS, annotations=_TEXTS)
_POLICY = _object("type value periodSeconds", type={"enum": ["Percent", "Pods"]}, value=NUMBER, periodSeconds=NUMBER)
_RULES = _object(
    "policies", stabilizationWindowSeconds=NUMBER, selectPolicy={"enum": ["Max", "Min"]}, policies=_list(_POLICY)
)
_TRIGGER = _object(
    "type metadata authenticationRef",
    type={"const": "postgresql"},
    # KEDA takes texts alone
    metadata=_object("query targetQueryValue", query=TEXT, targetQueryValue=TEXT, activationTargetQueryValue=TEXT),
    authenticationRef=_object("name", name=TEXT),
)
_ENDPOINT = _object(
    "port",
    port=TEXT,
    path=TEXT,
    interval=DURATION,
    scrapeTimeout=DURATION,
    relabelings=_list(_object("targetLabel replacement", targetLabel=TEXT, replacement=TEXT)),
)
_SELECTOR = _object("matchLabels", matchLabels=_TEXTS)
_RULE: Schema = _object(
    "expr", alert=TEXT, record=TEXT, expr=TEXT, **{"for": DURATION}, labels=_TEXTS, annotations=_TEXTS
)
_GROUP = _object("name rules", name=TEXT, rules=_list(_RULE), interval=DURATION)


def _kind(version: str, spec: Schema) -> Schema:
    return _object(
        "apiVersion kind metadata spec", apiVersion={"const": version}, kind=TEXT, metadata=_METADATA, spec=spec
    )


SCHEMAS: dict[str, Schema] = {
    "ScaledObject": _kind(
        "keda.sh/v1alpha1",
        _object(
            "scaleTargetRef triggers",
            scaleTargetRef=_object("name", name=TEXT, kind=TEXT),
            pollingInterval=NUMBER,
            cooldownPeriod=NUMBER,
            minReplicaCount=NUMBER,
            maxReplicaCount=NUMBER,
            advanced=_object(
                "horizontalPodAutoscalerConfig",
                horizontalPodAutoscalerConfig=_object(
                    "behavior", behavior=_object("scaleDown", scaleUp=_RULES, scaleDown=_RULES)
                ),
            ),
            triggers=_list(_TRIGGER),
        ),
    ),
    "TriggerAuthentication": _kind(
        "keda.sh/v1alpha1",
        _object(
            "secretTargetRef",
            secretTargetRef=_list(_object("parameter name key", parameter=TEXT, name=TEXT, key=TEXT)),
        ),
    ),
    "PodMonitor": _kind(
        "monitoring.coreos.com/v1",
        _object("selector podMetricsEndpoints", selector=_SELECTOR, podMetricsEndpoints=_list(_ENDPOINT)),
    ),
    "ServiceMonitor": _kind(
        "monitoring.coreos.com/v1",
        _object("selector endpoints", selector=_SELECTOR, endpoints=_list(_ENDPOINT)),
    ),
    "PrometheusRule": _kind("monitoring.coreos.com/v1", _object("groups", groups=_list(_GROUP))),
}
