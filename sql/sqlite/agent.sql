-- The table of mwid's own presence agent ([agent] listen) in an SQLite file. mwid makes it by itself
-- when the file or the table is not there.
--
-- The columns are those of OpenSIPS's active_watchers (version 12), with room for longer values.
-- Call-ID and tags name a subscription; expires is where those that have ended are found.
--
-- May be run again: what is there is left as it is.

CREATE TABLE IF NOT EXISTS active_watchers (
    id               INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    presentity_uri   VARCHAR(255) NOT NULL,
    watcher_username VARCHAR(255) NOT NULL,
    watcher_domain   VARCHAR(255) NOT NULL,
    to_user          VARCHAR(255) NOT NULL,
    to_domain        VARCHAR(255) NOT NULL,
    event            VARCHAR(64) DEFAULT 'message-summary' NOT NULL,
    event_id         VARCHAR(255),
    to_tag           VARCHAR(64) NOT NULL,
    from_tag         VARCHAR(255) NOT NULL,
    callid           VARCHAR(255) NOT NULL,
    local_cseq       INTEGER NOT NULL,
    remote_cseq      INTEGER NOT NULL,
    contact          TEXT NOT NULL,
    record_route     TEXT,
    expires          INTEGER NOT NULL,
    status           INTEGER DEFAULT 1 NOT NULL,
    reason           VARCHAR(64),
    version          INTEGER DEFAULT 0 NOT NULL,
    socket_info      VARCHAR(300) NOT NULL,
    local_contact    VARCHAR(300) NOT NULL,
    sharing_tag      VARCHAR(32) DEFAULT NULL
);

CREATE UNIQUE INDEX IF NOT EXISTS mwid_dialog_active_watchers ON active_watchers (callid, to_tag, from_tag);
CREATE INDEX IF NOT EXISTS mwid_account_active_watchers ON active_watchers (presentity_uri, event);
CREATE INDEX IF NOT EXISTS mwid_expires_active_watchers ON active_watchers (expires);
