-- The table of mwid's own presence agent ([agent] listen) on MariaDB and MySQL.
--
--   mysql mwid < agent.sql
--
-- The columns are those of OpenSIPS's active_watchers (version 12), with room for longer values, and
-- compared byte by byte. Call-ID and tags name a subscription; expires is where those that have ended
-- are found.
--
-- May be run again: what is there is left as it is. mwid's user needs all rights on the rows:
--   GRANT SELECT, INSERT, UPDATE, DELETE ON active_watchers TO 'mwid'@'%';

CREATE TABLE IF NOT EXISTS `active_watchers` (
    id               BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL,
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
    local_cseq       BIGINT NOT NULL,
    remote_cseq      BIGINT NOT NULL,
    contact          TEXT NOT NULL,
    record_route     TEXT,
    expires          BIGINT NOT NULL,
    status           INT DEFAULT 1 NOT NULL,
    reason           VARCHAR(64),
    version          INT DEFAULT 0 NOT NULL,
    socket_info      VARCHAR(300) NOT NULL,
    local_contact    VARCHAR(300) NOT NULL,
    sharing_tag      VARCHAR(32) DEFAULT NULL,
    UNIQUE KEY mwid_dialog (callid, to_tag, from_tag),
    KEY mwid_account (presentity_uri, event),
    KEY mwid_expires (expires)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT=DYNAMIC;

-- A table of OpenSIPS that is used instead has neither of these indexes. (CREATE INDEX IF NOT EXISTS is
-- MariaDB's alone.)
SET @mwid = (
    SELECT COUNT(*) FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'active_watchers' AND index_name = 'mwid_dialog'
);
SET @mwid = IF(@mwid = 0,
    'CREATE UNIQUE INDEX mwid_dialog ON active_watchers (callid, to_tag, from_tag)',
    'DO 0');
PREPARE mwid FROM @mwid;
EXECUTE mwid;
DEALLOCATE PREPARE mwid;
SET @mwid = (
    SELECT COUNT(*) FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'active_watchers' AND index_name = 'mwid_expires'
);
SET @mwid = IF(@mwid = 0,
    'CREATE INDEX mwid_expires ON active_watchers (expires)',
    'DO 0');
PREPARE mwid FROM @mwid;
EXECUTE mwid;
DEALLOCATE PREPARE mwid;
