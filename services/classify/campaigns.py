"""`python -m services.classify.campaigns`: sightings of cold messages become campaigns (Faust)."""

import asyncio
import sys
from collections.abc import Iterable, Sequence

from services import codec, metrics
from services.classify.campaign_window import Campaigns, LiveCampaigns
from services.errors import BadRecord
from services.kafka import View, whole
from services.process import launch
from services.records import Campaign, Inbound, Output, Sightings
from services.settings import Settings
from services.stateplane import StatePlane
from services.topics import CAMPAIGNS, SIGHTINGS

SERVICE = "campaigns"
EXPIRY_SECONDS = 60.0


class CampaignsService:
    """The core, and around it the log that rebuilds it and the topic that is told.

    A process works on the texts whose sightings are in its partitions: `_told` holds what the topic says of those.
    """

    def __init__(self, settings: Settings) -> None:
        self.plane = StatePlane(SERVICE, settings, (CAMPAIGNS,))
        self.plane.agent(SIGHTINGS, self._take)
        self.plane.prepare = self._rebuild
        self.plane.background.append(self._expire)
        self._settings = settings
        self._core, self._told = Campaigns(), LiveCampaigns()
        self._due: dict[str, Campaign] = {}
        self._known: set[int] = set()
        self._high_ms = 0

    async def _take(self, records: Sequence[Inbound]) -> None:
        packs = [codec.decode(record.value, Sightings) for record in records]
        for pack in packs:
            self._sight(pack)
            await asyncio.sleep(0)
        await self._tell()

    def _sight(self, pack: Sightings) -> None:
        for sighting in pack.sightings:
            self._high_ms = max(self._high_ms, sighting.event_ms)
            campaign = self._core.sight(sighting)
            if campaign is not None:
                self._due[campaign.campaign_id] = campaign
        metrics.SIGHTINGS.inc(len(pack.sightings))

    async def _tell(self) -> None:
        """Publish what the topic does not say yet."""
        due = list(self._due.values())
        told = [campaign for campaign in due if self._is_news(campaign)]
        await self.plane.publish([_output(campaign.campaign_id, campaign, self._high_ms) for campaign in told])
        for campaign in told:
            self._told.apply(campaign.campaign_id, campaign)
        for campaign in due:
            if self._due.get(campaign.campaign_id) is campaign:
                del self._due[campaign.campaign_id]
        metrics.CAMPAIGNS.set(len(self._told))

    def _is_news(self, campaign: Campaign) -> bool:
        known = self._told.get(campaign.campaign_id)
        return known is None or campaign.expires_ms > known.expires_ms or campaign.senders > known.senders

    def _is_ours(self, campaign: Campaign) -> bool:
        return self.plane.sender.locate(SIGHTINGS, campaign.key.encode()) in self._known

    async def _rebuild(self, partitions: set[int]) -> None:
        """Read what was told, then the log of the partitions that are new here.

        The log is read to its end, beyond what Faust has committed: what is due by then is told here, or never.
        """
        new = partitions - self._known
        self._known = partitions
        self._told = LiveCampaigns()
        view = View(self._settings, CAMPAIGNS, self._hear)
        try:
            await view.start()
        finally:
            await view.stop()
        try:
            await asyncio.gather(*(self._replay(partition) for partition in new))
        except BaseException:
            self._known = self._known - new
            raise
        await self._tell()

    def _hear(self, record: Inbound) -> None:
        name = (record.key or b"").decode(errors="replace")
        try:
            campaign = None if record.value is None else codec.decode(record.value, Campaign)
        except BadRecord:
            return  # nothing of ours: what is told next takes its place
        if campaign is None or self._is_ours(campaign):
            self._told.apply(name, campaign)

    async def _replay(self, partition: int) -> None:
        async for records in whole(self._settings, SIGHTINGS, partition):
            for pack in _readable(records):
                self._sight(pack)
                await asyncio.sleep(0)

    async def _expire(self) -> None:
        """Take campaigns out of the compacted topic that event time has left behind."""
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            over = self._told.expired(self._high_ms)
            for name in over:
                self._told.apply(name, None)
            metrics.CAMPAIGNS.set(len(self._told))
            await self.plane.publish([_output(name, None, self._high_ms) for name in over])


def _readable(records: Iterable[Inbound]) -> Iterable[Sightings]:
    for record in records:
        try:
            yield codec.decode(record.value, Sightings)
        except BadRecord:
            continue  # it is dead-lettered when Faust comes to it


def _output(name: str, campaign: Campaign | None, timestamp_ms: int) -> Output:
    value = None if campaign is None else codec.encode(campaign)
    return Output(topic=CAMPAIGNS, key=name.encode(), value=value, timestamp_ms=timestamp_ms)


def service(settings: Settings) -> StatePlane:
    """Campaigns, wired."""
    return CampaignsService(settings).plane


if __name__ == "__main__":
    sys.exit(launch(SERVICE, service))
