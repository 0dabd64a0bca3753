"""Reviews as records of `dm.reviews`. Pure."""

from services import codec
from services.records import Output, Review, scoped
from services.topics import REVIEWS


def review_output(review: Review) -> Output:
    """The review as a record: a sender's are in one partition, a campaign's too."""
    if review.sender_id is None and review.campaign_id is not None:
        key = review.campaign_id
    else:
        key = scoped(review.tenant, review.platform, review.sender_id or review.event_id or "")
    return Output(topic=REVIEWS, key=key.encode(), value=codec.encode(review), timestamp_ms=review.reviewed_ms)
