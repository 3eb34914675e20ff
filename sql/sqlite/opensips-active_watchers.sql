-- active_watchers (version 12) as OpenSIPS 3.6 keeps it in SQLite: the same columns, types and keys.
-- For tests, and for trying mwid without a presence server; a presence server brings its own.

CREATE TABLE active_watchers (
    id               INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    presentity_uri   CHAR(255) NOT NULL,
    watcher_username CHAR(64) NOT NULL,
    watcher_domain   CHAR(64) NOT NULL,
    to_user          CHAR(64) NOT NULL,
    to_domain        CHAR(64) NOT NULL,
    event            CHAR(64) DEFAULT 'presence' NOT NULL,
    event_id         CHAR(64),
    to_tag           CHAR(64) NOT NULL,
    from_tag         CHAR(64) NOT NULL,
    callid           CHAR(64) NOT NULL,
    local_cseq       INTEGER NOT NULL,
    remote_cseq      INTEGER NOT NULL,
    contact          CHAR(255) NOT NULL,
    record_route     TEXT,
    expires          INTEGER NOT NULL,
    status           INTEGER DEFAULT 2 NOT NULL,
    reason           CHAR(64),
    version          INTEGER DEFAULT 0 NOT NULL,
    socket_info      CHAR(64) NOT NULL,
    local_contact    CHAR(255) NOT NULL,
    sharing_tag      CHAR(32) DEFAULT NULL,
    CONSTRAINT active_watchers_idx UNIQUE (presentity_uri, callid, to_tag, from_tag)
);
