-- active_watchers (version 12) as Kamailio 5.6 keeps it in SQLite: the same columns, types and keys.
-- For tests, and for trying mwid without a presence server; a presence server brings its own.

CREATE TABLE active_watchers (
    id               INTEGER PRIMARY KEY NOT NULL,
    presentity_uri   VARCHAR(255) NOT NULL,
    watcher_username VARCHAR(64) NOT NULL,
    watcher_domain   VARCHAR(64) NOT NULL,
    to_user          VARCHAR(64) NOT NULL,
    to_domain        VARCHAR(64) NOT NULL,
    event            VARCHAR(64) DEFAULT 'presence' NOT NULL,
    event_id         VARCHAR(64),
    to_tag           VARCHAR(128) NOT NULL,
    from_tag         VARCHAR(128) NOT NULL,
    callid           VARCHAR(255) NOT NULL,
    local_cseq       INTEGER NOT NULL,
    remote_cseq      INTEGER NOT NULL,
    contact          VARCHAR(255) NOT NULL,
    record_route     TEXT,
    expires          INTEGER NOT NULL,
    status           INTEGER DEFAULT 2 NOT NULL,
    reason           VARCHAR(64),
    version          INTEGER DEFAULT 0 NOT NULL,
    socket_info      VARCHAR(64) NOT NULL,
    local_contact    VARCHAR(255) NOT NULL,
    from_user        VARCHAR(64) NOT NULL,
    from_domain      VARCHAR(64) NOT NULL,
    updated          INTEGER NOT NULL,
    updated_winfo    INTEGER NOT NULL,
    flags            INTEGER DEFAULT 0 NOT NULL,
    user_agent       VARCHAR(255) DEFAULT '',
    CONSTRAINT active_watchers_idx UNIQUE (callid, to_tag, from_tag)
);

CREATE INDEX active_watchers_expires ON active_watchers (expires);
CREATE INDEX active_watchers_pres ON active_watchers (presentity_uri, event);
CREATE INDEX active_watchers_updated ON active_watchers (updated);
CREATE INDEX active_watchers_updated_winfo ON active_watchers (updated_winfo, presentity_uri);
