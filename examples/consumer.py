"""An inbox that obeys Doorman: python examples/consumer.py HOST:PORT [TOPIC [GROUP [FILE]]]"""

import asyncio
import json
import sqlite3
import sys

from aiokafka import AIOKafkaConsumer

# A first decision finds no row, one that supersedes replaces the one it names, that of an edit those of what was there
# before, and whatever is repeated does nothing.
OBEY = """INSERT INTO inbox VALUES (?1, ?2, ?3, ?4) ON CONFLICT (message)
          DO UPDATE SET revision = ?2, decision = ?3, held = ?4 WHERE revision < ?2 OR decision = ?5"""
TABLE = "CREATE TABLE IF NOT EXISTS inbox (message TEXT PRIMARY KEY, revision INTEGER, decision TEXT, held INTEGER)"


async def main(kafka: str, topic: str = "dm.decisions", group: str = "inbox", file: str = "inbox.db") -> None:
    inbox = sqlite3.connect(file, isolation_level=None)
    inbox.execute(TABLE)
    options = {"isolation_level": "read_committed", "enable_auto_commit": False, "auto_offset_reset": "earliest"}
    async with AIOKafkaConsumer(topic, bootstrap_servers=kafka, group_id=group, **options) as decisions:
        async for record in decisions:
            told = json.loads(record.value)
            message = json.dumps([told[name] for name in ("tenant", "platform", "event_id")])
            held = told["verdict"] == "quarantine" and told["mode"] == "enforce"  # in shadow everything passes
            inbox.execute(OBEY, (message, told["revision"], told["decision_id"], held, told["supersedes"]))
            await decisions.commit()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
