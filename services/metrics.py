"""Every metric: name, help, labels, buckets. Shells count; pure modules only return what there is to count.

Label values come from enums and tables of ours (services, topics, faults, verdicts), partitions, and the versions of
model and policy: never from ids or text.
"""

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Sequence

from prometheus_client import Counter, Gauge, Histogram, Info

# The bars of the latency benchmark (120, 150, 220 ms) and the default deadline (2 s) are bounds: alerts are exact.
_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.12, 0.15, 0.22, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0)
_DURATION = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

READY = Gauge("doorman_ready", "1 while the service does its work, as /readyz says.")
LANES = Gauge("doorman_lanes_assigned", "Partitions that this process works on.", ["service"])
LANE_RECORDS = Counter("doorman_lane_records_total", "Records taken in, by lanes and agents.", ["service"])
LANE_OUTPUTS = Counter("doorman_lane_outputs_total", "Records produced by the lanes.", ["service", "topic"])
LANE_STAGE = Histogram(
    "doorman_lane_stage_seconds",
    "Time of one batch in the stage, packing what comes out included.",
    ["service"],
    buckets=_DURATION,
)
LANE_COMMIT = Histogram(
    "doorman_lane_commit_seconds", "Time to produce and commit one batch.", ["service"], buckets=_DURATION
)
LANE_FAILURES = Counter(
    "doorman_lane_failures_total",
    "Batches that were not committed at first, by what followed: sent again, or the lane thrown away.",
    ["service", "outcome"],
)
LANE_LAG = Gauge("doorman_lane_lag_records", "Records behind the end of the partition.", ["service", "partition"])
LANE_LAST = Gauge(
    "doorman_lane_last_record_timestamp_seconds", "Timestamp of the last record done.", ["service", "partition"]
)
LANE_REBUILD = Histogram(
    "doorman_lane_rebuild_seconds",
    "Time to rebuild a lane's state from the log.",
    ["service"],
    buckets=(0.1, 0.5, 1, 5, 15, 30, 60, 300),
)
DEAD_LETTERS = Counter("doorman_dead_letters_total", "Records that could not be used.", ["service", "fault"])
DEAD_LETTER_ALARM = Gauge(
    "doorman_dead_letter_alarm_info", "1 while dead letters are past the limit of share or row.", ["service"]
)

EVENTS = Counter("doorman_events_total", "Messages taken from the platform, by the form of their payload.", ["form"])
EVENTS_CLAMPED = Counter("doorman_events_clamped_total", "Events whose sent_at was outside the allowed span.")
DUPLICATES = Counter("doorman_duplicates_total", "Repeats of an event within the hour; they emit nothing.")

MODEL = Info("doorman_model", "The model in use.")
MODEL_LOADS = Counter("doorman_model_loads_total", "Attempts to load a changed model folder.", ["outcome"])
SCORES = Histogram(
    "doorman_text_score_ratio",
    "Text scores; a drift of this distribution is a drift of model or traffic.",
    buckets=(0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0),
)
SHADOW_MODEL = Info("doorman_shadow_model", "The model that reads beside the one in use.")
SHADOW_MODEL_DIFFERENCE = Histogram(
    "doorman_shadow_model_difference_ratio",
    "How far the first score of the shadow model is from that of the model in use, text by text.",
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0),
)
BONDS = Counter("doorman_scored_messages_total", "Messages scored, by what memory holds of the pair.", ["bond"])
WINDOW_SENDERS = Gauge("doorman_window_senders", "Senders held in the windows of a lane.", ["partition"])

DECISIONS = Counter("doorman_decisions_total", "Decisions, by verdict and mode.", ["verdict", "mode"])
REASONS = Counter("doorman_reasons_total", "Reasons given in decisions to quarantine.", ["code"])
OVERRIDES = Counter("doorman_overrides_total", "Decisions in which an override beat the score.", ["override"])
DEGRADED = Counter("doorman_degraded_decisions_total", "Decisions made with less than everything.", ["cause"])
DECISION_LATENCY = Histogram(
    "doorman_decision_latency_seconds", "From the broker's append of the event to the decision.", buckets=_LATENCY
)
EVENT_AGE = Histogram(
    "doorman_event_age_seconds", "From event time to the decision; below 0 counts as 0.", buckets=_LATENCY
)
SHADOW_MODE = Gauge("doorman_shadow_mode_info", "1 while every tenant is in shadow, by setting or by command.")
POLICY = Info("doorman_policy", "The policy in use.")
SHADOW_POLICY = Info("doorman_shadow_policy", "The policy that is asked beside the one in use.")
SHADOW_POLICY_FLIPS = Counter(
    "doorman_shadow_policy_flips_total",
    "Decisions that the shadow policy would have made otherwise, by what it would do and what tells most there.",
    ["outcome", "reason"],
)
POLICY_LOADS = Counter("doorman_policy_loads_total", "Attempts to load a changed policy file.", ["outcome"])

SIGHTINGS = Counter("doorman_sightings_total", "Sightings taken in by campaigns.")
CAMPAIGNS = Gauge("doorman_campaigns_live", "Campaigns that have not expired.")
CASES = Counter("doorman_cases_total", "Cases by the state they came to.", ["state"])
REVIEWS = Counter("doorman_reviews_total", "Reviews taken in, by command and outcome.", ["command", "outcome"])
API_REQUESTS = Counter(
    "doorman_api_requests_total",
    "Requests to casebook's API, by its operation and the status answered.",
    ["route", "status"],
)
OUTBOX = Gauge("doorman_outbox_records", "Records that wait in the database to be published.")


def observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """What `histogram.observe` does for each of the values, at a fifth of the cost: the client has no call for many."""
    for place, number in Tally(bisect_left(histogram._upper_bounds, value) for value in values).items():
        histogram._buckets[place].inc(number)
    histogram._sum.inc(sum(values))
