"""`python -m services.classify`: messages become scores."""

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvloop
from prometheus_client import Info

from services import codec, metrics
from services.classify.campaign_window import LiveCampaigns
from services.classify.checkpoint import Mark, Reading, Writer
from services.classify.scorer import ModelFolder, Scorer
from services.classify.stage import SERVICE, Batch, Locate, Looks, State, classify, read, remember
from services.classify.text import features
from services.errors import BadRecord, BadSetup
from services.kafka import Sender, View
from services.lane import Plan, Service, Work, tolerant
from services.observe import event
from services.process import launch
from services.records import Campaign, Checkpoint, Inbound, Output, Score
from services.settings import Settings
from services.topics import CAMPAIGNS, DEAD_LETTER, MEMORY, MESSAGES, SCORES, SIGHTINGS

POLL_SECONDS = 2.0

log = logging.getLogger(__name__)


class Model:
    """The model in use, or the one that reads beside it.

    A changed folder is checked and warmed before it takes over, between two batches.
    """

    def __init__(self, folder: ModelFolder, info: Info = metrics.MODEL) -> None:
        self._folder, self._info = folder, info
        self.scorer: Scorer | None = None
        self._load()

    def missing(self) -> list[str]:
        return [] if self.scorer else ["model"]

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await asyncio.to_thread(self._load)

    def _load(self) -> None:
        if not self._folder.changed():
            return
        try:
            self.scorer = self._folder.load()
        except BadSetup as refused:
            metrics.MODEL_LOADS.labels("refused").inc()
            event(log, "model_refused", logging.ERROR, why=str(refused), kept=self.scorer and self.scorer.version)
            return
        metrics.MODEL_LOADS.labels("loaded").inc()
        self._info.info({"version": self.scorer.version, "sha256": self.scorer.sha256})
        event(log, "model_loaded", version=self.scorer.version)


@dataclass(slots=True)
class CampaignsView:
    """A full copy of `dm.campaigns`."""

    live: LiveCampaigns = field(default_factory=LiveCampaigns)

    def apply(self, record: Inbound) -> None:
        """Take over the latest word on a campaign; raises BadRecord."""
        name = (record.key or b"").decode(errors="replace")
        self.live.apply(name, None if record.value is None else codec.decode(record.value, Campaign))


@dataclass(slots=True)
class Classify(Work):
    """A lane's work: the stage, its state with its checkpoints, and the counting around it.

    `max_bytes`: for windows and conversations, if the process had this lane alone.
    """

    partition: int
    model: Model
    campaigns: CampaignsView
    locate: Locate
    max_bytes: int
    rival: Model | None = None
    state: State = field(init=False)
    writer: Writer = field(init=False)
    reading: Reading | None = None
    looks: Looks = field(default_factory=Looks)

    def resume(self, metadata: str, lanes: int) -> None:
        self.max_bytes //= lanes
        self.state, self.writer = State.bounded(self.max_bytes), Writer(self.partition)
        mark = Mark.read(metadata)
        if mark is not None:
            self.looks = mark.looks
            self.reading = Reading(mark.generation) if mark.generation else None
        self.state.looks = self.looks

    def metadata(self) -> str:
        return Mark.of(self.writer.whole, self.looks).metadata

    def recalls(self) -> int | None:
        return self.reading.generation - 1 if self.reading else None

    def recall(self, records: Sequence[Inbound]) -> None:
        for record in records:
            if self.reading is not None and record.value is not None:
                try:
                    self.reading.take(codec.decode(record.value, Checkpoint), self.state)
                except BadRecord as bad:
                    event(log, "checkpoint_ignored", logging.ERROR, why=bad.fault.value, offset=record.offset)

    def recalled(self) -> int:
        if self.reading is not None and self.reading.is_whole:
            self.writer.whole = self.reading.generation
            event(log, "state_recalled", partition=self.partition, offset=self.reading.begin)
            return self.reading.begin
        event(log, "state_not_recalled", logging.WARNING, partition=self.partition)
        self.state = State.bounded(self.max_bytes)
        self.state.looks = self.looks
        return 0

    def replay(self, records: Sequence[Inbound]) -> None:
        for record in records:
            self.state.at(record.offset)
            try:
                remember(read(record), self.state)
            except BadRecord:
                continue  # it was dead-lettered when it was first read

    def run(self, records: Sequence[Inbound], now_ms: int) -> list[Output]:
        self.state.go_on()
        # Before the batch: what it reflects is committed by now, whatever becomes of the batch.
        pieces = list(self.writer.due(self.state, records[0].offset, now_ms))
        batch = classify(records, self.state, self.model.scorer, self.campaigns.live.find, self.locate, now_ms)
        self._count(batch)
        if self.rival is not None and self.rival.scorer is not None:
            _compare(batch.scores, self.rival.scorer)
        return batch.outputs + pieces

    def _count(self, batch: Batch) -> None:
        metrics.DUPLICATES.inc(batch.duplicates)
        metrics.WINDOW_SENDERS.labels(str(self.partition)).set(len(self.state.windows))
        for bond, number in Counter(score.bond for score in batch.scores).items():
            metrics.BONDS.labels(bond.value).inc(number)
        text_scores = [score.text_score for score in batch.scores if score.text_score is not None]
        metrics.observe_all(metrics.SCORES, text_scores)
        for fault in batch.faults:
            metrics.DEAD_LETTERS.labels(SERVICE, fault.value).inc()


def _compare(scores: Sequence[Score], rival: Scorer) -> None:
    """Let the shadow model's first look read what the model in use has read, and count how far apart they are."""
    texts, firsts = [], []
    for score in scores:
        if score.first_score is not None:
            texts.append(score.message.text)
            firsts.append(score.first_score)
    found = rival.first(features(texts), len(texts)).tolist()
    apart = [abs(other - first) for other, first in zip(found, firsts, strict=True)]
    metrics.observe_all(metrics.SHADOW_MODEL_DIFFERENCE, apart)


def service(settings: Settings) -> Service:
    """Classify, wired."""
    model, campaigns = Model(ModelFolder(settings.model)), CampaignsView()
    rival = Model(ModelFolder(settings.shadow_model), metrics.SHADOW_MODEL) if settings.shadow_model else None

    def open_lane(partition: int, sender: Sender) -> Classify:
        return Classify(partition, model, campaigns, sender.locate, settings.memory_mb * 1_000_000, rival)

    plan = Plan(
        SERVICE,
        MESSAGES,
        (SCORES, SIGHTINGS, DEAD_LETTER, MEMORY),
        open_lane,
        rebuilds=True,
        recalls=MEMORY,
        views=(View(settings, CAMPAIGNS, tolerant(SERVICE, "campaign", campaigns.apply)),),
        background=tuple(watched.watch for watched in (model, rival) if watched),
        waiting_for=model.missing,
    )
    return Service(plan, settings)


if __name__ == "__main__":
    sys.exit(launch(SERVICE, service, uvloop.run))
