"""The dashboard of one model with all of its versions."""

from panels import GREEN, ORANGE, RED, choice, columns, dashboard, data_source, graph, prom, sql, stat, table

#: series of images name a model NAME@VERSION. In backticks PromQL takes a backslash as it is.
_VERSIONS = "model=~`${name:regex}@.+`"
_NAME = "${name:sqlstring}"

_NOW = (
    stat(
        "In production",
        "The version that NAME without @VERSION means, by the last promotion or rollback.",
        sql(f"SELECT version FROM model_production WHERE model = {_NAME} AND until IS NULL"),
        "prefix:@",
        text=True,
    ),
    stat(
        "Workers that have it",
        "Workers that have loaded a version of it.",
        prom('count(count by (instance) (tagmill_model_info{name="$name"})) or vector(0)'),
    ),
    stat(
        "Images per second",
        "Of all its versions.",
        prom(f"sum(rate(tagmill_images_total{{{_VERSIONS}}}[$__rate_interval]))"),
        "suffix: img/s",
    ),
    stat(
        "Images in 24 hours",
        "Of all its versions, tagged or failed.",
        prom(f"sum(increase(tagmill_images_total{{{_VERSIONS}}}[1d]))", now=True),
    ),
    stat(
        "Failed in the last hour",
        "Share of its images. Most codes are about the image, not the model.",
        prom(
            f"""(sum(increase(tagmill_images_total{{{_VERSIONS}, status="failed"}}[1h])) or vector(0))
                / (sum(increase(tagmill_images_total{{{_VERSIONS}}}[1h])) > 0)"""
        ),
        "percentunit",
        thresholds=((None, GREEN), (0.02, ORANGE), (0.05, RED)),
    ),
    stat(
        "Groups that drifted",
        "Groups with a figure above its limit, when `tagmill drift` last compared runs. Empty if it never did.",
        prom('sum(tagmill_drift_groups_above{model="$name"})'),
        thresholds=((None, GREEN), (1, RED)),
    ),
)
_VERSIONS_ROW = (
    graph(
        "Images per second by version",
        "A canary and a shadow are here with the version in production.",
        prom(
            f"sum by (model, status) (rate(tagmill_images_total{{{_VERSIONS}}}[$__rate_interval]))",
            "{{model}} {{status}}",
        ),
        unit="suffix: img/s",
        stack=True,
        by_status=True,
    ),
    graph(
        "Share that failed, by version",
        "Over 30 minutes.",
        prom(f"model:tagmill_images_failed:ratio30m{{{_VERSIONS}}}", "{{model}}"),
        unit="percentunit",
    ),
    graph(
        "Seconds to infer a batch (all models)",
        "Median and 95th percentile of the stage `infer`, which includes the wait for the device.",
        prom(
            """histogram_quantile(0.5,
               sum by (le) (rate(tagmill_stage_duration_seconds_bucket{stage="infer"}[$__rate_interval])))""",
            "median",
        ),
        prom(
            """histogram_quantile(0.95,
               sum by (le) (rate(tagmill_stage_duration_seconds_bucket{stage="infer"}[$__rate_interval])))""",
            "95th percentile",
        ),
        unit="s",
    ),
    table(
        "Where it is loaded",
        "The bundles that workers have loaded, by their sha256, and what runs them.",
        prom(
            """sum by (worker, version, sha256, provider) (tagmill_model_info{name="$name"} * on (instance)
               group_left (worker) label_replace(tagmill_worker_info, "worker", "$1", "name", "(.+)"))""",
            table=True,
        ),
        width=12,
        **columns({"worker": "worker", "version": "version", "provider": "provider", "sha256": "sha256"}, {}),
    ),
    table(
        "Promotions and rollbacks",
        "Which version was in production from when to when, and who changed it.",
        sql(
            f"""SELECT version, to_timestamp(since) AS since, to_timestamp(until) AS until, user_name AS "user", reason
                FROM model_production WHERE model = {_NAME} ORDER BY since DESC LIMIT 20"""
        ),
        width=12,
    ),
)
_DRIFT = (
    graph(
        "Population stability index",
        "The largest one of the groups with enough images: below 0.1 is no change, above 0.25 a large one.",
        prom('max by (kind, column, of) (tagmill_drift_psi{model="$name"})', "{{of}} by {{kind}} {{column}}"),
        thresholds=((None, GREEN), (0.25, RED)),
    ),
    graph(
        "Distance of mean embeddings",
        "The largest cosine distance of the groups. What is large depends on the model.",
        prom('max by (kind, column) (tagmill_drift_distance{model="$name"})', "{{kind}} {{column}}"),
    ),
    graph(
        "Images labeled unknown",
        "Share of the images, of a model with that label.",
        prom('max(tagmill_drift_unknown_share{model="$name"})', "unknown"),
        unit="percentunit",
    ),
    table(
        "Comparisons of runs",
        "The newest results of `tagmill drift`, all images of a run together.",
        sql(
            f"""SELECT run_id AS run, reference_id AS reference, version, images, label_psi AS "PSI of labels",
                score_psi AS "PSI of scores", distance, above AS "above its limit", to_timestamp(created_at) AS compared
                FROM run_drift WHERE model = {_NAME} AND number = 0 ORDER BY created_at DESC LIMIT 20"""
        ),
        width=24,
    ),
)

DASHBOARD = dashboard(
    "tagmill-model",
    "Tagmill model",
    "One model: its versions, where they run, how many images fail, and how far its results have drifted.",
    (
        data_source("datasource", "Prometheus", "prometheus", "tagmill-prometheus"),
        data_source("sql", "PostgreSQL", "grafana-postgresql-datasource", "tagmill-postgres"),
        choice("name", "Model", "label_values(tagmill_images_total, model)", regex="/^(.+)@[0-9]+$/"),
    ),
    (("Now", _NOW), ("Versions", _VERSIONS_ROW), ("Drift", _DRIFT)),
)
