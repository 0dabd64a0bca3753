"""One database of casebook: how a connection begins, how copies take turns, and the migrations.

SQLite (WAL) for one copy, PostgreSQL for more: what is of one dialect stands here. A database that fails is
Unavailable, and that is told without parameters: they hold text. What it does not take from us is raised as it is.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import create_engine, event, func, inspect, select
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session

from services.action.cases.tables import TurnRow
from services.errors import BadSetup, Unavailable
from services.spans import MINUTE_MS

ATTEMPTS = 3
BUSY_MS = 5_000
# A copy that stands still in the middle of its turn loses it: the server ends its connection.
IDLE_MS = MINUTE_MS
MIGRATIONS = Path(__file__).parent / "migrations"
# Any number of ours: whoever holds it is migrating.
MIGRATING = 6_275_001
# What `create_all` of the first version made is the first migration.
FIRST_TABLE, FIRST = "schema_version", "0001"

T = TypeVar("T")


class Database:
    """Transactions on an URL's database, migrated to what this program needs.

    Raises BadSetup for a URL that cannot be used and a database of a later version.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._reading = self.engine.execution_options(reading=True)
        self._turn: Session | None = None
        try:
            self.transact(lambda session: _migrate(session.connection()))
        except BaseException:
            self.close()
            raise

    @property
    def shared(self) -> bool:
        """Whether other copies may work on it."""
        return self.engine.dialect.name != "sqlite"

    def close(self) -> None:
        self.drop_turn()
        self.engine.dispose()

    def work(self, work: Callable[[Session], T]) -> T:
        """Change cases: copies take turns, so what one rests on another cannot change. SQLite has done that."""

        def in_turn(session: Session) -> T:
            session.execute(select(TurnRow.name).where(TurnRow.name == "work").with_for_update())
            return work(session)

        return self.transact(in_turn)

    def read(self, work: Callable[[Session], T]) -> T:
        """Look, beside whoever writes."""
        return self._transact(self._reading, work)

    def transact(self, work: Callable[[Session], T]) -> T:
        return self._transact(self.engine, work)

    def _transact(self, engine: Engine, work: Callable[[Session], T]) -> T:
        """Run `work` in one transaction; again where it failed: the connection was old, or another copy was faster."""
        for attempt in range(ATTEMPTS):
            try:
                with Session(engine, expire_on_commit=False) as session, session.begin():
                    return work(session)
            except DBAPIError as error:
                if attempt == ATTEMPTS - 1:
                    raise self._failure(error) from None
        raise AssertionError("unreachable")

    def take_turn(self, name: str) -> bool:
        """Hold a turn over several calls; False while another copy holds it. One copy alone has every turn."""
        self.drop_turn()
        if not self.shared:
            return True
        session = Session(self.engine)
        mine = select(TurnRow.name).where(TurnRow.name == name).with_for_update(skip_locked=True)
        try:
            taken = session.scalar(mine) is not None
        except DBAPIError as error:
            session.close()
            raise self._failure(error) from None
        if taken:
            self._turn = session
        else:
            session.close()
        return taken

    def in_turn(self, work: Callable[[Session], None]) -> None:
        """Do the work of a turn, and end it."""
        session, self._turn = self._turn, None
        if session is None:
            self.transact(work)
            return
        try:
            with session:
                work(session)
                session.commit()
        except DBAPIError as error:
            raise self._failure(error) from None

    def drop_turn(self) -> None:
        """End a turn that came to nothing."""
        session, self._turn = self._turn, None
        if session is not None:
            try:
                session.close()
            except DBAPIError:
                session.invalidate()

    def _failure(self, error: DBAPIError) -> Exception:
        """What the caller gets: the error itself where what was to be written is at fault, else Unavailable."""
        if isinstance(error, (DataError, IntegrityError)):
            return error
        kind = type(error.orig).__name__
        if isinstance(error, OperationalError):
            told = str(error.orig).strip().partition("\n")[0].replace(self.engine.url.password or "\0", "***")
        else:
            told = str(getattr(error.orig, "sqlstate", None) or "")
        return Unavailable(f"casebook's database: {kind} {told}".rstrip())


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        server: dict[str, Any] = {"options": f"-c idle_in_transaction_session_timeout={IDLE_MS}"}
        engine = create_engine(parsed, hide_parameters=True, pool_pre_ping=True, connect_args={} if sqlite else server)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise BadSetup(f"DOORMAN_DATABASE cannot be used: {type(error).__name__}; give an SQLAlchemy URL") from None
    if sqlite:
        _make_room(parsed)
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)
    return engine


def _make_room(url: URL) -> None:
    if url.database and url.database != ":memory:":
        try:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadSetup(f"no folder for casebook's database: {error.strerror}; set DOORMAN_STATE") from None


def _set_up(connection: Any, _: object) -> None:
    """The driver would begin by itself, at the first write: after what the write rests on was read."""
    connection.isolation_level = None
    for pragma in (f"busy_timeout={BUSY_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    # What is erased is overwritten.
    connection.execute("PRAGMA secure_delete=ON")


def _begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _migrate(connection: Connection) -> None:
    """Bring the database to what this program needs, in one transaction; copies that start together take turns."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(MIGRATING)))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    tables = inspect(connection).get_table_names()
    try:
        if FIRST_TABLE in tables and "alembic_version" not in tables:
            command.stamp(config, FIRST)
        command.upgrade(config, "head")
    except CommandError as error:
        raise BadSetup(f"casebook's database is of another version of Doorman: {error}") from None
