-- mwid: hear of new and refreshed subscriptions at once (SQLite).
--
-- What it does: when a message-summary row of active_watchers is made or refreshed, its id and
-- whose it is are put into the small table mwid_changes. mwid reads the new rows of it ten times
-- a second ([database] watch_poll) and deletes them after some minutes.
--
-- What it costs: one short INSERT, in the same transaction, for each such row that the presence
-- server writes; nothing for rows of other events, nothing when only local_cseq changes. While no
-- mwid runs, nobody empties mwid_changes: take it away with mwid sql --remove when mwid is gone for
-- good. Never drop the table mwid_changes alone: SQLite then refuses the presence server's writes.
--
-- Rights: to write the file and its folder. May be run again at any time.

BEGIN IMMEDIATE;

CREATE TABLE IF NOT EXISTS mwid_changes (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    row_id           INTEGER,
    presentity_uri   TEXT,
    watcher_username TEXT,
    watcher_domain   TEXT,
    at               TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);

DROP TRIGGER IF EXISTS "mwid_insert_active_watchers";
CREATE TRIGGER "mwid_insert_active_watchers" AFTER INSERT ON "active_watchers"
WHEN NEW.event = 'message-summary'
BEGIN
    INSERT INTO mwid_changes (row_id, presentity_uri, watcher_username, watcher_domain)
    VALUES (NEW.id, NEW.presentity_uri, NEW.watcher_username, NEW.watcher_domain);
END;

DROP TRIGGER IF EXISTS "mwid_update_active_watchers";
CREATE TRIGGER "mwid_update_active_watchers" AFTER UPDATE ON "active_watchers"
WHEN NEW.event = 'message-summary'
    AND (NEW.remote_cseq IS NOT OLD.remote_cseq OR NEW.expires IS NOT OLD.expires
         OR NEW.contact IS NOT OLD.contact OR NEW.status IS NOT OLD.status)
BEGIN
    INSERT INTO mwid_changes (row_id, presentity_uri, watcher_username, watcher_domain)
    VALUES (NEW.id, NEW.presentity_uri, NEW.watcher_username, NEW.watcher_domain);
END;

COMMIT;
