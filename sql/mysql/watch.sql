-- mwid: hear of new and refreshed subscriptions at once (MariaDB, MySQL, Galera).
--
-- What it does: when a message-summary row of active_watchers is made or refreshed, its id and
-- whose it is are put into the small table mwid_changes. mwid reads the new rows of it ten times
-- a second ([database] watch_poll) and deletes them after some minutes.
--
-- What it costs: one short INSERT for each such row that the presence server writes; nothing for
-- rows of other events, nothing when only local_cseq changes. Whatever goes wrong in it, the
-- presence server's own write succeeds. While no mwid runs, nobody empties mwid_changes: take it
-- away with mwid sql --remove when mwid is gone for good.
--
-- Rights: CREATE, SELECT, INSERT and DELETE on mwid_changes; TRIGGER on the table. The triggers run
-- as the user who runs this script: it must not be dropped while they are there. A server with a
-- binary log wants SUPER too, or log_bin_trust_function_creators = 1.
-- May be run again at any time.

CREATE TABLE IF NOT EXISTS mwid_changes (
    id               BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    row_id           BIGINT,
    presentity_uri   VARCHAR(300),
    watcher_username VARCHAR(300),
    watcher_domain   VARCHAR(300),
    at               TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4;

DROP TRIGGER IF EXISTS `mwid_insert_active_watchers`;
DROP TRIGGER IF EXISTS `mwid_update_active_watchers`;

DELIMITER //

CREATE TRIGGER `mwid_insert_active_watchers` AFTER INSERT ON `active_watchers` FOR EACH ROW
BEGIN
    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
    IF NEW.event = 'message-summary' THEN
        INSERT INTO mwid_changes (row_id, presentity_uri, watcher_username, watcher_domain)
        VALUES (NEW.id, NEW.presentity_uri, NEW.watcher_username, NEW.watcher_domain);
    END IF;
END//

CREATE TRIGGER `mwid_update_active_watchers` AFTER UPDATE ON `active_watchers` FOR EACH ROW
BEGIN
    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
    IF NEW.event = 'message-summary'
        AND NOT (NEW.remote_cseq <=> OLD.remote_cseq AND NEW.expires <=> OLD.expires
                 AND NEW.contact <=> OLD.contact AND NEW.status <=> OLD.status) THEN
        INSERT INTO mwid_changes (row_id, presentity_uri, watcher_username, watcher_domain)
        VALUES (NEW.id, NEW.presentity_uri, NEW.watcher_username, NEW.watcher_domain);
    END IF;
END//

DELIMITER ;
