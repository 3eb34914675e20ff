-- Several mwid on one database (PostgreSQL): [spool] scope = own or shared.
--
--   psql opensips -f cluster.sql
--
-- May be run again: what is there is left as it is. The rights that mwid's user needs on these
-- tables stand in user.sql.
--
-- mwid_nodes    who is alive: each mwid writes its row every third of its lease.
-- mwid_counts   what each of them counts; with scope = shared all write as node '*'. The counts of a
--               server that is down stay: its messages are still on its disk.
--               given: 0 counted, 1 given by a call, 2 there and not countable yet: no sum is told.
-- mwid_cluster  one row, the number of the last change: publishing takes it in turns.
--
-- Names hold everything but letters, digits and a few others as %xx. Times are milliseconds of this
-- server's clock. A server that is gone for good is forgotten by
--   DELETE FROM mwid_counts WHERE node = 'vm3'; UPDATE mwid_cluster SET revision = revision - 1;

CREATE TABLE IF NOT EXISTS mwid_nodes (
    node     VARCHAR(64) NOT NULL PRIMARY KEY,
    instance VARCHAR(32) NOT NULL,
    seen     BIGINT      NOT NULL,
    lease    BIGINT      NOT NULL,
    view_id  BIGINT      NOT NULL
);

CREATE TABLE IF NOT EXISTS mwid_counts (
    node         VARCHAR(64)  NOT NULL,
    context      VARCHAR(759) NOT NULL,
    number       VARCHAR(759) NOT NULL,
    new_messages BIGINT       NOT NULL,
    old_messages BIGINT       NOT NULL,
    new_urgent   BIGINT       NOT NULL,
    old_urgent   BIGINT       NOT NULL,
    given        SMALLINT     NOT NULL,
    observed     BIGINT       NOT NULL,
    revision     BIGINT       NOT NULL,
    PRIMARY KEY (node, context, number)
);

CREATE INDEX IF NOT EXISTS mwid_revision ON mwid_counts (revision);

CREATE TABLE IF NOT EXISTS mwid_cluster (
    id       INT    NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL
);

INSERT INTO mwid_cluster (id, revision) VALUES (1, 0) ON CONFLICT DO NOTHING;
