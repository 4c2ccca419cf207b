"""Traces of OpenTelemetry: a span for each submit and each batch, with its stages. Off unless TAGMILL_TRACES is set.

The spans go by OTLP over HTTP to where the variables of OpenTelemetry say, such as OTEL_EXPORTER_OTLP_ENDPOINT:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/. A batch is a trace of its own that
links to the submit of its run: one trace of a run of thousands of batches could not be shown.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from tagmill.errors import ConfigurationError

if TYPE_CHECKING:  # of the extra otel
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)

#: the spans below that of a batch
STAGES = ("read", "infer", "write")
#: seconds that the end of a process waits for what is left to be sent
CLOSE_SECONDS = 1.5
#: seconds until it is said again that spans are dropped
SILENT_SECONDS = 3600.0
#: the logger that says why spans were not sent, several times for each attempt
_EXPORTER_LOG = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


class _Dropped(logging.Filter):
    """Says that spans are dropped, on one line and not again for a while, instead of what the exporter says of it."""

    def __init__(self) -> None:
        super().__init__()
        self._reason = ""
        self._silent_until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Hold a line of the exporter back: a warning is of an attempt that is repeated, an error of the last one."""
        said = record.getMessage()
        if record.levelno < logging.ERROR:
            self._reason = said.partition(" encountered while")[0].removeprefix("Transient error ")
        else:
            self.tell(said)
        return False

    def tell(self, otherwise: str) -> None:
        """Say why the last attempt failed, or else what is given, unless that was said a short time ago."""
        reason, self._reason, now = self._reason or otherwise, "", time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + SILENT_SECONDS
            fields = {"action": "traces_dropped", "reason": reason}
            log.warning("traces are dropped; see OTEL_EXPORTER_OTLP_ENDPOINT: %s", reason, extra=fields)


_DROPPED = _Dropped()


class Tracing:
    """The spans of this process."""

    #: of the span that the process is in, as W3C writes it; None outside a submit, and without tracing
    traceparent: ClassVar[str | None] = None

    def __init__(self, service: str) -> None:
        """Raise ConfigurationError if the extra `otel` is not installed."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ModuleNotFoundError as error:
            raise ConfigurationError(f"TAGMILL_TRACES needs {error.name}; run: pip install 'tagmill[otel]'") from error
        # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say has priority.
        resource = Resource.create({"service.name": service, "service.version": version("tagmill")})
        resource = resource.merge(OTELResourceDetector().detect())
        self._provider: TracerProvider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        logging.getLogger(_EXPORTER_LOG).addFilter(_DROPPED)
        self._tracer = self._provider.get_tracer("tagmill", version("tagmill"))

    def close(self) -> None:
        """Send what is left, for CLOSE_SECONDS at most: a collector that is down holds up no command and no worker."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS)
        if ending.is_alive():
            _DROPPED.tell(f"the collector does not answer in {CLOSE_SECONDS} s")

    @contextmanager
    def submit(self) -> Iterator["Span"]:
        """Trace a submit. Meanwhile `traceparent` is that of its span."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        with self._tracer.start_as_current_span("submit", kind=SpanKind.PRODUCER) as span:
            TraceContextTextMapPropagator().inject(carrier)
            Tracing.traceparent = carrier.get("traceparent")
            try:
                yield span
            finally:
                Tracing.traceparent = None

    @contextmanager
    def batch(self, traceparent: str | None, attributes: Mapping[str, Any]) -> Iterator["Span"]:
        """Trace a batch whose run was submitted in the span of `traceparent`."""
        from opentelemetry.trace import Link, SpanKind, get_current_span
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        submit = TraceContextTextMapPropagator().extract({"traceparent": traceparent or ""})
        found = get_current_span(submit).get_span_context()
        links = [Link(found)] if found.is_valid else []
        with self._tracer.start_as_current_span(
            "tag batch", kind=SpanKind.CONSUMER, links=links, attributes=_named(attributes)
        ) as span:
            yield span

    def finish(self, span: "Span", times: Sequence[float], attributes: Mapping[str, Any]) -> None:
        """Add the stages of a batch to its span, and what became of it.

        `times`, by `time.perf_counter`: its start, and the ends of reading, inference and writing.
        """
        from opentelemetry.trace import set_span_in_context

        context, offset = set_span_in_context(span), time.time_ns() - time.perf_counter_ns()
        for name, (start, end) in zip(STAGES, pairwise(times), strict=True):
            began = self._tracer.start_span(name, context, start_time=offset + int(1e9 * start))
            began.end(offset + int(1e9 * end))
        describe(span, attributes)


def ids_of(span: "Span") -> dict[str, str]:
    """Return the fields by which a log line is found from its trace, and the other way round."""
    from opentelemetry.trace import format_span_id, format_trace_id

    context = span.get_span_context()
    return {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}


def describe(span: "Span", attributes: Mapping[str, Any]) -> None:
    """Add attributes to a span, with the prefix of Tagmill."""
    span.set_attributes(_named(attributes))


def _named(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {f"tagmill.{name}": value for name, value in attributes.items() if isinstance(value, (str, int, float))}
